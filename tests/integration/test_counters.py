"""What is done is counted when it is settled, exactly, whatever happens (SPEC O-4a)."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import psycopg

from alerts_engine import AlertsEngine, Phase, SourceName, schema
from alerts_engine.statements import folder, load, migration_ids
from tests.chaos.runner_faults import _send_without_lock
from tests.support import ground
from tests.support.counters import counted, there
from tests.support.sending import destination


async def test_every_end_is_counted_with_it(world):
    """Sent, failed, retried, and skipped for each reason, on deliveries and digests."""
    users = world.users(8)
    for channel in ("email", "telegram", "sms"):
        world.alert(users, channel)
    ground.add_digests(world.url, users[:3], "email")
    world.execute("UPDATE users SET email = '' WHERE id = 2")
    world.execute("INSERT INTO user_channel_preferences (user_id, channel, enabled) VALUES (3, 'email', FALSE)")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(4, "email"), status=503, times=1)
    world.fault(destination(5, "telegram"), status=503)
    fields = {"twilio_auth_token": None, "max_attempts": 3}
    for _ in range(3):
        await world.run(fields)
        ground.let_time_pass(world.url, 4000)
    assert {(outcome, retried) for _, _, _, outcome, retried, _ in there(world.url)} == {
        ("sent", False), ("sent", True), ("failed", False), ("failed", True), ("skipped", False),
    }  # fmt: skip
    assert counted(world.url) == there(world.url)


async def test_batching_into_a_digest_is_counted_too(world):
    """A digest delivery ends when its digest takes it (SPEC D-1)."""
    ground.add_deliveries(world.url, world.users(3), "email", "digest")
    await ground.run(ground.settings(world.url, world.sandbox.url), Phase.D)
    assert [(kind, outcome, rows) for (_, _, kind, outcome, *_), rows in counted(world.url).items()] == [
        ("digest", "skipped", 3)
    ]
    assert counted(world.url) == there(world.url)


async def test_two_senders_at_once_count_each_row_once(world):
    """They take turns at nothing, and fold what the other has counted (SPEC O-4a)."""
    world.alert(world.users(60), "email")
    world.fault(destination(1, "email"), status=400)
    configured = ground.settings(world.url, world.sandbox.url, send_concurrency=4)
    await asyncio.gather(*(_send_without_lock(configured, number) for number in range(2)))
    assert world.statuses == {"sent": 59, "failed": 1}
    assert counted(world.url) == there(world.url)


async def test_what_is_pruned_stays_counted(world):
    """It was done, whatever is kept of it (SPEC K-1)."""
    ground.add_digests(world.url, world.users(3), "email")
    world.alert([1, 2, 3], "telegram")
    await world.run()
    before = counted(world.url)
    assert before
    for table in ("user_alert_deliveries", "user_alert_digests"):
        ago = "created_at = now() - interval '90 days', sent_at = sent_at - interval '90 days'"
        world.execute(f"UPDATE {table} SET {ago}")
    ago = "window_start = now() - interval '91 days', window_end = now() - interval '90 days'"
    world.execute(f"UPDATE user_alert_digests SET {ago}")
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        pruned = await engine.prune(timedelta(days=60))
    assert (pruned.digests, pruned.deliveries) == (3, 6)
    assert there(world.url) == {}
    assert counted(world.url) == before


async def test_folding_changes_no_sum_and_leaves_few_rows(world):
    """A row for each hour and outcome; what is old, for each day."""
    world.execute(
        "INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made, undone)"
        " SELECT date_trunc('hour', now()) - make_interval(hours => n % 1200), 'deliveries', 'email', 'instant',"
        " 'sent', FALSE, 1 + n % 3, n % 2 FROM generate_series(1, 5000) AS n"
    )
    sums = "SELECT sum(made)::int8 AS made, sum(undone)::int8 AS undone FROM alerts_engine_outcomes"
    before = world.execute(sums)
    for _ in range(2):
        await world.run()
        assert world.execute(sums) == before
    spans = dict(world.execute("SELECT span, count(*) FROM alerts_engine_outcomes GROUP BY span"))
    assert spans.keys() == {"hour", "day"}
    assert 34 * 24 <= spans["hour"] <= 36 * 24
    assert 14 <= spans["day"] <= 17


def test_folders_at_once_lose_nothing(world):
    """Each takes what the other has not locked; sums are the same at every moment."""
    add = (
        "INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)"
        " SELECT date_trunc('hour', now()), 'deliveries', 'email', 'instant', 'sent', FALSE, 1"
        " FROM generate_series(1, 200)"
    )
    text = load("phase_c_send")["fold_outcomes"].text.replace("$1", "'2000-01-01'")
    total = "SELECT sum(made)::int8 FROM alerts_engine_outcomes"
    world.execute(add)
    with psycopg.connect(world.url) as one, psycopg.connect(world.url) as other:
        one.execute(text)
        world.execute(add)
        other.execute(text)
        assert world.execute(total)[0][0] == 400
        other.commit()
        assert world.execute(total)[0][0] == 400
        one.commit()
    assert world.execute(total)[0][0] == 400


ENDS_ROWS = re.compile(r"\bstatus = (?:'(?:sent|failed|skipped)'|o\.status|CASE)")


def test_every_statement_that_ends_rows_counts_them():
    """Whoever writes a new one sees here that it has to (SPEC O-4a)."""
    updates = {
        name: source.text
        for file in sorted(folder("sql").glob("*.sql"))
        for name, source in load(file.stem).items()
        if re.search(r"UPDATE (?:/\* TABLE \*/ )?user_alert_(?:deliveries|digests)\b", source.text)
    }
    ending = {name for name, text in updates.items() if any(ENDS_ROWS.search(part) for part in text.split("SET ")[1:])}
    assert {"settle_deliveries", "resolve_digests", "build_digests", "skip_unconfigured_digests"} <= ending
    assert {name for name in ending if "INSERT INTO alerts_engine_outcomes" not in updates[name]} == set()


async def test_a_database_with_a_past_gets_its_last_days_counted(world):
    """Once, and as its rows say; what had failed can be taken up (SPEC O-4, O-5)."""
    users = world.users(9)
    world.alert(users, "email")
    ground.add_digests(world.url, users[:2], "email")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(2, "email"), status=503)
    await world.run({"max_attempts": 1})
    world.execute(
        "UPDATE user_alert_deliveries SET sent_at = sent_at - make_interval(hours => 40 * id::int)"
        " WHERE status = 'sent'"
    )
    later = [name for name in migration_ids() if name >= "0020"]
    schema.rollback(world.url, len(later))
    assert schema.apply(world.url) == later
    expected = (
        "SELECT status, count(*)::int8 FROM user_alert_deliveries WHERE delivery_kind = 'instant'"
        " AND coalesce(sent_at, created_at) >= now() - interval '8 days' GROUP BY status"
    )
    counts = (
        "SELECT outcome, sum(made)::int8 FROM alerts_engine_outcomes WHERE source = 'deliveries' AND kind = 'instant'"
        " GROUP BY outcome"
    )
    assert dict(world.execute(counts)) == dict(world.execute(expected)) != {}
    timeless = "SELECT FROM user_alert_deliveries WHERE status = 'failed' AND ended_at IS NULL"
    assert world.execute(timeless) == []
    before = world.execute("SELECT count(*) FROM alerts_engine_outcomes")[0][0]
    world.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0022%'")
    schema.apply(world.url)
    assert world.execute("SELECT count(*) FROM alerts_engine_outcomes")[0][0] == before
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        assert (await engine.retry_failed(SourceName.DELIVERIES, 24, reset_attempts=True)).count == 1
        assert (await engine.health()).deliveries["24h"]["email"]["instant"].failed == 1


async def test_what_a_bundle_takes_is_counted_too(world):
    """Each alert that goes into it ends with it (SPEC D-7)."""
    ground.add_deliveries(world.url, world.users(2), "email", every_alert=True)
    await ground.run(ground.settings(world.url, world.sandbox.url, bundle_from=3), Phase.D)
    assert [(kind, outcome) for _, _, kind, outcome, *_ in counted(world.url)] == [("instant", "skipped")]
    assert counted(world.url) == there(world.url)
