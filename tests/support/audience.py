"""An audience of any size, and events for it: what the fan-out is measured on, and what its plans are tested on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

AUDIENCE = """
INSERT INTO users (email, telegram_chat_id, phone_number, email_verified)
SELECT 'user' || i || '@example.com', CASE WHEN i % 3 = 0 THEN i::text END,
       CASE WHEN i % 7 = 0 THEN '+1555' || i END, i % 50 <> 0
  FROM generate_series(1, $1::int) AS i
"""
PLANS = """
INSERT INTO user_plans (user_id, plan)
SELECT id, CASE WHEN id % 20 < 10 THEN 'free' WHEN id % 20 < 14 THEN 'personal' WHEN id % 20 < 17 THEN 'trader'
                WHEN id % 20 < 19 THEN 'pro' ELSE 'enterprise' END
  FROM users WHERE id % 25 <> 0
"""
PREFERENCES = """
INSERT INTO user_alert_prefs (user_id, region, alert_type, asset, threshold, enabled, cooldown_minutes)
SELECT u.id, (ARRAY['Europe', 'global', 'Asia'])[1 + (u.id + n) % 3],
       (ARRAY['HIGH_IMPACT_EVENT', 'REGIONAL_RISK_SPIKE'])[1 + n % 2], NULL, NULL, u.id % 31 <> 0, 0
  FROM users AS u, generate_series(0, 1) AS n
 WHERE u.id % 3 <> 0
"""


async def add_audience(connection: asyncpg.Connection, users: int) -> None:
    """Users of every plan, two preference rows for two thirds of them, in a database that has none."""
    await connection.execute(AUDIENCE, users)
    await connection.execute(PLANS)
    await connection.execute(PREFERENCES)
    await connection.execute("VACUUM ANALYZE")


async def add_event(connection: asyncpg.Connection, name: str, at: datetime, severity: int = 5) -> int:
    """An event for Europe that waits for its fan-out; its id."""
    made = await connection.fetchval(
        "INSERT INTO alert_events (alert_type, scope_region, scope_assets, severity, headline, body, driver_event_ids,"
        " cooldown_key, event_fingerprint, created_at)"
        " VALUES ('HIGH_IMPACT_EVENT', 'Europe', '{}', $3, 'Bench', '', '{}', $1, $1, $2::timestamptz) RETURNING id",
        name,
        at,
        severity,
    )
    return int(made)
