"""What can happen to the database, and to the connection with it, while messages are being sent."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from alerts_engine import schema
from alerts_engine.embedded import embedded_postgres
from tests.chaos.stage import stage
from tests.support import ground

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine import RunReport
    from tests.chaos.stage import Stage
    from tests.support.ground import Result

CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE application_name = 'alerts-engine' AND datname = current_database()
"""
CUT_LOCK = """
SELECT pg_terminate_backend(pid) FROM pg_locks AS l
 WHERE l.locktype = 'advisory' AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
FILL_DISK = """
CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER disk_full BEFORE UPDATE ON user_alert_deliveries
   FOR EACH ROW WHEN (NEW.status = 'sent') EXECUTE FUNCTION disk_full();
"""
EMPTY_DISK = "DROP FUNCTION disk_full CASCADE"
REFUSE_ONE_ROW = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON user_alert_deliveries
   FOR EACH ROW WHEN (NEW.status = 'sent' AND NEW.id = {row}) EXECUTE FUNCTION refuse();
"""
ACCEPT_ALL_ROWS = "DROP FUNCTION refuse CASCADE"


async def connections_cut(url: str, sends: int) -> Result:
    """All the engine's connections die, the lock's too: it stops claiming, and writes what it knows on new ones."""
    async with stage("connections cut", url, sends) as play:
        report = await play.when_under_way(lambda: play.execute(CUT), play.run())
        play.expect(report.status == "failed", report)
        play.expect(not ground.statuses(url)["sending"], "every outcome is written before the run ends")
    return play.result


async def lock_lost(url: str, sends: int) -> Result:
    """The lock's connection dies: the phase stops claiming, finishes what is under way, and says so (SPEC L-2)."""
    async with stage("lock connection lost", url, sends) as play:
        report = await play.when_under_way(lambda: play.execute(CUT_LOCK), play.run())
        play.expect(report.phases[0].counts["stop_reason"] == "lock_lost", report.phases[0].counts)
        play.expect("lock" in (report.phases[0].error or ""), report.phases[0].error)
        play.expect(not ground.statuses(url)["sending"], "nothing is left in flight")
    return play.result


async def disk_full(url: str, sends: int) -> Result:
    """Outcomes cannot be written for a while: they are kept, and nothing is sent again by this run (SPEC C-13)."""
    async with stage("disk full at settle", url, sends) as play:
        running = asyncio.ensure_future(play.run())
        await play.reach(play.total // 3, running)
        await asyncio.to_thread(play.execute, FILL_DISK)  # it waits for statements of the run that is under way
        await _blocked(play.url)
        await asyncio.to_thread(play.execute, EMPTY_DISK)
        report = await running
        play.expect(report.status == "success", report.error)
        play.expect(report.phases[0].counts["sent"] == play.total, report.phases[0].counts)
        play.expect(len(play.sandbox.attempts) == play.total, "no message was tried twice")
    return play.result


async def _blocked(url: str) -> None:
    """Until a write has been refused, as the database's own statistics show."""
    statement = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with closing(ground.connect(url)) as db:
        before = db.execute(statement).fetchone()[0]
        await _until(lambda: db.execute(statement).fetchone()[0] >= before + 2)


async def one_row_refused(url: str, sends: int) -> Result:
    """The database refuses one row's outcome: all others are written, and the phase says so (SPEC C-5)."""
    async with stage("one outcome refused", url, sends, channels=("email",)) as play:
        victim = ground.all_rows(url)[play.total // 2].id
        play.execute(REFUSE_ONE_ROW.format(row=victim))
        report = await play.run()
        play.expect(report.status == "failed", report)
        play.expect(ground.statuses(url) == {"sent": play.total - 1, "sending": 1}, ground.statuses(url))
        play.execute(ACCEPT_ALL_ROWS)
    return play.result


async def server_restarted(folder: Path, sends: int) -> Result:
    """The server crashes and comes back while messages are being sent."""
    with embedded_postgres(folder) as url:
        schema.apply(url)
        # Starting the server holds up this process, and the sandbox in it: no answer may be lost by that.
        patience = {"send_lease_seconds": 60, "send_timeout_seconds": 20}
        async with stage("server crashed and restarted", url, sends, **patience) as play:
            report = await play.when_under_way(lambda: _crash(folder), _run_through_crash(play, folder))
            play.expect(report.status == "failed", report)
            play.expect(not ground.statuses(url)["sending"], "every outcome is written once the server is back")
    return play.result


async def _run_through_crash(play: Stage, folder: Path) -> RunReport:
    """Run, and start the server again as soon as it is gone."""
    running = asyncio.ensure_future(play.run())
    process = Path(f"/proc/{_postmaster(folder)}")
    await _until(lambda: running.done() or not process.exists())
    # A user of the same folder, as any other process may come along: it starts what does not run.
    with embedded_postgres(folder, keep_running=True):
        return await running


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    while not condition():  # noqa: ASYNC110 - it is seen by looking only
        await asyncio.sleep(0.02)


def _crash(folder: Path) -> None:
    """``immediate``: no goodbye to anybody, and recovery at the next start."""
    os.kill(_postmaster(folder), signal.SIGQUIT)


def _postmaster(folder: Path) -> int:
    """The server's process id."""
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


FAULTS = (connections_cut, lock_lost, disk_full, one_row_refused)
