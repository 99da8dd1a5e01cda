"""Phase locks: one runner at a time, always given back, and noticed when their connection dies (SPEC section 13)."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from alerts_engine import AlertsEngine, Phase
from alerts_engine.locks import PHASE_KEYS
from alerts_engine.reports import to_json
from tests.support.world import (
    NOW,
    add_digest_delivery,
    add_event,
    add_news,
    add_user,
    prepared,
    run,
    run_phase,
    settings,
)

if TYPE_CHECKING:
    import psycopg

RULE = """
SELECT '{name}' AS alert_type, NULL AS scope_region, '{{}}'::text[] AS scope_assets, 4 AS severity, 'x' AS headline,
       NULL AS body, '{{}}'::int[] AS driver_event_ids, NULL AS cooldown_key, '{name}' AS event_fingerprint,
       NULL::jsonb AS payload
 WHERE $1::timestamptz IS NOT NULL"""
KILL = "pg_terminate_backend(pid, 20000)"
HOLDERS = (
    "pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND (classid::int8 << 32 | objid::int8) IN ({', '.join(str(key) for key in PHASE_KEYS.values())})"
)
LOST = "the phase lock's connection died: another runner may have taken over, so this one stops"


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def key_of(phase: str) -> int:
    """As documented: the first eight bytes of the SHA-256 of the lock's name, big-endian, signed."""
    return int.from_bytes(sha256(f"alerts_v2_phase_{phase}".encode()).digest()[:8], "big", signed=True)


def is_free(db: psycopg.Connection, phase: str) -> bool:
    free = db.execute("SELECT pg_try_advisory_lock(%s) AS free", [key_of(phase)]).fetchone().free
    db.execute("SELECT pg_advisory_unlock(%s)", [key_of(phase)])
    return free


def kill_the_lock_on(db: psycopg.Connection, happening: str) -> None:
    """Let ``happening`` (as in CREATE TRIGGER) end the connection that holds the phase's lock."""
    db.execute(
        f"CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN PERFORM {KILL} FROM {HOLDERS}; RETURN NULL; END $$"
    )
    db.execute(f"CREATE TRIGGER kill AFTER {happening} FOR EACH STATEMENT EXECUTE FUNCTION kill()")


@pytest.mark.parametrize("phase", ["a", "b", "c", "d"])
async def test_a_phase_whose_lock_is_held_is_skipped(db, database_url, phase):
    """The others run, and the run is no failure (SPEC L-1, CLI-4)."""
    db.execute("SELECT pg_advisory_lock(%s)", [key_of(phase)])
    report = await run(database_url, Phase.ALL)
    assert report.status == "success"
    assert {one.phase: one.status for one in report.phases} == dict.fromkeys("abdc", "success") | {phase: "skipped"}
    (skipped,) = (one for one in to_json(report)["phases"] if one["status"] == "skipped")
    assert (skipped["locked"], skipped["skipped"], skipped["reason"]) == (False, True, "lock_not_acquired")
    assert (skipped["counts"], skipped["error"]) == ({}, None)


async def test_a_run_of_which_nothing_ran_is_skipped(db, database_url):
    """And does nothing (SPEC L-1)."""
    add_news(db)
    db.execute("SELECT pg_advisory_lock(%s)", [key_of("a")])
    report = await run(database_url, Phase.A)
    assert report.status == "skipped"
    assert db.execute("SELECT FROM alert_events").rowcount == 0
    db.execute("SELECT pg_advisory_unlock_all()")
    assert (await run(database_url, Phase.A)).status == "success"
    assert db.execute("SELECT FROM alert_events").rowcount == 1


async def test_the_lock_is_held_while_the_phase_works(db, database_url, tmp_path):
    """By a connection that does nothing else (SPEC L-1)."""
    watch = f"EXISTS (SELECT FROM {HOLDERS} AND (classid::int8 << 32 | objid::int8) = {key_of('a')})"
    (tmp_path / "watch.sql").write_text(f"{RULE.format(name='held')} AND {watch}")
    report = await run_phase(database_url, Phase.A, fields={"rules_dir": tmp_path})
    assert report.counts["by_rule"]["watch"]["created"] == 1
    assert is_free(db, "a")


async def test_a_failed_phase_gives_its_lock_back(db, database_url, tmp_path):
    """While the engine stays open (SPEC L-1)."""
    (tmp_path / "broken.sql").write_text("SELECT broken")
    add_user(db)
    add_event(db)
    db.execute("ALTER TABLE user_alert_deliveries ADD CONSTRAINT breaks CHECK (user_id < 0)")
    async with AlertsEngine(settings(database_url, rules_dir=tmp_path)) as engine:
        report = await engine.run(Phase.ALL, now=NOW)
        assert [one.phase for one in report.phases if one.status == "failed"] == ["a", "b"]
        assert all(is_free(db, phase) for phase in "abcd")


async def test_a_cancelled_phase_gives_its_lock_back(db, database_url):
    """Also when it was waiting for the database (SPEC L-1)."""
    add_user(db)
    add_event(db)
    waiting = "SELECT FROM pg_locks WHERE relation = 'user_alert_deliveries'::regclass AND NOT granted"
    async with AlertsEngine(settings(database_url)) as engine:
        with db.transaction():
            db.execute("LOCK TABLE user_alert_deliveries")
            running = asyncio.create_task(engine.run(Phase.B, now=NOW))
            async with asyncio.timeout(20):
                while not db.execute(waiting).rowcount:  # noqa: ASYNC110 - it is the database that knows
                    await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert is_free(db, "b")
    assert db.execute("SELECT status FROM alerts_engine_runs").fetchone().status == "failed"


async def test_phase_a_stops_when_its_lock_is_lost(db, database_url, tmp_path):
    """No further rule runs; what was found is kept; the next phases have locks of their own (SPEC L-2)."""
    news = add_news(db)
    (tmp_path / "kill.sql").write_text(f"{RULE.format(name='kill')} AND (SELECT bool_and({KILL}) FROM {HOLDERS})")
    (tmp_path / "later.sql").write_text(RULE.format(name="later"))
    report = await run(database_url, Phase.ALL, fields={"rules_dir": tmp_path})
    assert [(one.phase, one.status, one.error) for one in report.phases] == [
        ("a", "failed", LOST), ("b", "success", None), ("d", "success", None), ("c", "success", None),
    ]  # fmt: skip
    found = {row.event_fingerprint for row in db.execute("SELECT event_fingerprint FROM alert_events")}
    assert found == {f"HIGH_IMPACT_EVENT:{news}", "kill"}
    assert is_free(db, "a")


async def test_a_lock_that_is_lost_in_the_last_step_is_reported(db, database_url, tmp_path):
    """Another runner may have worked at the same time (SPEC L-2)."""
    (tmp_path / "kill.sql").write_text(f"{RULE.format(name='kill')} AND (SELECT bool_and({KILL}) FROM {HOLDERS})")
    report = await run_phase(database_url, Phase.A, fields={"rules_dir": tmp_path})
    assert (report.status, report.error) == ("failed", LOST)


async def test_phase_b_stops_at_the_page_when_its_lock_is_lost(db, database_url, monkeypatch):
    """The two pages that were begun count, and the next run goes on (SPEC L-2, B-2)."""
    monkeypatch.setattr("alerts_engine.phases.group.LARGEST_PAGE", 2)
    monkeypatch.setattr("alerts_engine.phases.group.SMALLEST_PAGE", 2)
    users = [add_user(db) for _ in range(5)]
    add_event(db)
    kill_the_lock_on(db, "INSERT ON user_alert_deliveries")
    report = await run_phase(database_url, Phase.B)
    assert (report.status, report.error) == ("failed", LOST)
    assert report.counts["deliveries_created"] == 4
    made = db.execute("SELECT user_id FROM user_alert_deliveries ORDER BY user_id")
    assert [row.user_id for row in made] == users[:4]
    db.execute("DROP TRIGGER kill ON user_alert_deliveries")
    assert (await run_phase(database_url, Phase.B)).counts["deliveries_created"] == 1


async def test_a_lock_that_phase_b_loses_in_its_last_page_is_reported(db, database_url):
    """The page stands, and the report says that another runner may have worked at the same time (SPEC L-2)."""
    add_user(db)
    add_event(db)
    kill_the_lock_on(db, "INSERT ON user_alert_deliveries")
    report = await run_phase(database_url, Phase.B)
    assert (report.status, report.error) == ("failed", LOST)
    assert report.counts["deliveries_created"] == 1


async def test_phase_d_stops_at_the_batch_when_its_lock_is_lost(db, database_url, monkeypatch):
    """What is committed counts, and the next run goes on (SPEC L-2)."""
    monkeypatch.setattr("alerts_engine.phases.build_digests.BATCH", 1)
    user = add_user(db)
    for _ in range(3):
        add_digest_delivery(db, user)
    kill_the_lock_on(db, "INSERT ON user_alert_digest_items")
    report = await run_phase(database_url, Phase.D)
    assert (report.status, report.error) == ("failed", LOST)
    assert report.counts["digest_items_attached"] == 1
    db.execute("DROP TRIGGER kill ON user_alert_digest_items")
    assert (await run_phase(database_url, Phase.D)).counts["digest_items_attached"] == 2
