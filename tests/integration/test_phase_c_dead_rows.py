"""Phase C on a table of dead rows: an old snapshot keeps vacuum from cleaning, and no statement walks over them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from alerts_engine.statements import load
from tests.support import ground

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROWS, LEFT, CLAIM = 20_000, 500, 24
RUN = "a run"
LAST_CLAIMED = """
SELECT created_at::timestamptz AS created_at, id FROM user_alert_deliveries WHERE claimed_by = $1
 ORDER BY created_at DESC, id DESC LIMIT 1
"""
SENT_BEFORE = (
    "status = 'sending', claimed_by = 'before', lease_expires_at = now() + interval '1 hour'",
    "send_started_at = now()",
    "status = 'sent', sent_at = now(), attempts = 1, lease_expires_at = NULL, send_started_at = NULL",
)
"""What claim, begin and settle write."""
SMALL = {"TimeZone": "UTC", "jit": "off", "enable_seqscan": "off", "enable_bitmapscan": "off"}
"""Of a table with so few rows the planner might read all; of millions it never would."""
CLAIMED = "SELECT id FROM user_alert_deliveries WHERE claimed_by = $1"
LAST_SENT = "SELECT created_at FROM user_alert_deliveries ORDER BY created_at, id OFFSET $1 - 1 LIMIT 1"
PER_ROW = 40
"""Pages that one row may cost: its own, those of the indexes that get an entry, and of the user's destination."""


@asynccontextmanager
async def worn_out(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Deliveries that were sent, to their last few rows; each left dead entries, which vacuum may not clean."""
    ground.add_deliveries(url, ground.add_users(url, ROWS), "email")
    analyst = await asyncpg.connect(url)
    connection = await asyncpg.connect(url, server_settings=SMALL)
    try:
        await analyst.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users")
        last = await connection.fetchval(LAST_SENT, ROWS - LEFT)
        for written in SENT_BEFORE:
            await connection.execute(f"UPDATE user_alert_deliveries SET {written} WHERE created_at <= $1", last)
        await connection.execute("VACUUM ANALYZE")
        yield connection
    finally:
        await connection.close()
        await analyst.close()


async def pages(connection: asyncpg.Connection, name: str, **values: Any) -> int:
    """How many pages of tables and indexes the statement touches."""
    statement = load("phase_c_send")[name]
    arguments = [values.get(parameter.name) for parameter in statement.parameters]
    (row,) = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}", *arguments)
    plan = json.loads(row[0])[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def claim(connection: asyncpg.Connection, **floor: Any) -> int:
    return await pages(
        connection, "claim_deliveries",
        channel="email", claim_size=CLAIM, run_id=RUN, lease=timedelta(hours=1), resting=[], set_aside=[],
        **floor,
    )  # fmt: skip


async def test_a_claim_begins_where_the_last_one_ended(database_url: str):
    """Under an old snapshot the dead head of the index is walked over once, not by each claim (SPEC section 16)."""
    async with worn_out(database_url) as connection:
        from_the_head = await claim(connection)
        last = await connection.fetchrow(LAST_CLAIMED, RUN)
        from_the_last = await claim(connection, new_from=last["created_at"], new_from_id=last["id"])
    assert from_the_last < PER_ROW * CLAIM
    assert from_the_head > ROWS - LEFT, "there was something to walk over"


async def test_begin_and_settle_go_by_the_primary_key(database_url: str):
    """However many entries of sends that are over the index of leases still has (SPEC section 16)."""
    async with worn_out(database_url) as connection:
        await claim(connection)
        claimed = [row["id"] for row in await connection.fetch(CLAIMED, RUN)]
        assert len(claimed) == CLAIM
        begun = await pages(connection, "begin_deliveries", ids=claimed, run_id=RUN, send_time=timedelta(seconds=20))
        settled = await pages(
            connection, "settle_deliveries", run_id=RUN, ids=claimed, statuses=["sent"] * CLAIM, attempts=[1] * CLAIM,
            retry_seconds=[None] * CLAIM, errors=[None] * CLAIM, failure_kinds=[None] * CLAIM,
            provider_message_ids=["id"] * CLAIM, called=[True] * CLAIM,
        )  # fmt: skip
        sent = await connection.fetchval("SELECT count(*) FROM user_alert_deliveries WHERE status = 'sent'")
    assert begun < PER_ROW * CLAIM
    assert settled < PER_ROW * CLAIM
    assert sent == ROWS - LEFT + CLAIM, "they did what they are for"
