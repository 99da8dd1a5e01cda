"""``make bench-digests``: phase D beside a plain INSERT … SELECT of the same item rows (SPEC section 16).

Phase D finds each delivery's window, makes the digests, attaches the items and marks the deliveries; the plain insert
only writes the items. Prints the seconds of both, their ratio, and the items grouped in ten seconds (bar: 100,000).
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

import asyncpg
import structlog
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.embedded import embedded_postgres
from tests.support.databases import fresh_database

NOW = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
BAR = 100_000

AUDIENCE = "INSERT INTO users (email) SELECT 'user' || i || '@example.com' FROM generate_series(1, $1::int) AS i"
EVENTS = """
INSERT INTO alert_events (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint,
                          created_at, fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 4, 'Bench', '', 'bench-' || i, 'bench-' || i,
       $2::timestamptz - make_interval(hours => i), $2::timestamptz
  FROM generate_series(1, $1::int) AS i
"""
DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind, created_at)
SELECT u.id, e.id, 'email', 'digest', $1::timestamptz
  FROM alert_events AS e
 CROSS JOIN users AS u
 ORDER BY e.id, u.id
"""


async def main() -> None:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with embedded_postgres(Path.cwd() / ".alerts-engine" / "bench") as server:
        show([await _measure(server, items, options.events, options.rounds) for items in options.items])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 300_000])
    parser.add_argument("--events", type=int, default=10, help="of each user, over as many hours")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


async def _measure(server: str, items: int, events: int, rounds: int) -> dict[str, float]:
    url = await _with_audience(server, users=items // events, events=events)
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC"})
    grouping, plain, digests = [], [], 0
    async with AlertsEngine(Settings(database_url=url)) as engine:
        for turn in range(rounds + 1):
            await connection.execute("TRUNCATE user_alert_deliveries, user_alert_digests CASCADE")
            await connection.execute(DELIVERIES, NOW - timedelta(minutes=10))
            await connection.execute("CHECKPOINT")
            seconds = await _group_seconds(engine)
            digests = await connection.fetchval("SELECT count(*) FROM user_alert_digests")
            if turn:  # the first turn warms up
                grouping.append(seconds)
                plain.append(await _insert_seconds(connection, items))
    await connection.close()
    median, insert = statistics.median(grouping), statistics.median(plain)
    return {
        "items": items,
        "digests": digests,
        "phase_d": median,
        "insert": insert,
        "ratio": median / insert,
        "items_in_10_s": round(items / median * 10),
    }


async def _with_audience(server: str, *, users: int, events: int) -> str:
    url = await asyncio.to_thread(fresh_database, server, "digests")
    connection = await asyncpg.connect(url)
    await connection.execute(AUDIENCE, users)
    await connection.execute(EVENTS, events, NOW)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return url


async def _group_seconds(engine: AlertsEngine) -> float:
    start = time.perf_counter()
    report = await engine.run(Phase.D, now=NOW)
    seconds = time.perf_counter() - start
    if report.status != "success":
        sys.exit(f"phase d failed: {report.phases[0].error}")
    return seconds


async def _insert_seconds(connection: asyncpg.Connection, items: int) -> float:
    """The same item rows, into the same table with the same keys."""
    await connection.execute("DROP TABLE IF EXISTS same_rows")
    await connection.execute("CREATE UNLOGGED TABLE same_rows AS SELECT * FROM user_alert_digest_items")
    if await connection.fetchval("SELECT count(*) FROM same_rows") != items:
        sys.exit("phase d has left deliveries behind")
    await connection.execute("TRUNCATE user_alert_digest_items")
    await connection.execute("CHECKPOINT")
    start = time.perf_counter()
    await connection.execute(
        "INSERT INTO user_alert_digest_items (digest_id, delivery_id) SELECT digest_id, delivery_id FROM same_rows"
    )
    return time.perf_counter() - start


def show(results: list[dict[str, float]]) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if not sys.stdout.isatty():
        print(json.dumps({"digests": results, "peak_memory_mib": round(memory, 1)}))
        return
    table = Table(
        "items", "digests", "phase D s", "plain insert s", "ratio", f"items in 10 s (bar {BAR:,})",
        title="Phase D beside INSERT … SELECT",
    )  # fmt: skip
    for row in results:
        seconds = (f"{row['phase_d']:.2f}", f"{row['insert']:.2f}", f"{row['ratio']:.1f}")
        table.add_row(f"{row['items']:,}", f"{row['digests']:,}", *seconds, f"{row['items_in_10_s']:,}")
    console = Console()
    console.print(table)
    console.print(f"peak memory of the Python process: {memory:.0f} MiB (bar 150)")


if __name__ == "__main__":
    asyncio.run(main())
