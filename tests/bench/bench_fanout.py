"""``make bench-fanout``: the fan-out beside a plain INSERT … SELECT of the same rows (SPEC section 16).

Prints, for each audience size, the ratio of the fan-out's time to the plain insert's, taken in turns in one run; the
cost of the 1st and of the 50th event of a day; and the peak memory of the Python process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.embedded import embedded_postgres
from alerts_engine.logs import configure_logging
from tests.support.audience import add_audience, add_event
from tests.support.databases import drop_database, fresh_database

if TYPE_CHECKING:
    from rich.status import Status

NOW = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
COLUMNS = "user_id, alert_event_id, channel, delivery_kind, created_at, quota_day"


async def main() -> None:
    options = _options()
    configure_logging(level=logging.WARNING)
    folder = Path.cwd() / ".alerts-engine" / "bench"
    with Console(stderr=True).status("Starting PostgreSQL") as status, embedded_postgres(folder) as server:
        results = [await _measure(server, size, options.rounds, status) for size in options.sizes]
        drop_database(server, "fanout")  # autovacuum and checkpoints of a million rows would go on beside
        late = await _first_and_fiftieth(server, options.late_size, status)
    _show(results, late)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--late-size", type=int, default=100_000)
    return parser.parse_args()


async def _with_audience(server: str, name: str, users: int) -> str:
    url = await asyncio.to_thread(fresh_database, server, name)
    connection = await asyncpg.connect(url)
    await add_audience(connection, users)
    await connection.close()
    return url


async def _fan_out_seconds(engine: AlertsEngine, now: datetime) -> float:
    start = time.perf_counter()
    report = await engine.run(Phase.B, now=now)
    seconds = time.perf_counter() - start
    if report.status != "success":
        sys.exit(f"the fan-out failed: {report.error}")
    return seconds


async def _measure(server: str, users: int, rounds: int, status: Status) -> dict[str, float]:
    """Fan-out and plain insert in turns; the medians of both."""
    status.update(f"{users:,} users: filling the database")
    url = await _with_audience(server, "fanout", users)
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC"})
    ours, plain = [], []
    async with AlertsEngine(Settings(database_url=url)) as engine:
        for turn in range(rounds + 1):  # the first one warms up
            status.update(f"{users:,} users: turn {turn} of {rounds}")
            ours.append(await _fan_out_once(engine, connection, f"turn-{turn}"))
            plain.append(await _insert_the_same(connection))
    rows = await connection.fetchval("SELECT count(*) FROM same_rows")
    await connection.close()
    fan_out, insert = statistics.median(ours[1:]), statistics.median(plain[1:])
    return {"users": users, "rows": rows, "fan_out": fan_out, "insert": insert, "ratio": fan_out / insert}


async def _fan_out_once(engine: AlertsEngine, connection: asyncpg.Connection, event: str) -> float:
    await connection.execute("TRUNCATE alert_events, user_alert_deliveries CASCADE")
    await add_event(connection, event, NOW)
    await connection.execute("CHECKPOINT")
    return await _fan_out_seconds(engine, NOW)


async def _insert_the_same(connection: asyncpg.Connection) -> float:
    await connection.execute("DROP TABLE IF EXISTS same_rows")
    await connection.execute(
        f"CREATE UNLOGGED TABLE same_rows AS SELECT {COLUMNS} FROM user_alert_deliveries ORDER BY id"
    )
    await connection.execute("TRUNCATE user_alert_deliveries CASCADE")
    await connection.execute("CHECKPOINT")
    start = time.perf_counter()
    await connection.execute(f"INSERT INTO user_alert_deliveries ({COLUMNS}) SELECT {COLUMNS} FROM same_rows")
    return time.perf_counter() - start


async def _first_and_fiftieth(server: str, users: int, status: Status) -> dict[str, float]:
    """Everybody on a plan that takes all fifty, so that the last event makes as many rows as the first.

    Medians of the first and the last five; the very first of all warms up.
    """
    url = await _with_audience(server, "late", users)
    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE user_plans; INSERT INTO user_plans SELECT id, 'enterprise' FROM users")
    await connection.execute("VACUUM ANALYZE")
    seconds = []
    async with AlertsEngine(Settings(database_url=url)) as engine:
        for number in range(51):
            status.update(f"A day of 50 events, {users:,} users: event {number}")
            await add_event(connection, f"event-{number}", NOW + timedelta(minutes=number))
            if number in (1, 50):
                await connection.execute("CHECKPOINT")
            seconds.append(await _fan_out_seconds(engine, NOW + timedelta(minutes=number)))
    rows = await connection.fetchval("SELECT count(*) FROM user_alert_deliveries")
    await connection.close()
    first, last = statistics.median(seconds[1:6]), statistics.median(seconds[46:51])
    return {"users": users, "rows": rows, "first": first, "fiftieth": last, "ratio": last / first}


def _show(results: list[dict[str, float]], late: dict[str, float]) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if not sys.stdout.isatty():
        print(json.dumps({"fan_out": results, "late": late, "peak_memory_mib": round(memory, 1)}))
        return
    title = "Fan-out beside INSERT … SELECT"
    table = Table("users", "rows", "fan-out s", "plain insert s", "ratio (bar 1.25)", title=title)
    for row in results:
        times = (f"{row[name]:.2f}" for name in ("fan_out", "insert", "ratio"))
        table.add_row(f"{row['users']:,}", f"{row['rows']:,}", *times)
    console = Console()
    console.print(table)
    console.print(f"50th event of a day beside the 1st, {late['users']:,} users: {late['ratio']:.2f} (bar 1.2)")
    console.print(f"peak memory of the Python process: {memory:.0f} MiB (bar 150)")


if __name__ == "__main__":
    asyncio.run(main())
