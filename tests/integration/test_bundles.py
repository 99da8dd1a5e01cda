"""Bundles (SPEC D-7): instant alerts that crowd upon one user go as one message, and each in exactly one."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.commands.tables.explain import explanation_tables
from alerts_engine.database import connect
from alerts_engine.errors import NotFoundError
from alerts_engine.operations.explain import explain
from alerts_engine.operations.preview import delivery_preview
from alerts_engine.phases.build_bundles import build_batch_of_bundles, build_bundles, crowded_deliveries
from alerts_engine.phases.context import PhaseContext
from alerts_engine.sandbox import Fault, Sandbox
from alerts_engine.settings import PlanQuota
from tests.support import ground
from tests.support.world import (
    HOUR,
    NOW,
    add_delivery,
    add_event,
    add_user,
    prepared,
    run,
    run_phase,
    settings,
    switch_channel,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def crowd(db: psycopg.Connection, user: int, *severities: int, channel: str = "email") -> list[int]:
    """A due instant delivery for each of these severities."""
    events = [add_event(db, severity=severity, fanned_out=True) for severity in severities]
    return [add_delivery(db, user, event, channel) for event in events]


def bundles(db: psycopg.Connection) -> dict[str, set[int]]:
    rows = db.execute(
        "SELECT g.digest_key, array_agg(i.delivery_id) AS items FROM user_alert_digests AS g"
        " JOIN user_alert_digest_items AS i ON i.digest_id = g.id WHERE g.period = 'burst' GROUP BY g.digest_key"
    )
    return {row.digest_key: set(row.items) for row in rows}


async def build(url: str, bundle_from: int = 2, *, keep: int = 5, **fields: Any) -> dict[str, Any]:
    fields |= {"bundle_from": bundle_from, "bundle_keep_severity": keep}
    report = await run_phase(url, Phase.D, fields=fields)
    assert report.error is None
    return report.counts


# --- which go together ----------------------------------------------------------------------------------------------


async def test_more_than_so_many_for_one_user_and_channel_are_one_message(db, database_url):
    """Due at once, with a key of its first delivery; the most severe stay single (SPEC D-7)."""
    user = add_user(db)
    one, two, severe, three = crowd(db, user, 3, 4, 5, 3)
    counts = await build(database_url, 3)
    assert bundles(db) == {f"{user}:email:burst:{one}": {one, two, three}}
    assert (counts["bundles_created"], counts["deliveries_bundled"]) == (1, 3)
    assert (counts["digests_created"], counts["digest_items_attached"]) == (0, 0)
    (digest,) = db.execute("SELECT * FROM user_alert_digests").fetchall()
    assert (digest.status, digest.next_retry_at, digest.created_at) == ("queued", None, NOW)
    rows = {row.id: (row.status, row.last_error) for row in db.execute("SELECT * FROM user_alert_deliveries")}
    assert rows.pop(severe) == ("queued", None)
    assert set(rows.values()) == {("skipped", "batched_into_digest")}
    again = await build(database_url, 3)
    assert (again["bundles_created"], len(bundles(db))) == (0, 1)


@pytest.mark.parametrize(
    ("given", "severities", "bundled"),
    [((0, 5), (3, 3, 3), 0), ((3, 5), (3, 3, 3), 0), ((2, 5), (3, 3, 3), 3), ((2, 4), (3, 4, 4), 0),
     ((1, 6), (5, 5), 2),
     ((2, 5), (5, 5, 3, 3), 2), ((2, 1), (1, 1, 1), 0)],
)  # fmt: skip
async def test_the_settings_say_when_and_which(db, database_url, given, severities, bundled):
    """0 is never; at the border nothing happens; one alone is no bundle (SPEC D-7)."""
    crowd(db, add_user(db), *severities)
    counts = await build(database_url, given[0], keep=given[1])
    assert counts["deliveries_bundled"] == bundled


async def test_users_and_channels_are_not_mixed(db, database_url):
    """And a channel without digests has no bundles (SPEC D-7, B-6)."""
    ada, bob = add_user(db), add_user(db)
    first = crowd(db, ada, 3, 3, 3)
    second = crowd(db, ada, 3, 3, 3, channel="telegram")
    crowd(db, bob, 3, 3)
    crowd(db, bob, 3, 3, 3, 3, channel="sms")
    crowd(db, bob, 3, 3, 3, 3, channel="account")
    await build(database_url)
    assert bundles(db) == {
        f"{ada}:email:burst:{first[0]}": set(first), f"{ada}:telegram:burst:{second[0]}": set(second),
    }  # fmt: skip


UNFIT = {
    "tried": "attempts = 1, next_retry_at = '2025-11-10', last_error = 'a_code'",
    "key used": "key_used_at = '2025-11-10', next_retry_at = '2025-11-10'",
    "uncertain": "uncertain_since = '2025-11-10', next_retry_at = '2025-11-10'",
    "not due": "next_retry_at = '2099-01-01'",
    "claimed": "status = 'sending', claimed_by = 'another run', lease_expires_at = '2099-01-01'",
    "sent": "status = 'sent', sent_at = '2025-11-10'",
    "failed": "status = 'failed', failure_kind = 'permanent'",
}


@pytest.mark.parametrize("state", UNFIT)
async def test_what_was_tried_or_waits_stays_as_it_is(db, database_url, state):
    """Neither bundled nor counted: what was tried once must not change (SPEC D-7, C-12)."""
    user = add_user(db)
    unfit, *others = crowd(db, user, 3, 3, 3)
    db.execute(f"UPDATE user_alert_deliveries SET {UNFIT[state]} WHERE id = %s", [unfit])
    assert (await build(database_url))["bundles_created"] == 0
    await build(database_url, 1)
    assert list(bundles(db).values()) == [set(others)]


async def test_one_that_became_due_belongs_to_the_crowd(db, database_url):
    """Its time has come, and it was never tried (SPEC D-7)."""
    ids = crowd(db, add_user(db), 3, 3, 3)
    db.execute("UPDATE user_alert_deliveries SET next_retry_at = %s WHERE id = %s", [NOW - HOUR, ids[0]])
    await build(database_url)
    assert list(bundles(db).values()) == [set(ids)]


async def test_paused_channels_and_users_outside_the_allowlist_wait_as_they_are(db, database_url):
    """Their rows stay queued, untouched (SPEC C-15, section 4)."""
    ada, bob = add_user(db), add_user(db)
    crowd(db, ada, 3, 3, 3)
    crowd(db, ada, 3, 3, 3, channel="telegram")
    mine = crowd(db, bob, 3, 3, 3)
    await build(database_url, channels_paused="telegram", send_allowlist_user_ids=str(bob))
    assert list(bundles(db).values()) == [set(mine)]


async def test_what_a_sender_claims_meanwhile_is_his(db, database_url):
    """Two that are left are still a bundle; one that is left goes alone (SPEC D-7)."""
    ada, bob = add_user(db), add_user(db)
    crowds = crowd(db, ada, 3, 3, 3), crowd(db, bob, 3, 3)
    async with connect(database_url) as database:
        with closing(ground.connect(database_url)) as sender, sender.transaction():
            held = [crowds[0][1], crowds[1][0]]
            sender.execute("SELECT FROM user_alert_deliveries WHERE id = ANY (%s) FOR UPDATE", [held])
            context = PhaseContext(database, settings(database_url, bundle_from=1), "a run", NOW)
            assert await build_bundles(context) == (1, 2)
    assert bundles(db) == {f"{ada}:email:burst:{crowds[0][0]}": {crowds[0][0], crowds[0][2]}}


async def test_a_user_who_is_being_deleted_holds_up_nobody(db, database_url):
    """And gets no bundle (SPEC D-7, C-5)."""
    ada, bob = add_user(db), add_user(db)
    crowd(db, ada, 3, 3, 3)
    mine = crowd(db, bob, 3, 3, 3)
    async with connect(database_url) as database:
        with closing(ground.connect(database_url)) as application, application.transaction():
            application.execute("DELETE FROM users WHERE id = %s", [ada])
            context = PhaseContext(database, settings(database_url, bundle_from=2), "a run", NOW)
            assert await build_bundles(context) == (1, 3)
    assert list(bundles(db).values()) == [set(mine)]


async def test_runners_side_by_side_bundle_each_alert_once(db, database_url):
    """Four without the phase lock (SPEC D-7, L-2)."""
    users = [add_user(db) for _ in range(30)]
    ids = {user: set(crowd(db, user, 3, 3, 3, 3)) for user in users}
    async with AsyncExitStack() as stack:
        contexts = [
            PhaseContext(
                await stack.enter_async_context(connect(database_url)), settings(database_url, bundle_from=3),
                f"run {number}", NOW,
            )
            for number in range(4)
        ]  # fmt: skip
        made = await asyncio.gather(*map(build_bundles, contexts))
    assert sum(deliveries for _, deliveries in made) + len(_queued(db)) == 120
    inside = [item for items in bundles(db).values() for item in items]
    assert len(inside) == len(set(inside))
    assert all(items <= ids[int(key.split(":")[0])] for key, items in bundles(db).items())


def _queued(db: psycopg.Connection) -> list[int]:
    return [row.id for row in db.execute("SELECT id FROM user_alert_deliveries WHERE status = 'queued'")]


# --- quotas, explain, preview, dry run ------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
async def test_quotas_count_the_alerts_of_a_bundle(db, database_url, kept):
    """Not its one message, whether the count of the day is kept or looked up (SPEC D-7, B-7)."""
    user = add_user(db, "pro")
    fields = {"plan_quotas": {"pro": PlanQuota(email=4, digests=1, alert_types=("ALL",))}, "bundle_from": 2}
    for _ in range(3):
        add_event(db, severity=3)
    await run(database_url, Phase.B, fields=fields)
    await run(database_url, Phase.D, fields=fields)
    assert [len(items) for items in bundles(db).values()] == [3]
    if not kept:
        db.execute("DELETE FROM user_alert_quotas")
    for _ in range(3):
        add_event(db, severity=3)
    report = await run_phase(database_url, Phase.B, fields=fields)
    assert (report.counts["deliveries_created"], report.counts["deliveries_skipped_quota"]) == (1, 2)
    assert db.execute("SELECT count(*) AS n FROM user_alert_deliveries WHERE user_id = %s", [user]).fetchone().n == 4


async def test_explain_and_preview_name_the_bundle(db, database_url):
    """An alert that went into one has no message of its own (SPEC D-7, B-9)."""
    user = add_user(db, "pro")
    first, *_ = crowd(db, user, 3, 3, 3)
    event = db.execute("SELECT alert_event_id FROM user_alert_deliveries WHERE id = %s", [first]).fetchone()[0]
    await build(database_url)
    (bundle,) = [row.id for row in db.execute("SELECT id FROM user_alert_digests")]
    async with connect(database_url) as database:
        (found,) = await explain(database, settings(database_url), user_id=user, event_id=event, now=NOW)
        with pytest.raises(NotFoundError, match=f"is part of digest {bundle} and has no message of its own"):
            await delivery_preview(database, first)
    (delivery,) = [one for decision in found.decisions for one in decision.deliveries]
    assert (delivery.digest_id, delivery.digest_key) == (bundle, f"{user}:email:burst:{first}")
    (since,) = [row[3] for table in explanation_tables(found) for row in table.rows if row[0] == "email"]
    assert since == f"bundle {bundle}: queued"


async def test_a_dry_run_shows_bundles_and_makes_none(db, database_url):
    """What it would make, and that they would be sent (SPEC D-7, X-1)."""
    crowd(db, add_user(db), 3, 3, 3, 5)
    fields = {"bundle_from": 2, "brevo_api_key": "key", "email_from": "a@b.c"}
    report = await run(database_url, Phase.ALL, dry_run=True, fields=fields)
    phases = {phase.phase: phase.counts for phase in report.phases}
    assert (phases["d"]["bundles_created"], phases["d"]["deliveries_bundled"]) == (1, 3)
    would = phases["c"]["would_send"]["email"]
    assert (would["deliveries"]["count"], would["digests"]["count"]) == (1, 1)
    assert bundles(db) == {}


# --- what it costs --------------------------------------------------------------------------------------------------


async def test_without_bundles_nothing_is_asked(db, database_url):
    """The default costs no statement (SPEC D-7)."""
    async with connect(database_url) as database:
        context = PhaseContext(database, settings(database_url), "a run", NOW)
    assert await build_bundles(context) == (0, 0)  # of a database that is closed


async def test_what_is_done_is_not_read(db, database_url):
    """What finding crowds and building bundles cost follows what is due (SPEC D-7, section 16)."""
    user, event = add_user(db), add_event(db, fanned_out=True)
    db.execute(
        "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)"
        " SELECT 'X', 3, 'Old', '', 'old ' || i, 'old ' || i FROM generate_series(1, 30000) AS i"
    )
    db.execute(
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at, created_at)"
        " SELECT %s, id, 'email', 'sent', now(), now() FROM alert_events WHERE id > %s",
        [user, event],
    )
    ids = crowd(db, user, 3, 3, 3)
    db.execute("VACUUM ANALYZE")
    orders = {
        crowded_deliveries: {
            "now": NOW, "bundle_from": 2, "keep_severity": 5, "channels": ["email"], "allowlist": None, "most": 100,
        },
        build_batch_of_bundles: {"now": NOW, "ids": ids},
    }  # fmt: skip
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC"})
    for statement, values in orders.items():
        definition = statement.definition
        (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) {definition.text}", *definition.bind(values))
        scans = re.findall(r'"Node Type": "Seq Scan",[^{}]*?"Relation Name": "(\w+)"', row[0])
        assert set(scans) & {"user_alert_deliveries", "alert_events"} == set(), definition.name
    await connection.close()


# --- each alert in exactly one message ------------------------------------------------------------------------------


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as running:
        yield running


async def test_a_bundle_is_one_email_that_says_how_many_and_the_worst(db, database_url, sandbox):
    """In the run that would have sent them one by one (SPEC D-7)."""
    user = add_user(db, "pro")
    crowd(db, user, 3, 4, 3, 5)
    async with AlertsEngine(ground.settings(database_url, sandbox.url, bundle_from=3)) as engine:
        report = await engine.run(Phase.ALL)
    assert report.status == "success"
    subjects = sorted(message.subject for message in sandbox.messages)
    assert subjects == ["3 alerts, 1 high: Headline", "[Critical] Europe: Headline"]


async def test_a_bundle_for_a_channel_that_was_switched_off_is_skipped(db, database_url, sandbox):
    """As each of its alerts would have been (SPEC C-10)."""
    user = add_user(db, "pro")
    crowd(db, user, 3, 4, 3)
    switch_channel(db, user, "email", enabled=False)
    async with AlertsEngine(ground.settings(database_url, sandbox.url, bundle_from=2)) as engine:
        await engine.run(Phase.ALL)
    assert len(sandbox.messages) == 0
    (digest,) = db.execute("SELECT status, last_error FROM user_alert_digests").fetchall()
    assert tuple(digest) == ("skipped", "channel_disabled")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("alerts"), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), max_size=3)),
        st.tuples(st.just("run"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("two runners"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("kill"), st.integers(0, 3), st.floats(0, 0.05)),
        st.tuples(st.just("fault"), st.sampled_from([(503,), (429,)]), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@hypothesis_settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_each_alert_is_in_exactly_one_message(database_url: str, steps: list[Any]):
    """Over any sequence of runs, kills, refusals and settings (SPEC D-7)."""
    asyncio.run(_play(database_url, steps))


async def _play(url: str, steps: list[Any]) -> None:
    with closing(ground.connect(url)) as db:
        db.execute("TRUNCATE users, alert_events, alerts_engine_runs CASCADE")
        users = {number: add_user(db, "enterprise") for number in (1, 2, 3)}
        told: Counter[tuple[str, str]] = Counter()
        async with Sandbox.start() as sandbox:
            for step in [*steps, ("run", 1, 5)]:
                told += _add(db, users, step[1]) if step[0] == "alerts" else Counter()
                await _take(step, url, sandbox)
            sandbox.faults.clear()
            await ground.drain(ground.settings(url, sandbox.url), sandbox)
            got = Counter(
                (message.destination, word)
                for message in sandbox.messages
                for word in set(message.text.split())
                if word.startswith("alert-no-")
            )
    assert got == told


def _add(db: Any, users: dict[int, int], alerts: list[tuple[int, int]]) -> Counter[tuple[str, str]]:
    told: Counter[tuple[str, str]] = Counter()
    for user, severity in alerts:
        event = add_event(db, severity=severity, fanned_out=True)
        db.execute("UPDATE alert_events SET headline = %s, body = '' WHERE id = %s", [f"alert-no-{event}", event])
        add_delivery(db, users[user], event)
        address = db.execute("SELECT email FROM users WHERE id = %s", [users[user]]).fetchone()[0]
        told[address, f"alert-no-{event}"] += 1
    return told


async def _take(step: Any, url: str, sandbox: Sandbox) -> None:
    match step:
        case ("run", bundle_from, keep):
            await _run(_with(url, sandbox, bundle_from, keep))
        case ("two runners", bundle_from, keep):
            await asyncio.gather(
                _run(_with(url, sandbox, bundle_from, keep), Phase.D), _run(_with(url, sandbox, 1, keep), Phase.C),
                _run(_with(url, sandbox, bundle_from, keep)),
            )  # fmt: skip
        case ("kill", bundle_from, seconds):
            task = asyncio.create_task(_run(_with(url, sandbox, bundle_from, 5)))
            await asyncio.wait([task], timeout=seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        case ("fault", (status,), times):
            sandbox.faults.add(Fault(provider="brevo", status=status, times=times))


def _with(url: str, sandbox: Sandbox, bundle_from: int, keep: int) -> Settings:
    return ground.settings(url, sandbox.url, bundle_from=bundle_from, bundle_keep_severity=keep, max_attempts=50)


async def _run(configured: Settings, phase: Phase = Phase.ALL) -> None:
    async with AlertsEngine(configured) as engine:
        await engine.run(phase)
