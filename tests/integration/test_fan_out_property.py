"""Fan-out in a real database against the plain decision of ``tests.support.oracle``, row by row and count by count."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.phases import group, pages
from alerts_engine.types import Kind, Status
from tests.support.oracle.fan_out import FanOut, fan_out
from tests.support.oracle.strategies import (
    cooldown_worlds,
    histories,
    plan_worlds,
    preference_worlds,
    quota_worlds,
    worlds,
)
from tests.support.oracle.world import Delivery, Event, World
from tests.support.world import NOT_STOPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EXAMPLES = int(os.environ.get("FAN_OUT_EXAMPLES", "30"))
"""Worlds to draw in the general test; each of the narrow ones draws half as many."""


def _examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    # One database serves all examples of a test: each starts by emptying it.
    unfit = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=unfit)


@_examples(EXAMPLES)
@given(world=worlds())
def test_fan_out_decides_as_the_specification_says(database_url: str, world: World):
    """Whatever the users, plans, preferences and earlier deliveries are (SPEC B-1 to B-10)."""
    asyncio.run(_compare(database_url, [world]))


@pytest.mark.slow
@_examples(EXAMPLES // 2)
@given(world=plan_worlds())
def test_plans_allow_what_their_settings_say(database_url: str, world: World):
    """However incomplete the settings are (SPEC B-5, B-6)."""
    asyncio.run(_compare(database_url, [world]))


@pytest.mark.slow
@_examples(EXAMPLES // 2)
@given(world=preference_worlds())
def test_preference_rows_match_as_a_whole(database_url: str, world: World):
    """Region, type, asset, threshold, switches and destinations decide in order (SPEC B-4)."""
    asyncio.run(_compare(database_url, [world]))


@pytest.mark.slow
@_examples(EXAMPLES // 2)
@given(world=cooldown_worlds())
def test_a_cooldown_holds_against_earlier_deliveries_and_within_a_run(database_url: str, world: World):
    """The older event goes first (SPEC B-4)."""
    asyncio.run(_compare(database_url, [world]))


@pytest.mark.slow
@_examples(EXAMPLES // 2)
@given(world=quota_worlds())
def test_quotas_count_the_local_day(database_url: str, world: World):
    """Also beside midnight on the days when the clocks change (SPEC B-7)."""
    asyncio.run(_compare(database_url, [world]))


@pytest.mark.slow
@_examples(EXAMPLES // 2)
@given(history=histories(worlds() | cooldown_worlds() | quota_worlds()))
def test_a_later_run_decides_on_what_the_first_one_left(database_url: str, history: tuple[World, ...]):
    """Also when events have lost their marker and must not be delivered twice (SPEC B-2, B-7)."""
    asyncio.run(_compare(database_url, history))


@pytest.mark.slow
@_examples(EXAMPLES // 2)
@given(history=histories(worlds() | quota_worlds()))
def test_pages_side_by_side_decide_as_one_would(database_url: str, history: tuple[World, ...]):
    """Of two users each, down to the counts (SPEC B-2, B-8)."""
    with pytest.MonkeyPatch.context() as patch:
        for module, limit in ((group, "SMALLEST_PAGE"), (group, "LARGEST_PAGE"), (pages, "WORTH_TWO_PAGES")):
            patch.setattr(module, limit, 2)
        asyncio.run(_compare(database_url, history))


# --- the comparison ----------------------------------------------------------------------------------------


async def _compare(database_url: str, history: Iterable[World]) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC"})
    try:
        await _empty(connection)
        before = None
        for world in history:
            await (_insert(connection, world) if before is None else _change(connection, before, world))
            counts = await _run_phase_b(database_url, world)
            outcome = fan_out(world)
            assert await _deliveries(connection) == {*world.deliveries, *outcome.created}
            assert await _completed(connection) == _expected_completed(world, outcome)
            assert counts == outcome.counts | NOT_STOPPED
            assert await _not_fresh(connection, world) == []
            before = world
    finally:
        await connection.close()


async def _run_phase_b(database_url: str, world: World) -> dict[str, object]:
    settings_of_run = Settings(
        database_url=database_url,
        plan_quotas=world.plan_quotas,
        time_zone=world.time_zone,
        send_allowlist_user_ids=world.allowlist,
        quota_overflow=world.quota_overflow,
    )
    async with AlertsEngine(settings_of_run) as engine:
        report = await engine.run(Phase.B, now=world.now, since_hours=world.since_hours)
    (phase,) = report.phases
    assert phase.error is None
    return dict(phase.counts)


def _expected_completed(world: World, outcome: FanOut) -> set[int]:
    return {event.id for event in world.events if event.fanned_out} | outcome.completed_event_ids


async def _deliveries(connection: asyncpg.Connection) -> set[Delivery]:
    rows = await connection.fetch(
        "SELECT alert_event_id, user_id, channel, delivery_kind, status, created_at::timestamptz, over_quota,"
        " delivery_kind = 'instant' AND last_error IS NOT DISTINCT FROM 'batched_into_digest'"
        " FROM user_alert_deliveries"
    )
    return {Delivery(*row[:3], Kind(row[3]), Status(row[4]), *row[5:]) for row in rows}


async def _completed(connection: asyncpg.Connection) -> set[int]:
    rows = await connection.fetch("SELECT id FROM alert_events WHERE fanout_completed_at IS NOT NULL")
    return {row["id"] for row in rows}


async def _not_fresh(connection: asyncpg.Connection, world: World) -> list[int]:
    """Deliveries of the run that are not as new ones must be: due at once, never tried, nobody's."""
    old_ids = [delivery.event_id for delivery in world.deliveries]
    rows = await connection.fetch(
        "SELECT id FROM user_alert_deliveries WHERE alert_event_id <> ALL ($1::int8[])"
        " AND (attempts, num_nonnulls(next_retry_at, last_error, failure_kind, sent_at, provider_message_id,"
        " claimed_by, lease_expires_at)) <> (0, 0)",
        old_ids,
    )
    return [row["id"] for row in rows]


# --- the world in the database -----------------------------------------------------------------------------


async def _empty(connection: asyncpg.Connection) -> None:
    await connection.execute("TRUNCATE users, plan_settings, alert_events, alerts_engine_runs CASCADE")


async def _insert(connection: asyncpg.Connection, world: World) -> None:
    async with connection.transaction():
        await _insert_plans_and_users(connection, world)
        await _insert_events(connection, world.events)
        await connection.executemany(
            "INSERT INTO user_alert_deliveries (alert_event_id, user_id, channel, delivery_kind, created_at)"
            " VALUES ($1, $2, $3, $4, $5::timestamptz)",
            [(one.event_id, one.user_id, one.channel, one.kind, one.created_at) for one in world.deliveries],
        )
        await _settle(connection, world.deliveries)


async def _change(connection: asyncpg.Connection, before: World, world: World) -> None:
    """Lead a database that has run ``before`` to ``world``: new events, unmarked events, settled deliveries."""
    known = {event.id for event in before.events}
    async with connection.transaction():
        await _insert_events(connection, [event for event in world.events if event.id not in known])
        await connection.execute(
            "UPDATE alert_events SET fanout_completed_at = NULL, fanout_position = 0 WHERE id = ANY ($1::int8[])",
            [event.id for event in world.events if not event.fanned_out],
        )
        await _settle(connection, world.deliveries)


async def _insert_plans_and_users(connection: asyncpg.Connection, world: World) -> None:
    await connection.executemany(
        "INSERT INTO plan_settings (plan_code, display_name, monthly_price_usd, allowed_alert_types,"
        " max_email_alerts_per_day, delivery_config, is_active) VALUES ($1, $1, 0, $2, $3, $4, $5)",
        [
            (one.plan_code, one.allowed_alert_types, one.max_email_alerts_per_day, one.delivery_config, one.is_active)
            for one in world.plan_settings
        ],
    )
    await connection.executemany(
        "INSERT INTO users (id, email, telegram_chat_id, phone_number, email_verified) VALUES ($1, $2, $3, $4, $5)",
        [(user.id, user.email, user.telegram_chat_id, user.phone_number, user.email_verified) for user in world.users],
    )
    await connection.executemany(
        "INSERT INTO user_plans (user_id, plan) VALUES ($1, $2)",
        [(user.id, user.plan) for user in world.users if user.plan is not None],
    )
    await connection.executemany(
        "INSERT INTO user_notification_settings (user_id, digest_only) VALUES ($1, $2)",
        [(user.id, user.digest_only) for user in world.users if user.digest_only is not None],
    )
    await connection.executemany(
        "INSERT INTO user_channel_preferences (user_id, channel, enabled) VALUES ($1, $2, $3)",
        [(user.id, channel, enabled) for user in world.users for channel, enabled in user.switches],
    )
    await connection.executemany(
        "INSERT INTO user_alert_stops (user_id, channel, alert_type) VALUES ($1, $2, $3)",
        [(user.id, channel, alert_type) for user in world.users for channel, alert_type in user.stops],
    )
    await connection.executemany(
        "INSERT INTO user_alert_prefs (user_id, region, alert_type, asset, threshold, enabled, cooldown_minutes)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (user.id, row.region, row.alert_type, row.asset, row.threshold, row.enabled, row.cooldown_minutes)
            for user in world.users
            for row in user.preferences
        ],
    )


async def _insert_events(connection: asyncpg.Connection, events: Iterable[Event]) -> None:
    await connection.executemany(
        "INSERT INTO alert_events (id, alert_type, scope_region, scope_assets, severity, headline, body,"
        " cooldown_key, event_fingerprint, payload, created_at, fanout_completed_at)"
        " VALUES ($1, $2, $3, $4, $5, 'headline', 'body', $6, 'event ' || $1::int8, $7, $8::timestamptz,"
        " CASE WHEN $9 THEN $8::timestamptz END)",
        [
            (one.id, one.alert_type, one.scope_region, one.scope_assets, one.severity, one.cooldown_key, one.payload,
             one.created_at, one.fanned_out)
            for one in events
        ],
    )  # fmt: skip


async def _settle(connection: asyncpg.Connection, deliveries: Iterable[Delivery]) -> None:
    """Bring rows to their status, with what the states of a delivery require (SPEC DB-7)."""
    await connection.executemany(
        "UPDATE user_alert_deliveries SET status = $5,"
        " sent_at = CASE WHEN $5 = 'sent' THEN created_at END,"
        " claimed_by = CASE WHEN $5 = 'sending' THEN 'another run' END,"
        " lease_expires_at = CASE WHEN $5 = 'sending' THEN created_at + INTERVAL '5 minutes' END,"
        " last_error = CASE WHEN $6 THEN 'batched_into_digest'"
        " WHEN $5 IN ('failed', 'skipped') THEN 'some_reason' END,"
        " failure_kind = CASE WHEN $5 = 'failed' THEN 'permanent' END"
        " WHERE (alert_event_id, user_id, channel, delivery_kind) = ($1, $2, $3, $4)",
        [(one.event_id, one.user_id, one.channel, one.kind, one.status, one.bundled) for one in deliveries],
    )
