"""A run ends in time: between pages and batches, and where a statement waits or runs for ever (SPEC CLI-7)."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from alerts_engine import AlertsEngine, Phase
from alerts_engine.database import connect
from alerts_engine.locks import FAN_OUT_KEYS
from alerts_engine.phases.build_digests import DigestCounts, build_digests
from alerts_engine.phases.context import PhaseContext
from alerts_engine.phases.fan_out import FanOutCounts, fan_out
from tests.support.world import (
    NOW,
    add_digest_delivery,
    add_event,
    add_news,
    add_user,
    prepared,
    run_phase,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from alerts_engine import RunReport

CONNECTED = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'alerts-engine'"
"""In this test's own database: the server is shared with the tests that run beside."""
OURS = f"SELECT {CONNECTED} AND state <> 'idle'"
HANGS = f"{OURS} AND (wait_event_type = 'Lock' OR wait_event = 'PgSleep')"
RULE = """
SELECT 'SLOW' AS alert_type, NULL AS scope_region, '{}'::text[] AS scope_assets, 4 AS severity, 'x' AS headline,
       NULL AS body, '{}'::int[] AS driver_event_ids, NULL AS cooldown_key, 'slow' AS event_fingerprint,
       NULL::jsonb AS payload
  FROM pg_sleep(50)"""


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


# --- in the middle of a statement -------------------------------------------------------------------------------------


@contextmanager
def in_a_rule(_db: psycopg.Connection, rules: Path) -> Iterator[tuple[Phase, str]]:
    """A rule that runs on and on."""
    (rules / "slow.sql").write_text(RULE)
    yield Phase.A, "the rule"


@contextmanager
def in_an_insert(db: psycopg.Connection, _rules: Path) -> Iterator[tuple[Phase, str]]:
    """An application that holds the events' table."""
    add_news(db)
    with db.transaction():
        db.execute("LOCK TABLE alert_events IN SHARE MODE")
        yield Phase.A, "insert_events"


@contextmanager
def at_the_fan_outs_lock(db: psycopg.Connection, _rules: Path) -> Iterator[tuple[Phase, str]]:
    """Another fan-out that does not end."""
    add_event(db)
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", [FAN_OUT_KEYS[0]])
        yield Phase.B, "begin_page"


@contextmanager
def in_a_page(db: psycopg.Connection, _rules: Path) -> Iterator[tuple[Phase, str]]:
    """A page that takes for ever."""
    add_user(db)
    add_event(db)
    db.execute(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(50); RETURN NULL; END'"
    )
    db.execute("CREATE TRIGGER sleep AFTER INSERT ON user_alert_deliveries EXECUTE FUNCTION sleep()")
    yield Phase.B, "fan_out_page"


@contextmanager
def in_a_batch(db: psycopg.Connection, _rules: Path) -> Iterator[tuple[Phase, str]]:
    """An application that holds the digests' table."""
    add_digest_delivery(db, add_user(db))
    with db.transaction():
        db.execute("LOCK TABLE user_alert_digests IN SHARE MODE")
        yield Phase.D, "build_digests"


@contextmanager
def in_a_reclaim(db: psycopg.Connection, _rules: Path) -> Iterator[tuple[Phase, str]]:
    """An application that holds the deliveries' table."""
    with db.transaction():
        db.execute("LOCK TABLE user_alert_deliveries IN SHARE MODE")
        yield Phase.C, "reclaim_deliveries"


PLACES = [in_a_rule, in_an_insert, at_the_fan_outs_lock, in_a_page, in_a_batch, in_a_reclaim]
CASES = [(place, dry_run) for place in PLACES for dry_run in (False, True) if not (place is in_a_reclaim and dry_run)]


@pytest.mark.parametrize(("place", "dry_run"), CASES)
async def test_a_statement_that_hangs_is_cancelled_after_the_shutdown_time(
    db: psycopg.Connection, database_url: str, tmp_path: Path, *, place: Any, dry_run: bool
):
    """The error names it, the record is closed, and nothing goes on in the server (SPEC CLI-7)."""
    with place(db, tmp_path) as (phase, statement):
        report = await _stopped(database_url, phase, rules_dir=tmp_path, dry_run=dry_run)
    (ended,) = report.phases
    assert report.status == "failed"
    assert ended.error.startswith(f"broken off in {statement}, ")
    assert "a signal came (ALERTS_SHUTDOWN_SECONDS)" in ended.error
    (kept,) = db.execute("SELECT * FROM alerts_engine_runs").fetchall()
    assert (kept.status, kept.finished_at is not None) == ("failed", True)
    assert kept.error_summary == f"phase {phase}: {ended.error}"


@pytest.fixture(autouse=True)
def _tidied_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts_engine.run._TIDY_UP_SECONDS", 0.1)


async def _stopped(url: str, phase: Phase, *, dry_run: bool, **fields: Any) -> RunReport:
    """The report of a run that is told to stop as soon as it hangs."""
    stopping = asyncio.Event()
    async with AlertsEngine(settings(url, shutdown_seconds=0.2, **fields)) as engine:
        running = asyncio.create_task(engine.run(phase, now=NOW, stopping=stopping, dry_run=dry_run))
        with psycopg.connect(url, autocommit=True) as observer:
            async with asyncio.timeout(30):
                while not observer.execute(HANGS).rowcount:  # noqa: ASYNC110 - the database knows
                    await asyncio.sleep(0.01)
            stopping.set()
            report = await running
            assert observer.execute(OURS).rowcount == 0
    return report


@pytest.mark.slow
async def test_a_server_that_answers_nothing_keeps_nobody_waiting(
    db: psycopg.Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its processes are stopped, so not even a cancelled statement ends; new ones close the record (SPEC CLI-7)."""
    gives_back = ("database.pool.GIVE_BACK_TIMEOUT_SECONDS", "database.lending.GIVE_BACK_TIMEOUT_SECONDS")
    for patience in (*gives_back, "phases.end_in_time._CLEAN_UP_SECONDS"):
        monkeypatch.setattr(f"alerts_engine.{patience}", 0.5)
    stopping, stopped = asyncio.Event(), []
    with in_a_page(db, tmp_path):
        async with AlertsEngine(settings(database_url, shutdown_seconds=0.2)) as engine:
            running = asyncio.create_task(engine.run(Phase.B, now=NOW, stopping=stopping))
            async with asyncio.timeout(30):
                while not db.execute(HANGS).rowcount:  # noqa: ASYNC110 - the database knows
                    await asyncio.sleep(0.01)
            try:
                for row in db.execute(f"SELECT pid {CONNECTED}"):
                    os.kill(row.pid, signal.SIGSTOP)
                    stopped.append(row.pid)
                stopping.set()
                async with asyncio.timeout(60):
                    report = await running
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
    assert len(stopped) == 2
    assert report.error.startswith("phase b: broken off in fan_out_page, ")
    (kept,) = db.execute("SELECT * FROM alerts_engine_runs").fetchall()
    assert (kept.status, kept.finished_at is not None) == ("failed", True)


async def test_a_statement_that_hangs_is_cancelled_after_the_runs_time(db: psycopg.Connection, database_url: str):
    """Without any signal (SPEC CLI-7)."""
    fields = {"max_run_seconds": 0.5, "shutdown_seconds": 0.2}
    add_event(db)
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", [FAN_OUT_KEYS[0]])
        report = await run_phase(database_url, Phase.B, fields=fields)
    assert report.error.startswith("broken off in begin_page, 0.2 s after ALERTS_MAX_RUN_SECONDS were over")


# --- between pages and batches ----------------------------------------------------------------------------------------


def _over(context: PhaseContext) -> None:
    object.__setattr__(context, "deadline", 0.0)


def _signalled(context: PhaseContext) -> None:
    context.stopping.set()


ENDS = [(_over, "max_run_seconds"), (_signalled, "signal")]


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_the_fan_out_ends_between_pages(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, end: Callable, reason: str
):
    """What is done stands, the counts say why, and the next run goes on (SPEC B-2)."""
    for limit in ("SMALLEST_PAGE", "LARGEST_PAGE"):
        monkeypatch.setattr(f"alerts_engine.phases.group.{limit}", 2)
    for _ in range(9):
        add_user(db)
    add_event(db)
    made = []
    for _ in range(3):
        counts = FanOutCounts()
        async with connect(database_url) as database:
            context = PhaseContext(
                database,
                settings(database_url),
                "run",
                NOW,
                progress=lambda *_: end(context),  # noqa: B023
            )
            await fan_out(context, counts)
        assert (counts.stopped_early, counts.stop_reason) == (True, reason)
        made.append(counts.deliveries_created)
    assert made == [4, 4, 1]
    assert db.execute("SELECT FROM alert_events WHERE fanout_completed_at IS NULL").rowcount == 0


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_building_digests_ends_between_batches(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, end: Callable, reason: str
):
    """What is done stands, the counts say why, and the next run goes on (SPEC D-6)."""
    monkeypatch.setattr("alerts_engine.phases.build_digests.BATCH", 2)
    for _ in range(5):
        add_digest_delivery(db, add_user(db))
    made = []
    for _ in range(3):
        counts = DigestCounts()
        async with connect(database_url) as database:
            context = PhaseContext(
                database,
                settings(database_url),
                "run",
                NOW,
                progress=lambda *_: end(context),  # noqa: B023
            )
            await build_digests(context, counts)
        assert (counts.stopped_early, counts.stop_reason) == (True, reason)
        made.append(counts.digest_items_attached)
    assert made == [2, 2, 1]


async def test_a_run_whose_time_is_over_begins_no_phases_work(db: psycopg.Connection, database_url: str):
    """Each phase says so; the run is no failure, as the next one goes on (SPEC C-15)."""
    add_news(db)
    add_event(db)
    add_user(db)
    add_digest_delivery(db, add_user(db))
    async with AlertsEngine(settings(database_url, max_run_seconds=0.000001)) as engine:
        report = await engine.run(Phase.ALL, now=NOW)
    assert report.status == "success"
    told = {phase.phase: (phase.counts["stopped_early"], phase.counts["stop_reason"]) for phase in report.phases}
    assert {told[phase] for phase in "abd"} == {(True, "max_run_seconds")}
    assert db.execute("SELECT FROM user_alert_deliveries").rowcount == 1
    assert db.execute("SELECT FROM user_alert_digests").rowcount == 0
    assert db.execute("SELECT FROM alert_events").rowcount == 2
