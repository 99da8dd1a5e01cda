"""How PostgreSQL finds what phase C asks for, with many old rows around (DESIGN section 2, SPEC section 16)."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from alerts_engine.statements import load
from tests.support import ground

if TYPE_CHECKING:
    from alerts_engine.statements import Call

OLD_ROWS = """
INSERT INTO user_alert_deliveries
       (user_id, alert_event_id, channel, delivery_kind, status, sent_at, attempts, created_at)
SELECT u.id, e.id, c, k, 'sent', now(), 1, now() - interval '1 day'
  FROM users AS u, alert_events AS e, unnest(ARRAY['email', 'telegram']) AS c, unnest(ARRAY['instant', 'digest']) AS k
    ON CONFLICT DO NOTHING
"""
OLD_DIGESTS = """
INSERT INTO user_alert_digests
       (user_id, channel, period, window_start, window_end, digest_key, status, sent_at, next_retry_at)
SELECT u.id, 'email', 'daily', now() - make_interval(days => n), now() - make_interval(days => n - 1), u.id || '/' || n,
       CASE WHEN n = 1 THEN 'queued' ELSE 'sent' END, CASE WHEN n > 1 THEN now() END,
       CASE WHEN n = 1 THEN now() + interval '1 day' END
  FROM users AS u, generate_series(1, 12) AS n
"""
GENERIC_PLANS = "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1"
LOOKS_AT_ALL = {"sendable_now", "move_telegram_chat"}
"""The dry run's survey; and the application's own table, which is not ours to index."""
IN_THEIR_ORDER = {
    "channel_work": {
        "user_alert_deliveries_new_idx",
        "user_alert_deliveries_retry_idx",
        "user_alert_deliveries_uncertain_idx",
        "user_alert_digests_new_idx",
        "user_alert_digests_due_idx",
        "user_alert_digests_uncertain_idx",
    },
    "claim_deliveries": {"user_alert_deliveries_new_idx", "user_alert_deliveries_retry_idx"},
    "claim_digests": {"user_alert_digests_new_idx", "user_alert_digests_due_idx"},
    "begin_deliveries": {"user_alert_deliveries_pkey"},
    "begin_digests": {"user_alert_digests_pkey"},
    "settle_deliveries": {"user_alert_deliveries_pkey"},
    "release_deliveries": {"user_alert_deliveries_pkey"},
    "reclaim_deliveries": {"user_alert_deliveries_lease_idx"},
    "reclaim_digests": {"user_alert_digests_lease_idx"},
}
"""What is due comes from an index of its own: a claim reads as many rows as it takes, however many are due."""


def test_every_question_of_a_run_is_answered_by_an_index(database_url: str):
    """Whatever was sent long ago costs nothing, also in the plan for unknown values (C-2, section 16)."""
    users = ground.add_users(database_url, 500)
    ground.add_deliveries(database_url, users[:50], "email")
    ground.add_digests(database_url, users[:50], "email")
    with closing(ground.connect(database_url)) as db:
        for statement in (OLD_ROWS, OLD_DIGESTS, "VACUUM ANALYZE"):
            db.execute(statement)
        plans = {
            name: "\n".join(row[0] for row in db.execute(f"EXPLAIN (GENERIC_PLAN) {source.sent}"))
            for name, source in load("phase_c_send").items()
            if name not in LOOKS_AT_ALL
        }
    for name, plan in plans.items():
        assert "Seq Scan on user_alert_deliveries" not in plan, f"{name}\n{plan}"
        assert "Seq Scan on user_alert_digests" not in plan, f"{name}\n{plan}"
    for name, indexes in IN_THEIR_ORDER.items():
        assert all(index in plans[name] for index in indexes), f"{name}\n{plans[name]}"


def claim(**values: Any) -> Call:
    """A claim of ten emails, with ``values`` beside what it always needs."""
    statement = load("phase_c_send")["claim_deliveries"]
    always = {
        "channel": "email", "claim_size": 10, "run_id": "a run", "lease": timedelta(hours=1), "resting": [],
        "set_aside": [],
    }  # fmt: skip
    return statement.call(dict.fromkeys((one.name for one in statement.parameters), None) | always | values)


async def test_a_claim_is_planned_once(database_url: str):
    """Planning it takes longer than running it (SPEC section 16)."""
    call = claim()
    connection = await asyncpg.connect(database_url)
    try:
        for _ in range(8):
            await connection.fetch(call.text, *call.arguments)
        made = await connection.fetchval(GENERIC_PLANS, call.text)
    finally:
        await connection.close()
    assert made == 3, "PostgreSQL plans the first five for their values, whatever they are"


async def test_those_on_a_list_are_found_by_it(database_url: str):
    """However many rows of others are due (SPEC C-15)."""
    ground.add_deliveries(database_url, ground.add_users(database_url, 5000), "email")
    call = claim(allowlist=[4990, 4991])
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("VACUUM ANALYZE")
        (row,) = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {call.text}", *call.arguments)
    finally:
        await connection.close()
    assert json.loads(row[0])[0]["Plan"]["Shared Hit Blocks"] < 200
