"""``make bench-size``: what deliveries leave behind in their table and its indexes, with and without table settings.

Beside a history of deliveries that were sent long ago, new ones go through the real statements of phase C (a claim
that begins the sends, settle) in portions, and the table is vacuumed when autovacuum would. Prints what a new delivery
adds in bytes, the share of updates that touch no index (HOT), the most dead rows, and seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from alerts_engine.embedded import embedded_postgres
from alerts_engine.statements import load
from tests.support import ground
from tests.support.databases import drop_database, fresh_database

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
CLAIM, PORTION = 200, 2_000
VARIANTS = {
    "as PostgreSQL has it": {"fillfactor": 100, "scale": 0.2},
    "vacuum at 1 %": {"fillfactor": 100, "scale": 0.01},
    "vacuum at 1 %, fillfactor 85": {"fillfactor": 85, "scale": 0.01},
    "vacuum at 1 %, fillfactor 70": {"fillfactor": 70, "scale": 0.01},
}
HISTORY = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at, attempts, created_at, quota_day)
SELECT u.id, e.id, c, 'sent', now(), 1, now() - interval '1 day', current_date - 1
  FROM users AS u, alert_events AS e, unnest(ARRAY['telegram', 'sms']) AS c
 ORDER BY e.id, u.id LIMIT $1
"""
DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at, quota_day)
SELECT u.id, $1, 'email', now() + make_interval(secs => 0.001 * u.id), current_date FROM users AS u ORDER BY u.id
"""
SIZES = """
SELECT pg_table_size(c.oid) AS heap, pg_indexes_size(c.oid) AS indexes
  FROM pg_class AS c WHERE c.oid = 'user_alert_deliveries'::regclass
"""
ACTIVITY = """
SELECT s.n_tup_upd AS updates, s.n_tup_hot_upd AS hot
  FROM pg_stat_user_tables AS s WHERE s.relname = 'user_alert_deliveries'
"""


async def main() -> None:
    options = _options()
    with embedded_postgres(FOLDER) as server:
        measured = {name: await _measure(server, options, **variant) for name, variant in VARIANTS.items()}
        drop_database(server, "size")
    _show(measured, options.rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--history", type=int, default=300_000)
    return parser.parse_args()


async def _measure(server: str, options: argparse.Namespace, *, fillfactor: int, scale: float) -> dict[str, float]:
    url = await asyncio.to_thread(fresh_database, server, "size")
    users = 20_000
    await asyncio.to_thread(ground.add_users, url, users)
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC"})
    await connection.execute(
        f"ALTER TABLE user_alert_deliveries SET (fillfactor = {fillfactor}, autovacuum_enabled = off)"
    )
    await connection.execute(HISTORY, options.history)
    await connection.execute("VACUUM ANALYZE user_alert_deliveries")
    before = await connection.fetchrow(SIZES)
    events = [row["id"] for row in await connection.fetch("SELECT id FROM alert_events ORDER BY id")]
    started, vacuums, done, dead, most_dead = time.perf_counter(), 0, 0, 0, 0
    for event in events[: -(-options.rows // users)]:
        await connection.execute(DELIVERIES, event)
        for _ in range(users // PORTION):
            await _send(connection, PORTION)
            done, dead = done + PORTION, dead + 3 * PORTION
            most_dead = max(most_dead, dead)
            if dead > 50 + scale * (options.history + done):
                await connection.execute("VACUUM ANALYZE user_alert_deliveries")
                vacuums, dead = vacuums + 1, 0
    seconds = time.perf_counter() - started
    await connection.close()
    await asyncio.sleep(1)  # until the statistics are in
    connection = await asyncpg.connect(url)
    sizes, activity = await connection.fetchrow(SIZES), await connection.fetchrow(ACTIVITY)
    await connection.close()
    return {
        "heap, bytes a row": round((sizes["heap"] - before["heap"]) / done),
        "indexes, bytes a row": round((sizes["indexes"] - before["indexes"]) / done),
        "updates a row": round(activity["updates"] / done, 2),
        "of them HOT, %": round(100 * activity["hot"] / activity["updates"]),
        "most dead rows": most_dead,
        "vacuums": vacuums,
        "seconds": round(seconds, 1),
    }


async def _send(connection: asyncpg.Connection, rows: int) -> None:
    """Claim and settle this many rows, as a run does that sends them by email."""
    for _ in range(rows // CLAIM):
        claimed = await _call(
            connection, "claim_deliveries", channel="email", claim_size=CLAIM, run_id="bench",
            lease=timedelta(minutes=5), resting=[], set_aside=[], provider="brevo", begins=True,
        )  # fmt: skip
        ids = [row["id"] for row in claimed]
        nothing = [None] * len(ids)
        await _call(
            connection, "settle_deliveries", run_id="bench", ids=ids, statuses=["sent"] * len(ids),
            attempts=[1] * len(ids), retry_seconds=nothing, errors=nothing, failure_kinds=nothing,
            provider_message_ids=[f"<{number}@example.com>" for number in ids], called=[True] * len(ids),
        )  # fmt: skip


async def _call(connection: asyncpg.Connection, name: str, **values: Any) -> list[asyncpg.Record]:
    statement = load("phase_c_send")[name]
    arguments = [values.get(parameter.name) for parameter in statement.parameters]
    return list(await connection.fetch(statement.text, *arguments))


def _show(measured: dict[str, dict[str, float]], rows: int) -> None:
    table = Table("", *measured, title=f"{rows:,} deliveries, sent")
    for name in next(iter(measured.values())):
        table.add_row(name, *[f"{variant[name]:,}" for variant in measured.values()])
    Console(width=120).print(table)
    print(json.dumps(measured))


if __name__ == "__main__":
    asyncio.run(main())
