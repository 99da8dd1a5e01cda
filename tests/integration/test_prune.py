"""What pruning ends, and what it must leave (SPEC K-1)."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.errors import SettingsError
from alerts_engine.settings import Variables
from alerts_engine.statements import load
from tests.conftest import url_of
from tests.support import ground

if TYPE_CHECKING:
    from pathlib import Path

    from alerts_engine.operations.prune import Pruned

DAYS = timedelta(days=1)
GROWING = (
    "user_alert_deliveries", "user_alert_digests", "user_alert_digest_items", "alert_events", "alerts_engine_runs",
)  # fmt: skip
FILL = """
INSERT INTO users (email) SELECT 'user' || n || '@example.com' FROM generate_series(1, 3) AS n;
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint, created_at,
                          fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 4, 'Old', '', 'old ' || n, 'old ' || n, now() - interval '100 days',
       now() - interval '100 days'
  FROM generate_series(1, 2) AS n;
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at, created_at, quota_day)
SELECT u.id, e.id, 'email', 'sent', now() - interval '100 days', now() - interval '100 days',
       (now() - interval '100 days')::date
  FROM users AS u, alert_events AS e;
"""
"""Two events of a hundred days ago and their six deliveries, all finished."""
ITEM = """
INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end, digest_key, status, sent_at,
                                created_at)
VALUES (1, 'email', 'daily', now() - interval '101 days', now() - interval '100 days', 'd', {status}, {sent_at},
        now() - interval '101 days');
INSERT INTO user_alert_digest_items (digest_id, delivery_id) SELECT 1, 1;
UPDATE user_alert_deliveries SET status = 'skipped', sent_at = NULL, delivery_kind = 'digest' WHERE id = 1;
"""
SENDING = """
UPDATE user_alert_deliveries
   SET status = 'sending', sent_at = NULL, claimed_by = 'x', lease_expires_at = now() - interval '99 days'
 WHERE id = 1
"""
LONG_COOLDOWN = """
INSERT INTO user_alert_prefs (user_id, enabled, cooldown_minutes, alert_type, region)
SELECT user_id, FALSE, 101 * 24 * 60, 'HIGH_IMPACT_EVENT', 'global' FROM user_alert_deliveries WHERE id = 1;
DELETE FROM user_alert_deliveries
 WHERE user_id = (SELECT user_id FROM user_alert_deliveries WHERE id = 1) AND id <> 1
"""


async def prune(url: str, days: int = 90, *, dry_run: bool = False, **settings: object) -> Pruned:
    async with AlertsEngine(Settings(_variables=Variables(), database_url=url, **settings)) as engine:
        return await engine.prune(days * DAYS, dry_run=dry_run)


def ids(connection: psycopg.Connection, table: str) -> set[int]:
    rows = connection.execute(f"SELECT id FROM {table}").fetchall()  # type: ignore[arg-type]
    connection.rollback()
    return {row[0] for row in rows}


def done(connection: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement)  # type: ignore[arg-type]
    connection.commit()


async def test_what_is_finished_and_old_goes(postgresql: psycopg.Connection, database_url: str):
    """Deliveries, then their events; a digest with its items; runs with their phases; nothing that is younger."""
    done(postgresql, FILL, ITEM.format(status="'sent'", sent_at="now() - interval '99 days'"))
    done(
        postgresql,
        "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at, status, dry_run)"
        " SELECT gen_random_uuid(), 'local', 'a', now() - n * interval '1 day', now() - n * interval '1 day', s, FALSE"
        "   FROM unnest(ARRAY[100, 100, 80], ARRAY['success', 'running', 'success']) AS r (n, s)",
        "INSERT INTO alerts_engine_run_items (run_id, phase, started_at, status)"
        " SELECT run_id, 'a', started_at, 'success' FROM alerts_engine_runs",
    )
    pruned = await prune(database_url)
    assert (pruned.deliveries, pruned.events, pruned.digests, pruned.runs) == (6, 2, 1, 1)
    assert not ids(postgresql, "user_alert_deliveries") | ids(postgresql, "alert_events")
    assert ids(postgresql, "alerts_engine_runs") == {2, 3}
    assert postgresql.execute("SELECT count(*) FROM alerts_engine_run_items").fetchone() == (2,)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE user_alert_deliveries SET status = 'queued', sent_at = NULL WHERE id = 1",
        "UPDATE user_alert_deliveries SET status = 'queued', sent_at = NULL, next_retry_at = 'infinity' WHERE id = 1",
        SENDING,
        "UPDATE user_alert_deliveries SET sent_at = now() - interval '80 days' WHERE id = 1",
        "UPDATE user_alert_deliveries SET created_at = now() - interval '80 days' WHERE id = 1",
        "UPDATE user_alert_deliveries SET channel = 'account' WHERE id = 1",
        ITEM.format(status="'queued'", sent_at="NULL"),
        ITEM.format(status="'sent'", sent_at="now() - interval '80 days'"),
        ITEM.format(status="'failed'", sent_at="NULL") + "UPDATE user_alert_digests SET window_end = now()",
        LONG_COOLDOWN,
    ],
    ids=[
        "queued", "held", "sending", "sent lately", "young", "in-app feed", "open digest", "young digest",
        "window open", "cooldown",
    ],
)  # fmt: skip
async def test_what_is_needed_stays(postgresql: psycopg.Connection, database_url: str, change: str):
    """That delivery and its event; all the others go."""
    done(postgresql, FILL, change)
    event = postgresql.execute("SELECT alert_event_id FROM user_alert_deliveries WHERE id = 1").fetchone()
    await prune(database_url)
    assert ids(postgresql, "user_alert_deliveries") == {1}
    assert event is not None
    assert ids(postgresql, "alert_events") == {event[0]}


async def test_an_event_that_is_not_fanned_out_keeps_its_deliveries(postgresql: psycopg.Connection, database_url: str):
    """They keep a fan-out that goes on from delivering again (B-3)."""
    done(postgresql, FILL, "UPDATE alert_events SET fanout_completed_at = NULL WHERE id = 1")
    assert (await prune(database_url)).deliveries == 3
    assert ids(postgresql, "alert_events") == {1}


async def test_what_a_rule_would_create_again_stays(postgresql: psycopg.Connection, database_url: str, tmp_path: Path):
    """A source that is still fresh, and a fingerprint without a day: after the prune no event is new (A-3)."""
    done(
        postgresql,
        FILL,
        "INSERT INTO events (title, region, severity_score, inserted_at) VALUES ('Fresh', 'Europe', 5, now())",
    )
    (tmp_path / "for_ever.sql").write_text(
        "SELECT 'X' AS alert_type, NULL::text AS scope_region, '{}'::text[] AS scope_assets, 3 AS severity,"
        " 'Ever' AS headline, '' AS body, '{}'::int4[] AS driver_event_ids, NULL::text AS cooldown_key,"
        " 'for ever' AS event_fingerprint, '{}'::jsonb AS payload"
    )
    settings = Settings(_variables=Variables(), database_url=database_url, rules_dir=tmp_path)
    async with AlertsEngine(settings) as engine:
        await engine.run(Phase.A)
        done(
            postgresql,
            "UPDATE alert_events SET created_at = now() - interval '100 days',"
            " fanout_completed_at = now() - interval '100 days'",
        )
        pruned = await engine.prune(90 * DAYS)
        assert (pruned.events, len(ids(postgresql, "alert_events"))) == (2, 2)
        again = await engine.run(Phase.A)
    assert again.phases[0].counts["events_created"] == 0


async def test_a_rule_that_cannot_say_keeps_every_event(
    postgresql: psycopg.Connection, database_url: str, tmp_path: Path
):
    """With a warning; the rest goes (A-5)."""
    done(postgresql, FILL)
    (tmp_path / "broken.sql").write_text("SELECT 1 AS nonsense")
    pruned = await prune(database_url, rules_dir=tmp_path)
    assert (pruned.events, pruned.deliveries) == (0, 6)
    assert "broken.sql" in pruned.warnings[0]


async def test_a_dry_run_counts_the_same_and_changes_nothing(postgresql: psycopg.Connection, database_url: str):
    """The real statements, rolled back (X-1)."""
    done(postgresql, FILL, ITEM.format(status="'sent'", sent_at="now() - interval '99 days'"))
    dry = await prune(database_url, dry_run=True)
    assert (len(ids(postgresql, "user_alert_deliveries")), len(ids(postgresql, "user_alert_digests"))) == (6, 1)
    real = await prune(database_url)
    assert (dry.deliveries, dry.digests, dry.events) == (real.deliveries, real.digests, real.events) == (6, 1, 2)


async def test_nobody_is_waited_for(postgresql: psycopg.Connection, database_url: str):
    """A row that somebody has locked is passed over, and goes the next time."""
    done(postgresql, FILL)
    with closing(psycopg.connect(url_of(postgresql))) as other:
        other.execute("SELECT FROM user_alert_deliveries WHERE id = 2 FOR UPDATE")
        assert (await prune(database_url)).deliveries == 5
    again = await prune(database_url)
    assert (again.deliveries, again.events) == (1, 1)


async def test_a_batch_that_takes_too_long_is_made_smaller(postgresql: psycopg.Connection, database_url: str):
    """It gives up after a second, and the rows go in smaller ones."""
    done(
        postgresql,
        FILL,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN OLD; END $$",
        "CREATE TRIGGER slow BEFORE DELETE ON user_alert_deliveries FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    pruned = await prune(database_url)
    assert (pruned.deliveries, pruned.events) == (6, 2)


async def test_it_stops_when_asked_and_goes_on_the_next_time(postgresql: psycopg.Connection, database_url: str):
    """Between two batches; what is deleted stays so (CLI-7)."""
    done(postgresql, FILL, "INSERT INTO users (email) SELECT 'u' || n FROM generate_series(1, 3000) AS n")
    done(
        postgresql,
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at, created_at)"
        " SELECT u.id, 1, 'email', 'sent', now() - interval '99 days', now() - interval '99 days' FROM users AS u"
        "     ON CONFLICT DO NOTHING",
    )
    stopping = asyncio.Event()

    def stop(label: str, number: int, total: int | None, /) -> None:
        if label == "deliveries":
            stopping.set()

    settings = Settings(_variables=Variables(), database_url=database_url)
    async with AlertsEngine(settings, progress=stop) as engine:
        first = await engine.prune(90 * DAYS, stopping=stopping)
    assert first.stopped
    assert 0 < first.deliveries < 3006
    second = await prune(database_url)
    assert (second.stopped, first.deliveries + second.deliveries, second.events) == (False, 3006, 2)


async def test_todays_quota_is_counted_as_before(postgresql: psycopg.Connection, database_url: str):
    """What is used of a day, and the row that says so, stay (B-7)."""
    done(
        postgresql,
        FILL,
        "UPDATE user_alert_deliveries SET created_at = now(), sent_at = now(), quota_day = now()::date WHERE id = 1",
        "INSERT INTO user_alert_quotas (user_id, channel, quota_day, made, counted_at)"
        " SELECT id, 'email', now()::date, 1, now() FROM users",
    )
    before = postgresql.execute("SELECT array_agg(q ORDER BY user_id) FROM user_alert_quotas AS q").fetchone()
    await prune(database_url, days=7)
    assert ids(postgresql, "user_alert_deliveries") == {1}
    assert postgresql.execute("SELECT array_agg(q ORDER BY user_id) FROM user_alert_quotas AS q").fetchone() == before


@pytest.mark.parametrize("days", [0, 6, 40_000])
async def test_an_age_out_of_range_is_refused(database_url: str, days: int):
    with pytest.raises(SettingsError, match="older_than"):
        await prune(database_url, days=days)


def test_every_batch_is_found_by_an_index(database_url: str):
    """However long the history: each looks at the next rows by id, and no table is read from end to end."""
    users = ground.add_users(database_url, 500)
    ground.add_deliveries(database_url, users, "email")
    ground.add_digests(database_url, users, "email")
    with closing(ground.connect(database_url)) as db:
        db.execute(
            "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status, dry_run)"
            " SELECT gen_random_uuid(), 'local', 'a', now(), 'success', FALSE FROM generate_series(1, 3000)"
        )
        db.execute(
            "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at)"
            " SELECT u.id, e.id, 'sms', 'sent', now() FROM users AS u, alert_events AS e ON CONFLICT DO NOTHING"
        )
        db.execute(
            "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)"
            " SELECT 'X', 4, 'Old', '', n::text, n::text FROM generate_series(1, 3000) AS n"
        )
        db.execute(
            "INSERT INTO user_alert_digests"
            " (user_id, channel, period, window_start, window_end, digest_key, status, sent_at)"
            " SELECT u.id, 'email', 'daily', now() - make_interval(days => n), now(), u.id || '/' || n, 'sent', now()"
            "   FROM users AS u, generate_series(1, 12) AS n"
        )
        db.execute("VACUUM ANALYZE")
        for name, source in load("prune").items():
            plan = "\n".join(row[0] for row in db.execute(f"EXPLAIN (GENERIC_PLAN) {source.text}"))
            for table in (
                "user_alert_deliveries",
                "user_alert_digests",
                "alerts_engine_runs",
                "user_alert_digest_items",
            ):
                assert f"Seq Scan on {table}" not in plan, f"{name}\n{plan}"
