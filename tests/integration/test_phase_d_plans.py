"""A batch of digests reads what it needs of large tables, and none as a whole."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from alerts_engine.database import connect
from alerts_engine.phases.build_digests import build_batch
from alerts_engine.phases.plans import plans_as_json
from tests.support.world import NOW, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS, EVENTS, BATCH = 40_000, 40_000, 20_000
TOLD = 5
"""Events that the deliveries tell of."""
AUDIENCE = (
    "INSERT INTO users (email) SELECT 'user' || n || '@example.test' FROM generate_series(1, $1::int) AS n",
    "INSERT INTO user_plans (user_id, plan) SELECT id, 'pro' FROM users WHERE $1 > 0",
    "INSERT INTO user_notification_settings (user_id, digest_period) SELECT id, 'daily' FROM users WHERE $1 > 0",
)
HISTORY = """
INSERT INTO alert_events (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint,
                          created_at, fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 4, 'Old', repeat('text ', 100), 'old-' || i, 'old-' || i,
       $2::timestamptz - make_interval(hours => i / 10), $2::timestamptz
  FROM generate_series(1, $1::int) AS i
"""
DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind)
SELECT u.id, e.id, 'email', 'digest' FROM users AS u, alert_events AS e
 WHERE e.id > (SELECT max(id) FROM alert_events) - $2::int AND u.id > (SELECT max(id) FROM users) - $1::int
"""


async def test_a_batch_reads_the_events_plans_and_settings_of_its_deliveries(database_url: str):
    """Each once, however many others there are (SPEC D-1, section 16)."""
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC", "jit": "off"})
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    for statement in AUDIENCE:
        await connection.execute(statement, USERS)
    await connection.execute(HISTORY, EVENTS, NOW)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute(DELIVERIES, 2 * BATCH, TOLD)  # by the fan-out, just now: nothing is known of them
    async with connect(database_url) as database:
        plans = await plans_as_json(database, settings(database_url))
    values = {
        "now": NOW, "time_zone": "Europe/Amsterdam", "period": "daily", "grace": timedelta(minutes=10),
        "plans": plans, "batch": BATCH, "horizon": timedelta(days=3), "channels": ["email"], "passed_over": [],
    }  # fmt: skip
    definition = build_batch.definition
    (row,) = await connection.fetch(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {definition.text}", *definition.bind(values)
    )
    await connection.close()
    plan = json.loads(row[0])[0]["Plan"]
    read = {node["Relation Name"]: node["Actual Rows"] * node["Actual Loops"] for node in _scans(plan)}
    most = dict.fromkeys(("users", "user_plans", "user_notification_settings"), BATCH) | {"alert_events": TOLD}
    assert {table: read[table] for table in most if read[table] > most[table]} == {}


def _scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield plan
    for part in plan.get("Plans", []):
        yield from _scans(part)
