"""``make bench-health``: how long health, failures and metrics take beside many deliveries, and what they would take.

Builds ``--rows`` deliveries (ten million; ninety-seven of a hundred sent long ago), ten thousand runs and a month of
counters. Prints for each operation the median and the longest of its calls, and beside health what one count of the
deliveries by status takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, SourceName
from alerts_engine.embedded import embedded_postgres
from tests.bench.history import add_history
from tests.support import ground
from tests.support.databases import drop_database, fresh_database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
BAR_MS = 100
BY_STATUS = "SELECT channel, status, count(*) FROM user_alert_deliveries GROUP BY channel, status"


async def main() -> None:
    options = _options()
    with embedded_postgres(FOLDER) as server:
        url = await asyncio.to_thread(fresh_database, server, "health")
        await add_history(url, options.rows)
        measured = await _measure(url, options.calls)
        if not options.keep:
            drop_database(server, "health")
    _show(measured, options.rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--keep", action="store_true", help="leave the database for a look")
    return parser.parse_args()


async def _measure(url: str, calls: int) -> dict[str, dict[str, float]]:
    async with AlertsEngine(ground.settings(url, "http://127.0.0.1:1")) as engine:
        asked: dict[str, Callable[[], Awaitable[Any]]] = {
            "health": engine.health,
            "metrics": engine.metrics,
            "failures": engine.failures,
            "failures, one cause": lambda: engine.failures(cause="timeout"),
            "retry-failed --dry-run": lambda: engine.retry_failed(SourceName.DELIVERIES, 24, dry_run=True),
            "delivery show": lambda: engine.delivery_life(1000),
            "runs": engine.recorded_runs,
        }
        measured = {name: await _timed(ask, calls) for name, ask in asked.items()}
    connection = await asyncpg.connect(url)
    measured["(a count by status)"] = await _timed(lambda: connection.fetch(BY_STATUS, timeout=600), 2)
    await connection.close()
    return measured


async def _timed(ask: Callable[[], Awaitable[Any]], calls: int) -> dict[str, float]:
    took = []
    for _ in range(calls):
        begun = time.perf_counter()
        await ask()
        took.append(1000 * (time.perf_counter() - begun))
    return {"median, ms": round(statistics.median(took), 1), "longest, ms": round(max(took), 1)}


def _show(measured: dict[str, dict[str, float]], rows: int) -> None:
    table = Table("", "median, ms", "longest, ms", title=f"beside {rows:,} deliveries (bar: health {BAR_MS} ms)")
    for name, one in measured.items():
        table.add_row(name, *[f"{value:,}" for value in one.values()])
    Console(width=120).print(table)
    print(json.dumps(measured))


if __name__ == "__main__":
    asyncio.run(main())
