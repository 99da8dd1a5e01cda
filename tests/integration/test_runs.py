"""The run history: what it keeps, and that it never stops a run (SPEC O-1, O-2)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from alerts_engine import AlertsEngine, Phase
from alerts_engine import history as history_writer
from alerts_engine.database import connect
from alerts_engine.errors import AlertsEngineError, NotFoundError, SchemaError, SettingsError
from alerts_engine.locks import PHASE_KEYS
from alerts_engine.operations.runs import newest_runs, recorded_run
from tests.support import ground
from tests.support.world import NOW, add_event, add_news, prepared, run, settings

if TYPE_CHECKING:
    from tests.support.sending import World


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def history(db: psycopg.Connection) -> list:
    return db.execute("SELECT * FROM alerts_engine_runs ORDER BY id").fetchall()


async def test_a_run_is_kept_with_its_phases(db, database_url):
    """As it was reported, in the database's own time (SPEC O-1, C-14)."""
    add_news(db)
    began = db.execute("SELECT clock_timestamp() AS now").fetchone().now
    report = await run(database_url, Phase.ALL, fields={"github_sha": "abc123"})
    ended = db.execute("SELECT clock_timestamp() AS now").fetchone().now
    (kept,) = history(db)
    assert kept.run_id == UUID(report.run_id)
    assert (kept.triggered_by, kept.phase, kept.status, kept.git_sha, kept.dry_run, kept.error_summary) == (
        "local", "all", "success", "abc123", False, None,
    )  # fmt: skip
    assert began <= kept.started_at <= kept.finished_at <= ended
    assert kept.duration_ms == report.duration_ms
    reported = {one.phase: json.loads(json.dumps(one.counts, default=vars)) for one in report.phases}
    assert kept.counts == reported | {"warnings": list(report.warnings)}
    items = db.execute("SELECT * FROM alerts_engine_run_items ORDER BY id").fetchall()
    assert [(item.run_id, item.phase, item.status) for item in items] == [
        (kept.run_id, phase, "success") for phase in "abdc"
    ]
    assert {item.phase: item.counts for item in items} == reported
    assert all(kept.started_at <= item.started_at <= item.finished_at <= kept.finished_at for item in items)


@pytest.mark.parametrize(
    ("fields", "triggered_by"),
    [
        ({}, "local"),
        ({"github_event_name": "schedule"}, "local"),
        ({"github_actions": True, "github_event_name": "schedule"}, "github_actions_schedule"),
        ({"github_actions": True, "github_event_name": "workflow_dispatch"}, "github_actions_manual"),
    ],
)
async def test_the_history_says_who_started_the_run(db, database_url, fields, triggered_by):
    """A schedule, somebody at GitHub, or somebody here (SPEC O-1)."""
    report = await run(database_url, Phase.D, fields=fields)
    assert report.triggered_by == history(db)[0].triggered_by == triggered_by


async def test_errors_are_kept_up_to_2000_characters(db, database_url, tmp_path):
    """Of the run and of the phase (SPEC O-1)."""
    for number in range(100):
        (tmp_path / f"broken_{number}.sql").write_text("SELECT broken")
    report = await run(database_url, Phase.A, fields={"rules_dir": tmp_path})
    assert len(report.error) > 2000
    (kept,) = history(db)
    (item,) = db.execute("SELECT * FROM alerts_engine_run_items").fetchall()
    assert (kept.status, item.status) == ("failed", "failed")
    assert kept.error_summary == report.error[:2000]
    assert item.error_summary == report.phases[0].error[:2000]


async def test_a_stopped_run_is_closed(db, database_url):
    """Nothing more is begun, and the record says why (SPEC CLI-7)."""
    stopping = asyncio.Event()
    stopping.set()
    async with AlertsEngine(settings(database_url)) as engine:
        report = await engine.run(Phase.ALL, now=NOW, stopping=stopping)
    assert (report.status, report.phases) == ("failed", ())
    (kept,) = history(db)
    assert (kept.status, kept.error_summary) == ("failed", "stopped by a signal")


async def test_a_stop_ends_the_run_under_way_and_not_those_after_it(db, database_url):
    """``request_stop`` before a run and after one changes nothing; during one it ends that one (SPEC I-3)."""
    add_event(db)
    statuses = []
    async with AlertsEngine(settings(database_url), progress=lambda *_: engine.request_stop()) as engine:
        engine.request_stop()
        statuses.append((await engine.run(Phase.A, now=NOW)).status)
        statuses.append((await engine.run(Phase.B, now=NOW)).status)
        statuses.append((await engine.run(Phase.A, now=NOW)).status)
    assert statuses == ["success", "failed", "success"]


async def test_an_engine_can_be_opened_again(world: World):
    """It sends through transports of its own each time, and asks nothing of a pool that is closed (SPEC I-3)."""
    engine = AlertsEngine(ground.settings(world.url, world.sandbox.url))
    for number in (1, 2):
        world.alert(world.users(1))
        async with engine:
            assert (await engine.run(Phase.C)).status == "success"
        assert world.statuses == {"sent": number}
    with pytest.raises(AlertsEngineError, match="not open"):
        await engine.run(Phase.C)


async def test_a_run_that_a_bug_ends_is_closed_with_its_kind(db, database_url):
    """The kind of the error alone: its text may hold what must not be kept (SPEC O-1, O-3)."""
    add_event(db)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("very.private@example.com")

    async with AlertsEngine(settings(database_url), progress=broken) as engine:
        with pytest.raises(ZeroDivisionError):
            await engine.run(Phase.B, now=NOW)
    (kept,) = history(db)
    assert (kept.status, kept.error_summary) == ("failed", "unexpected ZeroDivisionError")


async def test_a_disabled_engine_leaves_no_trace(db, database_url):
    """ALERTS_V2_ENABLED is not true: one log line, nothing else (SPEC CLI-2)."""
    add_news(db)
    with capture_logs() as logs:
        report = await run(database_url, Phase.ALL, fields={"enabled": False})
    assert (report.status, report.phases) == ("skipped", ())
    assert [line["event"] for line in logs] == ["engine_disabled"]
    assert history(db) == []
    assert db.execute("SELECT FROM alert_events").rowcount == 0


@pytest.mark.parametrize("table", ["alerts_engine_runs", "alerts_engine_run_items"])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_run_goes_on_when_its_history_cannot_be_written(db, database_url, table, dry_run):
    """With a warning and nothing else (SPEC O-2)."""
    add_news(db)
    db.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    with capture_logs() as logs:
        report = await run(database_url, Phase.ALL, dry_run=dry_run)
    assert report.status == "success"
    assert [one.counts.get("events_created") for one in report.phases] == [1, None, None, None]
    assert {line["event"] for line in logs if line["log_level"] == "warning"} == {"history_not_written"}
    assert not [line for line in logs if line["log_level"] == "error"]


async def test_a_run_is_seen_while_it_runs(db, database_url):
    """Since when, on which host, in which process, and which phase it holds (SPEC O-6)."""
    add_event(db)
    seen = []

    def look(*_: object) -> None:
        seen.append(db.execute("SELECT status, host, pid, at_phase FROM alerts_engine_runs").fetchone())

    async with AlertsEngine(settings(database_url), progress=look) as engine:
        await engine.run(Phase.ALL, now=NOW)
    assert seen[0] == ("running", socket.gethostname(), os.getpid(), "b")
    (kept,) = history(db)
    assert (kept.status, kept.host, kept.pid, kept.at_phase) == ("success", socket.gethostname(), os.getpid(), None)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """History waits for half a second, not for ten."""
    for name in ("open_run", "enter_phase", "record_phase", "close_run", "close_interrupted"):
        made = getattr(history_writer, name)
        monkeypatch.setattr(history_writer, name, replace(made, definition=replace(made.definition, limit_seconds=0.5)))


@pytest.mark.parametrize("table", ["alerts_engine_runs", "alerts_engine_run_items"])
async def test_a_history_that_somebody_has_locked_is_waited_for_a_few_times(db, database_url, table, monkeypatch):
    """Then the run goes on without it, so that its alerts are not late (SPEC O-2)."""
    impatient(monkeypatch)
    add_news(db)
    with psycopg.connect(database_url) as other, capture_logs() as logs:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        report = await run(database_url, Phase.ALL)
        other.rollback()
    assert report.status == "success"
    waits = [line["what"] for line in logs if line["event"] == "history_not_written"]
    assert 2 <= len(waits) <= 3
    assert {line["event"] for line in logs if line["log_level"] == "warning"} == {"history_not_written"}


@pytest.mark.parametrize("table", ["alerts_engine_runs", "alerts_engine_run_items"])
async def test_a_history_whose_writing_fails_half_way_stops_nothing(db, database_url, table):
    """A trigger of somebody's that raises, as a full disk would: the later writes are tried all the same (SPEC O-2)."""
    add_news(db)
    db.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.phase IN ('b', 'all') THEN RAISE EXCEPTION 'the quota is full'; END IF; RETURN NEW; END $$"
    )
    db.execute(f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    with capture_logs() as logs:
        report = await run(database_url, Phase.ALL)
    assert (report.status, [one.status for one in report.phases]) == ("success", ["success"] * 4)
    assert {line["event"] for line in logs if line["log_level"] == "warning"} == {"history_not_written"}
    if table == "alerts_engine_run_items":
        items = db.execute("SELECT phase FROM alerts_engine_run_items ORDER BY id").fetchall()
        assert [item.phase for item in items] == ["a", "d", "c"]


def leave_running(db: psycopg.Connection, phase: str, started_at: datetime) -> UUID:
    """A run whose process is gone."""
    run_id = uuid4()
    db.execute(
        "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status)"
        " VALUES (%s, 'local', %s, %s, 'running')",
        [run_id, phase, started_at],
    )
    return run_id


async def test_a_run_whose_process_is_gone_is_closed(db, database_url):
    """Once a lease has passed and nobody holds a lock of its phases (SPEC O-2)."""
    now = datetime.now(UTC)
    lease = timedelta(seconds=300)
    old = {phase: leave_running(db, phase, now - lease - timedelta(seconds=60)) for phase in ("a", "b", "all")}
    young = leave_running(db, "a", now - lease + timedelta(seconds=60))
    key = "('x' || left(encode(sha256('alerts_v2_phase_b'), 'hex'), 16))::bit(64)::int8"
    db.execute(f"SELECT pg_advisory_lock({key})")
    await run(database_url, Phase.A)
    states = {row.run_id: (row.status, row.error_summary) for row in history(db)}
    running, interrupted = ("running", None), ("failed", "interrupted")
    assert states[young] == running
    # Somebody is in phase B: a run of it, or of all.
    assert [states[old[phase]] for phase in ("a", "b", "all")] == [interrupted, running, running]
    db.execute("SELECT pg_advisory_unlock_all()")
    await run(database_url, Phase.A)
    states = {row.run_id: (row.status, row.error_summary) for row in history(db)}
    assert [states[old[phase]] for phase in ("b", "all")] == [interrupted, interrupted]
    assert states[young] == running
    assert all(row.finished_at is not None for row in history(db) if row.run_id != young)


async def test_runs_are_read_back_newest_first(db, database_url):
    """And one by one, with their phases; an unknown one is an error that says so (SPEC O-1, P-1)."""
    reports = [await run(database_url, phase) for phase in (Phase.A, Phase.B, Phase.ALL)]
    async with connect(database_url) as database:
        newest = await newest_runs(database, 2)
        one = await recorded_run(database, UUID(reports[2].run_id))
        with pytest.raises(NotFoundError, match="there is no run"):
            await recorded_run(database, uuid4())
    assert [str(each.run_id) for each in newest] == [reports[2].run_id, reports[1].run_id]
    assert one == newest[0]
    assert [item.phase for item in one.items] == ["a", "b", "d", "c"]


async def test_what_a_run_warned_of_is_in_its_report_and_its_record(db, database_url):
    """Nobody could get anything, and nothing could be sent: the run succeeds all the same (SPEC CLI-6c)."""
    add_event(db)
    report = await run(database_url, Phase.ALL)
    assert report.status == "success"
    nobody, no_channel = report.warnings
    assert "there was no user" in nobody
    assert no_channel.startswith("no channel is configured")
    async with connect(database_url) as database:
        kept = await recorded_run(database, UUID(report.run_id))
    assert kept.warnings == report.warnings
    assert (await run(database_url, Phase.A)).warnings == ()
    assert (await run(database_url, Phase.C, dry_run=True)).warnings == (no_channel,)


async def test_a_held_lock_is_a_warning(db, database_url):
    """The phase that was left out is named (SPEC CLI-6c, L-1)."""
    db.execute("SELECT pg_advisory_lock(%s)", [PHASE_KEYS[Phase.D]])
    report = await run(database_url, Phase.D)
    (warning,) = report.warnings
    assert warning.startswith("phase d was skipped")
    assert history(db)[0].counts == {"d": {}, "warnings": [warning]}


async def test_a_killed_run_keeps_what_its_phases_did(db, database_url):
    """Its own row has no counts; the phases that had ended have (SPEC O-2, O-6)."""
    run_id = leave_running(db, "all", datetime.now(UTC))
    db.execute(
        "INSERT INTO alerts_engine_run_items (run_id, phase, status, counts) VALUES (%s, 'a', 'success', %s)",
        [run_id, json.dumps({"events_created": 3})],
    )
    async with connect(database_url) as database:
        (killed,) = await newest_runs(database, 1)
    assert (killed.run_id, killed.counts, killed.warnings) == (run_id, {}, ())
    assert [(item.phase, item.counts) for item in killed.items] == [("a", {"events_created": 3})]


async def test_a_database_that_is_not_migrated_is_an_error(db, database_url):
    """Before anything is begun (SPEC DB-2)."""
    db.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0007%'")
    with pytest.raises(SchemaError, match=r"1 migration.* pending \(0007"):
        await run(database_url, Phase.A)
    assert history(db) == []


async def test_a_moment_to_replay_needs_a_zone(database_url):
    """A naive one would be read as whose? (SPEC CLI)."""
    with pytest.raises(SettingsError, match="now must have a time zone"):
        await run(database_url, Phase.A, now=NOW.replace(tzinfo=None))
