"""The fan-out's statements on a filled database: their plans read what they need, and no table as a whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from alerts_engine.database import connect
from alerts_engine.phases import fan_out, one_page, pages
from alerts_engine.phases.plans import channels_as_json, plans_as_json
from tests.support.audience import add_audience, add_event
from tests.support.world import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from alerts_engine.statements import Statement

USERS, EVENTS = 20_000, 6
NOW = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
MIDDLE, END = 10_000, 11_000
"""A page of a thousand users."""
DELIVERIES = """
INSERT INTO user_alert_deliveries
       (user_id, alert_event_id, channel, delivery_kind, created_at, quota_day)
SELECT u.id, e.id, 'email', 'instant', $1::timestamptz - make_interval(days => e.id::int),
       ($1::timestamptz - make_interval(days => e.id::int))::date
  FROM users AS u
 CROSS JOIN alert_events AS e
 WHERE e.fanout_completed_at IS NOT NULL
"""
QUOTAS = """
INSERT INTO user_alert_quotas (user_id, channel, quota_day, made, counted_at)
SELECT u.id, 'email', $1::timestamptz::date, 1, $1::timestamptz
  FROM users AS u
"""
BIG_TABLES = {"user_alert_deliveries", "user_alert_quotas", "users", "user_plans", "user_alert_prefs"}


@pytest.fixture
async def filled(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """100,000 deliveries of five past days, and one event that waits; every table is analysed."""
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC", "jit": "off"})
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await add_audience(connection, USERS)
    for number in range(EVENTS):
        await add_event(connection, f"event {number}", NOW - timedelta(hours=1))
    await connection.execute("UPDATE alert_events SET fanout_completed_at = created_at WHERE id < $1", EVENTS)
    await connection.execute(DELIVERIES, NOW)
    await connection.execute(QUOTAS, NOW)
    await connection.execute("VACUUM ANALYZE")
    yield connection
    await connection.close()


@pytest.mark.slow
async def test_no_statement_of_the_fan_out_reads_a_whole_table(filled: asyncpg.Connection, database_url: str):
    """Neither deliveries, nor users and what they want beyond the page (SPEC section 16)."""
    async with connect(database_url) as database:
        plans = await plans_as_json(database, settings(database_url))
    page = {
        "time_zone": "Europe/Amsterdam",
        "plans": plans,
        "allowlist": None,
        "channels": channels_as_json(),
        "overflow": True,
    }
    behind = {"after_user": MIDDLE, "last_user": END}
    window = {"now": NOW, "since": timedelta(hours=24)}
    orders: list[tuple[Statement, dict[str, Any]]] = [
        (fan_out.pending_events, {**window, "most": 1_000}),
        (fan_out.events_outside_window, window),
        (pages.next_pages, {"after_user": MIDDLE, "page_size": (END - MIDDLE) // 2, "worth_two": 2}),
        (one_page.fan_out_page, {"event_ids": [EVENTS], "now": NOW, **behind, **page, "record": True}),
        (one_page.fan_out_page, {"event_ids": [EVENTS], "now": NOW, **behind, **page, "record": False}),
        (one_page.advance_fan_out, {"event_ids": [EVENTS], "last_user": END, "completed": False, "now": NOW}),
    ]
    for statement, values in orders:
        assert await _read_as_a_whole(filled, statement, values) & BIG_TABLES == set(), statement.definition.name


async def test_a_sequential_scan_is_seen(filled: asyncpg.Connection):
    """The search of the plans finds what it is there for (SPEC section 16)."""
    (row,) = await filled.fetch("EXPLAIN (FORMAT JSON) SELECT count(*) FROM users WHERE email <> ''")
    assert set(_sequential_scans(json.loads(row[0]))) == {"users"}


async def _read_as_a_whole(connection: asyncpg.Connection, statement: Statement, values: dict[str, Any]) -> set[str]:
    """The tables that the statement would scan sequentially, planned as in a page's transaction."""
    async with connection.transaction():
        await connection.execute(
            one_page.begin_page.definition.text.replace("$1", "1").replace("$2", "'20s'").replace("$3", "'60s'")
        )
        (row,) = await connection.fetch(
            f"EXPLAIN (FORMAT JSON) {statement.definition.text}", *statement.definition.bind(values)
        )
    return set(_sequential_scans(json.loads(row[0])))


def _sequential_scans(plan: Any) -> Iterator[str]:
    if isinstance(plan, list):
        for part in plan:
            yield from _sequential_scans(part)
    elif isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan":
            yield plan["Relation Name"]
        for part in plan.values():
            yield from _sequential_scans(part)
