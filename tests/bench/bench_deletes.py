"""``make bench-deletes``: phases B and D beside an application that deletes users, a hundred in a transaction.

Prints how long each phase took with and without the purge, and how long the application's transactions took with and
without the phase (bar: both phases succeed in one run, p99 ≤ 0.5 s, no deadlock).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psycopg
import structlog
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.commands.frame import run_loop
from alerts_engine.embedded import embedded_postgres
from tests.support.audience import add_audience, add_event
from tests.support.databases import drop_database, fresh_database
from tests.support.purger import Purges, purging

if TYPE_CHECKING:
    from alerts_engine import PhaseReport

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
NOW = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
BAR_SECONDS = 0.5
AT_ONCE = 100
CALM_PURGES = 50
DIGEST_DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind, created_at)
SELECT u.id, e.id, 'email', 'digest', $1::timestamptz
  FROM alert_events AS e
 CROSS JOIN users AS u
 ORDER BY e.id, u.id
"""


def main() -> None:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with embedded_postgres(FOLDER) as server:
        measured = [run_loop(_measure(server, phase, options)) for phase in options.phases]
        drop_database(server, "deletes")
    _show(measured)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", type=Phase, nargs="+", default=[Phase.B, Phase.D])
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two purges")
    return parser.parse_args()


async def _measure(server: str, phase: Phase, options: argparse.Namespace) -> dict[str, object]:
    url = await _filled(server, phase, options.users)
    users = await asyncio.to_thread(_all_users, url)
    first, rest = users[: CALM_PURGES * AT_ONCE], users[CALM_PURGES * AT_ONCE :]
    with purging(url, first, at_once=AT_ONCE, pause=options.pause) as calm:
        await asyncio.to_thread(calm.ended.wait)
    with purging(url, rest, at_once=AT_ONCE, pause=options.pause) as beside:
        report, seconds = await _run(url, phase)
    alone, alone_seconds = await _run(await _filled(server, phase, options.users), phase)
    return {
        "phase": str(phase),
        "users": options.users,
        "status": str(report.status),
        "error": report.error,
        "made": _made(report),
        "seconds": round(seconds, 1),
        "seconds_alone": round(alone_seconds, 1),
        "made_alone": _made(alone),
        "purges": len(beside.seconds),
        "deleted": beside.deleted,
        "deadlocks": beside.deadlocks,
        **_waits("purge_calm_ms", calm),
        **_waits("purge_ms", beside),
    }


async def _filled(server: str, phase: Phase, users: int) -> str:
    url = await asyncio.to_thread(fresh_database, server, "deletes")
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC"})
    await add_audience(connection, users)
    for number in range(2):
        await add_event(connection, f"event {number}", NOW - timedelta(hours=1 + number))
    if phase is Phase.D:
        await connection.execute("UPDATE alert_events SET fanout_completed_at = created_at")
        await connection.execute(DIGEST_DELIVERIES, NOW)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()
    return url


def _all_users(url: str) -> list[int]:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        return [user for (user,) in connection.execute("SELECT id FROM users ORDER BY md5(id::text)")]


async def _run(url: str, phase: Phase) -> tuple[PhaseReport, float]:
    async with AlertsEngine(Settings(_env_file=None, database_url=url)) as engine:
        started = time.perf_counter()
        report = await engine.run(phase, now=NOW)
        return report.phases[0], time.perf_counter() - started


def _made(report: PhaseReport) -> int:
    return int(report.counts.get("deliveries_created", report.counts.get("digest_items_attached", 0)))


def _waits(name: str, purges: Purges) -> dict[str, float]:
    ranked = sorted(purges.seconds)
    return {
        f"{name}_median": round(ranked[len(ranked) // 2] * 1000, 1),
        f"{name}_p99": round(purges.worst_of_hundred() * 1000, 1),
        f"{name}_longest": round(ranked[-1] * 1000, 1),
    }


def _show(measured: list[dict[str, object]]) -> None:
    table = Table(
        title=f"beside purges of {AT_ONCE} users; bar: success, p99 ≤ {BAR_SECONDS * 1000:.0f} ms, no deadlock"
    )
    table.add_column("")
    for one in measured:
        table.add_column(f"phase {one['phase']}", justify="right")
    for name in list(measured[0])[1:]:
        table.add_row(name, *[str(one[name]) for one in measured])
    Console(width=100).print(table)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
