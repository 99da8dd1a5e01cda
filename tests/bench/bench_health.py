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
from rich.progress import track
from rich.table import Table

from alerts_engine import AlertsEngine, SourceName
from alerts_engine.embedded import embedded_postgres
from tests.support import ground
from tests.support.databases import drop_database, fresh_database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
USERS = 100_000
BAR_MS = 100
EVENTS = """
INSERT INTO alert_events
       (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint, fanout_completed_at,
        created_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 4, 'Pipeline outage ' || n, 'Flows are down.', 'b' || n, 'b' || n, now(),
       now() - make_interval(hours => n)
  FROM generate_series(1, $1) AS n
RETURNING id
"""
DELIVERIES = """
INSERT INTO user_alert_deliveries
       (user_id, alert_event_id, channel, status, sent_at, ended_at, attempts, created_at, quota_day, failure_kind,
        last_error, next_retry_at)
SELECT u.id, $1, 'email', s.status, CASE s.status WHEN 'sent' THEN e.created_at END,
       CASE WHEN s.status <> 'queued' THEN e.created_at END, CASE s.status WHEN 'queued' THEN 0 ELSE 1 END,
       e.created_at, e.created_at::date, CASE s.status WHEN 'failed' THEN 'transient' END,
       CASE s.status WHEN 'failed' THEN (ARRAY['timeout', 'brevo_500', 'brevo_invalid_parameter'])[1 + u.id % 3] END,
       CASE WHEN s.status = 'queued' AND u.id % 2 = 0 THEN now() + interval '10 minutes' END
  FROM users AS u
 CROSS JOIN (SELECT created_at FROM alert_events WHERE id = $1) AS e
 CROSS JOIN LATERAL (SELECT CASE WHEN u.id % 100 < 97 THEN 'sent' WHEN u.id % 100 < 99 THEN 'failed'
                                 WHEN $2 AND u.id % 100 = 99 THEN 'queued' ELSE 'skipped' END AS status) AS s
"""
COUNTERS = """
INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made)
SELECT CASE WHEN n < 840 THEN 'hour' ELSE 'day' END, date_trunc('hour', now()) - make_interval(hours => n),
       w.source, w.channel, w.kind, w.outcome, w.retried, 100
  FROM generate_series(0, 1500) AS n
 CROSS JOIN (
       SELECT 'deliveries' AS source, c AS channel, 'instant' AS kind, o AS outcome, FALSE AS retried
         FROM unnest(ARRAY['email', 'telegram', 'sms']) AS c, unnest(ARRAY['sent', 'failed', 'skipped', 'retry']) AS o
        UNION ALL
       SELECT 'deliveries', c, 'instant', 'sent', TRUE FROM unnest(ARRAY['email', 'telegram', 'sms']) AS c
        UNION ALL
       SELECT 'deliveries', c, 'digest', 'skipped', FALSE FROM unnest(ARRAY['email', 'telegram']) AS c
        UNION ALL
       SELECT 'digests', c, 'digest', o, FALSE
         FROM unnest(ARRAY['email', 'telegram']) AS c, unnest(ARRAY['sent', 'failed', 'retry']) AS o) AS w
"""
LOOSE = """
INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
SELECT date_trunc('hour', now()), 'deliveries', 'email', 'instant', 'sent', FALSE, 10 FROM generate_series(1, 3000)
"""
RUNS = """
WITH runs AS (
    INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at, status)
    SELECT gen_random_uuid(), 'local', 'all', now() - make_interval(mins => 10 * n),
           now() - make_interval(mins => 10 * n), 'success'
      FROM generate_series(0, 9999) AS n
    RETURNING run_id, started_at)
INSERT INTO alerts_engine_run_items (run_id, phase, status, started_at, finished_at, duration_ms)
SELECT r.run_id, p, 'success', r.started_at, r.started_at, 5 FROM runs AS r, unnest(ARRAY['a', 'b', 'd', 'c']) AS p
"""
BY_STATUS = "SELECT channel, status, count(*) FROM user_alert_deliveries GROUP BY channel, status"


async def main() -> None:
    options = _options()
    with embedded_postgres(FOLDER) as server:
        url = await asyncio.to_thread(fresh_database, server, "health")
        await _build(url, options.rows)
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


async def _build(url: str, rows: int) -> None:
    users = min(USERS, rows)
    await asyncio.to_thread(ground.add_users, url, users)
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC", "session_replication_role": "replica"})
    events = await connection.fetch(EVENTS, max(1, rows // users))
    for number, event in enumerate(track(events, "deliveries")):
        await connection.execute(DELIVERIES, event["id"], number < 10, timeout=600)
    for statement in (COUNTERS, LOOSE, RUNS, "VACUUM ANALYZE"):
        await connection.execute(statement, timeout=3600)
    await connection.close()


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
