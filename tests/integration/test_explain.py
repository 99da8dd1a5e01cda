"""Explain cannot disagree with the fan-out: the same statement decides (SPEC B-9)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from alerts_engine import AlertsEngine, Channel, Kind, Phase
from alerts_engine.commands.tables.explain import explanation_tables
from alerts_engine.database import connect
from alerts_engine.errors import NotFoundError
from alerts_engine.operations.explain import Answer, Explanation, Verdict, explain
from alerts_engine.types import Refusal
from tests.integration.test_fan_out_property import _deliveries, _empty, _insert
from tests.support.oracle import fan_out as oracle
from tests.support.oracle.strategies import cooldown_worlds, preference_worlds, quota_worlds, worlds
from tests.support.world import (
    DAY,
    HOUR,
    NOW,
    add_delivery,
    add_event,
    add_preference,
    add_user,
    prepared,
    run,
    settings,
    switch_channel,
)

if TYPE_CHECKING:
    import psycopg

    from tests.support.oracle.world import World

MINUTE = timedelta(minutes=1)
EXAMPLES = int(os.environ.get("FAN_OUT_EXAMPLES", "30"))


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


# --- against the fan-out and its oracle -----------------------------------------------------------------------------


def _one_event(world: World) -> World:
    """The same world with its first pending event alone, and no deliveries that the future has yet to bring."""
    pending = next(event for event in world.events if not event.fanned_out)
    known = {event.id for event in world.events if event.fanned_out}
    return replace(
        world,
        since_hours=0,
        events=tuple(event for event in world.events if event.id in known or event is pending),
        deliveries=tuple(one for one in world.deliveries if one.event_id in known and one.created_at < world.now),
    )


@hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=(worlds() | preference_worlds() | cooldown_worlds() | quota_worlds()).map(_one_event))
def test_explain_says_before_the_fan_out_what_it_does_and_after_it_what_it_did(database_url: str, world: World):
    """Whatever the users, plans, preferences and earlier deliveries are, for one pending event (B-9)."""
    asyncio.run(_compare(database_url, world))


async def _compare(database_url: str, world: World) -> None:
    pending = next(event for event in world.events if not event.fanned_out)
    given = settings(
        database_url,
        plan_quotas=world.plan_quotas,
        time_zone=world.time_zone,
        send_allowlist_user_ids=world.allowlist,
        quota_overflow=world.quota_overflow,
    )
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC"})
    async with AlertsEngine(given) as engine:
        await _empty(connection)
        await _insert(connection, world)
        before = [await _explained(engine, world, user.id, pending.id) for user in world.users]
        await engine.run(Phase.B, now=world.now, since_hours=0)
        made = {(one.user_id, one.channel) for one in await _deliveries(connection) if one.event_id == pending.id}
        after = [await _explained(engine, world, user.id, pending.id) for user in world.users]
    await connection.close()
    assert _verdicts(before) == _expected(world)
    assert {key for key, verdict in _verdicts(before).items() if verdict is Verdict.DELIVER} == made
    assert [one.event.reached for one in before + after] == [False] * len(before) + [True] * len(after)
    # Nothing has changed since, so that the reasons are still the same.
    assert _verdicts(after) == _verdicts(before)


async def _explained(engine: AlertsEngine, world: World, user_id: int, event_id: int) -> Explanation:
    (found,) = await explain(engine.database, engine.settings, user_id=user_id, event_id=event_id, now=world.now)
    return found


def _verdicts(explanations: list[Explanation]) -> dict[tuple[int, Channel], Answer]:
    return {(one.user_id, decision.channel): decision.verdict for one in explanations for decision in one.decisions}


_ORACLE_VERDICTS = {
    oracle.Verdict.PLAN: Refusal.PLAN,
    oracle.Verdict.PREFS: Refusal.PREFS,
    oracle.Verdict.MISSING_DESTINATION: Refusal.MISSING_DESTINATION,
    oracle.Verdict.QUOTA: Refusal.QUOTA,
    oracle.Verdict.DELIVER: Verdict.DELIVER,
}


def _expected(world: World) -> dict[tuple[int, Channel], Answer]:
    """What the oracle says; it does not look at those who are not considered."""
    unseen = {
        (user.id, channel): Verdict.EMAIL_UNVERIFIED if user.email_verified is False else Verdict.NOT_IN_ALLOWLIST
        for user in world.users
        for channel in Channel
    }
    return unseen | {
        (one.user.id, one.channel): _ORACLE_VERDICTS[one.verdict] for one in oracle.fan_out(world).decisions
    }


# --- the facts ------------------------------------------------------------------------------------------------------


async def _explain(url: str, user: int, event: int | None = None, **fields: object) -> list[Explanation]:
    async with connect(url) as database:
        return await explain(database, settings(url, **fields), user_id=user, event_id=event, now=NOW)


async def _decisions(url: str, user: int, event: int, **fields: object) -> dict[Channel, tuple[Answer, object]]:
    (found,) = await _explain(url, user, event, **fields)
    return {decision.channel: (decision.verdict, decision.facts) for decision in found.decisions}


async def test_each_preference_row_says_which_of_its_conditions_fail(db: psycopg.Connection, database_url: str):
    """Region, type, asset, threshold and its switch are told apart (B-4)."""
    user = add_user(db, "pro")
    add_preference(db, user, region="Asia")
    add_preference(db, user, "ASSET_RISK_SPIKE", asset="oil", threshold=80)
    add_preference(db, user, "ASSET_RISK_SPIKE", asset="gas", enabled=False)
    add_preference(db, user, "ASSET_RISK_SPIKE", region="global", cooldown_minutes=30)
    event = add_event(db, alert_type="ASSET_RISK_SPIKE", assets=["gas"], value=75)
    (found,) = await _explain(database_url, user, event)
    assert [one.failed_conditions for one in found.preferences] == [
        ("alert_type", "region"), ("asset", "threshold"), ("enabled",), (),
    ]  # fmt: skip
    assert [one.matches for one in found.preferences] == [False, False, False, True]
    assert found.preferences[1].row.threshold == 80
    assert found.decisions[0].verdict is Verdict.DELIVER


async def test_of_many_preferences_those_that_decide_are_shown(db: psycopg.Connection, database_url: str):
    """A hundred rows are enough to understand; the one with the shortest cooldown is among them (B-4)."""
    user = add_user(db, "pro")
    for minutes in range(149, -1, -1):
        add_preference(db, user, region="Europe" if minutes < 120 else "Asia", cooldown_minutes=minutes + 5)
    (found,) = await _explain(database_url, user, add_event(db))
    assert (len(found.preferences), found.preferences_left_out) == (100, 50)
    assert all(one.matches for one in found.preferences)
    assert min(one.cooldown_minutes for one in found.preferences) == 5
    assert found.decisions[0].facts.cooldown_minutes == 5


async def test_quota_says_how_much_of_how_many_is_used(db: psycopg.Connection, database_url: str):
    """Before the cap the delivery says so, too (B-5, B-7)."""
    user = add_user(db, "personal")
    for _ in range(3):
        add_delivery(db, user, add_event(db, fanned_out=True), created_at=NOW - HOUR)
    event = add_event(db)
    verdict, facts = (await _decisions(database_url, user, event))[Channel.EMAIL]
    assert (verdict, facts.used, facts.per_day, facts.plan) == (Verdict.DELIVER, 3, 4, "personal")
    add_delivery(db, user, add_event(db, fanned_out=True), created_at=NOW - HOUR)
    verdict, facts = (await _decisions(database_url, user, event))[Channel.EMAIL]
    assert (verdict, facts.used, facts.per_day) == (Refusal.QUOTA, 4, 4)


async def test_what_the_quota_moves_to_the_digest_is_said(db: psycopg.Connection, database_url: str):
    """Before the fan-out and after it (B-7, B-9)."""
    user = add_user(db, "personal")
    for _ in range(4):
        add_delivery(db, user, add_event(db, fanned_out=True), created_at=NOW - HOUR)
    event = add_event(db)
    for _ in range(2):
        configured = settings(database_url, quota_overflow="digest")
        async with connect(database_url) as database:
            (found,) = await explain(database, configured, user_id=user, event_id=event, now=NOW)
        email = next(one for one in found.decisions if one.channel == Channel.EMAIL)
        assert (email.verdict, email.kind, email.facts.over_quota) == (Verdict.DELIVER, Kind.DIGEST, True)
        assert (email.facts.used, email.facts.per_day) == (4, 4)
        (text,) = [row[2] for table in explanation_tables(found) for row in table.rows if row[0] == "email"]
        assert text.endswith("; 4 of 4 a day are used, so it goes into the digest (plan personal)")
        await run(database_url, Phase.B, fields={"quota_overflow": "digest"})


async def test_a_type_that_the_reader_stopped_is_said(db: psycopg.Connection, database_url: str):
    """On its channel alone, and no other type (SPEC U-3, B-9)."""
    user = add_user(db, "pro", telegram="1")
    event, other = add_event(db), add_event(db, alert_type="OUTAGE", region=None)
    db.execute("INSERT INTO user_alert_stops VALUES (%s, 'email', 'HIGH_IMPACT_EVENT')", [user])
    (found,) = await _explain(database_url, user, event)
    email, telegram, _ = found.decisions
    assert (email.verdict, email.facts.stopped, telegram.verdict) == (Refusal.PREFS, True, Verdict.DELIVER)
    (text,) = [row[2] for table in explanation_tables(found) for row in table.rows if row[0] == "email"]
    assert text == "the user has stopped HIGH_IMPACT_EVENT on email"
    (found,) = await _explain(database_url, user, other)
    assert not found.decisions[0].facts.stopped


async def test_cooldown_says_when_the_user_last_heard_of_it(db: psycopg.Connection, database_url: str):
    """And how long the row asks to be left alone (B-4)."""
    user = add_user(db, "pro")
    add_preference(db, user, cooldown_minutes=120)
    earlier = add_event(db, cooldown_key="pipeline", fanned_out=True)
    add_delivery(db, user, earlier, created_at=NOW - HOUR)
    event = add_event(db, cooldown_key="pipeline")
    verdict, facts = (await _decisions(database_url, user, event))[Channel.EMAIL]
    assert (verdict, facts.cooldown_minutes, facts.heard_at) == (Refusal.PREFS, 120, NOW - HOUR)


async def test_each_channel_has_its_own_reason(db: psycopg.Connection, database_url: str):
    """A switched-off channel, a missing chat and a plan without SMS (B-4)."""
    user = add_user(db, "trader")
    switch_channel(db, user, "email", enabled=False)
    decisions = await _decisions(database_url, user, add_event(db))
    assert {channel: verdict for channel, (verdict, _) in decisions.items()} == {
        Channel.EMAIL: Refusal.PREFS,
        Channel.TELEGRAM: Refusal.MISSING_DESTINATION,
        Channel.SMS: Refusal.PLAN,
    }
    assert decisions[Channel.EMAIL][1].switched_off
    assert not decisions[Channel.TELEGRAM][1].destination_present
    assert decisions[Channel.SMS][1].per_day is None


async def test_those_who_are_not_looked_at_learn_why(db: psycopg.Connection, database_url: str):
    """An address that is not verified, and an allowlist (B-4, B-10)."""
    event, unverified, other = add_event(db), add_user(db, "pro", verified=False), add_user(db, "pro")
    assert set((await _decisions(database_url, unverified, event)).values()) == {(Verdict.EMAIL_UNVERIFIED, None)}
    outside = await _decisions(database_url, other, event, send_allowlist_user_ids=(unverified,))
    assert set(outside.values()) == {(Verdict.NOT_IN_ALLOWLIST, None)}


# --- after the fan-out ----------------------------------------------------------------------------------------------


async def test_what_was_made_stays_made_whatever_the_preferences_are_today(db: psycopg.Connection, database_url: str):
    """The verdict is what the fan-out did; what would be decided today stands beside it (B-9)."""
    user, late = add_user(db, "pro"), add_user(db, "free", email=" ")
    event = add_event(db)
    await run(database_url, Phase.B)
    add_preference(db, user, region="Asia")
    db.execute("UPDATE users SET email = 'late@example.test' WHERE id = %s", [late])
    (of_user,), (of_late,) = await _explain(database_url, user, event), await _explain(database_url, late, event)
    assert of_user.decided_at == NOW
    email, late_email = of_user.decisions[0], of_late.decisions[0]
    assert (email.verdict, email.today) == (Verdict.DELIVER, Refusal.PREFS)
    assert (late_email.verdict, late_email.today) == (Verdict.CHANGED_SINCE, Verdict.DELIVER)


async def test_what_happened_since_is_the_delivery_or_its_digest(db: psycopg.Connection, database_url: str):
    """Queued deliveries, and for a digest its state and when it is due (D-4)."""
    instant, batched = add_user(db, "pro"), add_user(db, "free")
    event = add_event(db)
    await run(database_url, Phase.ALL, fields={"channels_paused": tuple(Channel)})
    ((sent,),) = [one.decisions[0].deliveries for one in await _explain(database_url, instant, event)]
    ((item,),) = [one.decisions[0].deliveries for one in await _explain(database_url, batched, event)]
    assert (sent.kind, sent.status, sent.digest_id) == (Kind.INSTANT, "queued", None)
    midnight = NOW.replace(hour=23)
    assert (item.kind, item.digest_status, item.digest_due_at) == (Kind.DIGEST, "queued", midnight + 10 * MINUTE)


async def test_an_earlier_decision_does_not_see_what_came_later(db: psycopg.Connection, database_url: str):
    """Quota and cooldown are those of the fan-out's moment (B-9)."""
    user = add_user(db, "personal")
    event = add_event(db, NOW - 3 * HOUR)
    await run(database_url, Phase.B, now=NOW - 2 * HOUR)
    for _ in range(4):
        add_delivery(db, user, add_event(db, fanned_out=True), created_at=NOW - HOUR)
    (found,) = await _explain(database_url, user, event)
    assert found.decided_at == NOW - 2 * HOUR
    assert (found.decisions[0].today, found.decisions[0].facts.used) == (Verdict.DELIVER, 0)


async def test_without_an_event_the_ten_newest_are_explained(db: psycopg.Connection, database_url: str):
    """Newest first."""
    user = add_user(db, "pro")
    events = [add_event(db, NOW - DAY + number * HOUR) for number in range(12)]
    found = await _explain(database_url, user)
    assert [one.event.id for one in found] == events[:1:-1]


async def test_unknown_user_and_unknown_event_are_told_apart(db: psycopg.Connection, database_url: str):
    """The error names the one that is missing (CLI-2)."""
    user = add_user(db)
    with pytest.raises(NotFoundError, match="there is no event 12345"):
        await _explain(database_url, user, 12345)
    with pytest.raises(NotFoundError, match="there is no user 54321"):
        await _explain(database_url, 54321, add_event(db))
