"""``python -m tests.chaos.resume_fan_out``: kill fan-outs with SIGKILL until one gets to the end, and judge the rows.

A twin of the same fan-out is left in peace before; both must make the same deliveries (SPEC B-2, B-7).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from rich.console import Console

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.embedded import embedded_postgres
from alerts_engine.logs import configure_logging
from tests.support.audience import add_audience, add_event
from tests.support.databases import fresh_database

NOW = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
MOST_STARTS = 200
EVENTS = 3
"""One more than the SMS a day of the plan ``pro``."""
LONGEST_DELAY_SECONDS = 0.05

WORKER = """
import asyncio, logging, sys
from datetime import datetime
from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.logs import configure_logging
from alerts_engine.phases import group

async def main(url, page_size, now):
    configure_logging(level=logging.CRITICAL)
    group.LARGEST_PAGE = group.SMALLEST_PAGE = int(page_size)
    async with AlertsEngine(Settings(database_url=url), progress=lambda *_: print("page", flush=True)) as engine:
        report = await engine.run(Phase.B, now=datetime.fromisoformat(now))
    print(report.status, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

ROWS = "SELECT alert_event_id, user_id, channel, delivery_kind, quota_day FROM user_alert_deliveries"
DIFFERENT = f"""
SELECT (SELECT count(*) FROM (SELECT * FROM undisturbed EXCEPT ALL {ROWS}) AS lost)
       + (SELECT count(*) FROM ({ROWS} EXCEPT ALL SELECT * FROM undisturbed) AS doubled)
"""
HALF_DONE = f"""
SELECT (SELECT count(*) FROM user_alert_deliveries AS d JOIN alert_events AS e ON e.id = d.alert_event_id
         WHERE d.user_id > e.fanout_position)
       + (SELECT count(*) FROM (
              SELECT u.* FROM undisturbed AS u JOIN alert_events AS e ON e.id = u.alert_event_id
               WHERE u.user_id <= e.fanout_position EXCEPT ALL {ROWS}) AS lost)
       + (SELECT count(*) FROM alert_events
           WHERE fanout_completed_at IS NOT NULL AND fanout_position < (SELECT max(id) FROM users))
"""
"""Deliveries beyond an event's position, missing ones up to it, and markers set too early; one snapshot sees all."""
MARKERS = "SELECT id, fanout_completed_at::text, fanout_position FROM alert_events ORDER BY id"


@dataclass
class Outcome:
    rows: int = 0
    kills: int = 0
    half_done: int = 0
    """Rows that told of a page of which a part was visible, after each kill."""
    different: int = 0
    """Rows that only one of the two fan-outs made."""
    completed: int = 0
    changed_afterwards: bool = False
    """Whether one more run, after the end, changed anything."""

    @property
    def holds(self) -> bool:
        done = self.completed == EVENTS and self.rows > 0
        return done and not (self.half_done or self.different or self.changed_afterwards)


@dataclass(frozen=True)
class Storm:
    """Fan-outs to ``users``, in pages of ``page_size``; each is killed after ``most_pages`` of them or sooner."""

    url: str
    users: int
    page_size: int
    most_pages: int
    seed: int


async def resume(storm: Storm) -> Outcome:
    """Fill the database, fan out in peace, empty it, and fan out again with kills until it is done."""
    connection = await asyncpg.connect(storm.url, server_settings={"TimeZone": "UTC"})
    try:
        await _fan_out_in_peace(connection, storm)
        outcome = Outcome(rows=await connection.fetchval("SELECT count(*) FROM undisturbed"))
        await _kill_until_done(connection, storm, outcome)
        await _judge(connection, storm, outcome)
    finally:
        await connection.close()
    return outcome


async def _fan_out_in_peace(connection: asyncpg.Connection, storm: Storm) -> None:
    await add_audience(connection, storm.users)
    for number in range(EVENTS):
        await add_event(connection, f"event {number}", NOW - timedelta(hours=1), severity=3 + number)
    async with AlertsEngine(Settings(database_url=storm.url)) as engine:
        report = await engine.run(Phase.B, now=NOW)
    assert report.status == "success"
    await connection.execute(f"CREATE TABLE undisturbed AS {ROWS}")
    await connection.execute("TRUNCATE user_alert_deliveries CASCADE")
    await connection.execute("UPDATE alert_events SET fanout_completed_at = NULL, fanout_position = 0")


async def _kill_until_done(connection: asyncpg.Connection, storm: Storm, outcome: Outcome) -> None:
    chance = random.Random(storm.seed)  # noqa: S311 - moments, not secrets
    for start in range(MOST_STARTS):
        pages, delay = chance.randint(1, storm.most_pages), chance.uniform(0, LONGEST_DELAY_SECONDS)
        outcome.kills += await _run_worker(storm, NOW + timedelta(seconds=start), pages, delay)
        outcome.half_done += await connection.fetchval(HALF_DONE)
        if not await connection.fetchval("SELECT count(*) FROM alert_events WHERE fanout_completed_at IS NULL"):
            return


async def _judge(connection: asyncpg.Connection, storm: Storm, outcome: Outcome) -> None:
    before = await connection.fetch(MARKERS)
    await _run_worker(storm, NOW + timedelta(hours=1))
    outcome.different = await connection.fetchval(DIFFERENT)
    outcome.changed_afterwards = await connection.fetch(MARKERS) != before
    outcome.completed = len({event["id"] for event in before if event["fanout_completed_at"] is not None})


async def _run_worker(storm: Storm, now: datetime, pages: int | None = None, delay: float = 0) -> bool:
    """Whether it was killed: ``delay`` seconds after ``pages`` pages, if it got no further than that."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, storm.url, str(storm.page_size), now.isoformat(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    seen = 0
    while (line := await process.stdout.readline()) == b"page\n":
        seen += 1
        if seen == pages:
            await asyncio.sleep(delay)
            with suppress(ProcessLookupError):  # it may have come to its end meanwhile
                process.kill()
    await process.wait()
    assert line in (b"", b"success\n", b"skipped\n"), line
    return process.returncode != 0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--page-size", type=int, default=4_000)
    parser.add_argument("--most-pages", type=int, default=4, help="pages that a worker may finish before it is killed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    configure_logging(level=logging.ERROR)
    folder = Path.cwd() / ".alerts-engine" / "bench"
    with (
        Console(stderr=True).status(f"Killing fan-outs to {options.users:,} users"),
        embedded_postgres(folder) as server,
    ):
        url = await asyncio.to_thread(fresh_database, server, "resume")
        outcome = await resume(Storm(url, options.users, options.page_size, options.most_pages, options.seed))
    print(outcome)
    sys.exit(0 if outcome.holds else 1)


if __name__ == "__main__":
    asyncio.run(main())
