"""SPEC phase B, decided one event, user and channel at a time: slow, and easy to check against the text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from alerts_engine.types import Channel, Kind, Status
from tests.support.oracle.plans import FREE, Plan, parse_object, plan_of
from tests.support.oracle.world import Delivery, Event, Preference, User, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Verdict(StrEnum):
    """The answer for one event, user and channel; the order is the order of the checks (SPEC B-4)."""

    PLAN = "plan"
    PREFS = "prefs"
    MISSING_DESTINATION = "missing_dest"
    QUOTA = "quota"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Decision:
    event: Event
    user: User
    channel: Channel
    kind: Kind
    verdict: Verdict
    over_quota: bool = False


@dataclass(frozen=True, slots=True)
class FanOut:
    """What a run of phase B comes to."""

    decisions: tuple[Decision, ...]
    created: frozenset[Delivery]
    completed_event_ids: frozenset[int]
    counts: dict[str, int | bool]
    """SPEC B-8."""


def fan_out(world: World) -> FanOut:
    """Decide every event of the window for every considered user (SPEC B-1 … B-10)."""
    waiting = [event for event in world.events if not event.fanned_out]
    events = sorted((event for event in waiting if _in_window(event, world)), key=_age_order)
    considered = [user for user in world.users if user.email_verified is not False]
    allowed = [user for user in considered if world.allowlist is None or user.id in world.allowlist]
    decisions = tuple(decision for user in allowed for decision in _decide_user(user, events, world))
    delivered = (decision for decision in decisions if decision.verdict is Verdict.DELIVER)
    counts = _verdict_counts(decisions) | {
        "deliveries_moved_to_digest": sum(decision.over_quota for decision in decisions),
        "events_processed": len(events),
        "users_considered": len(events) * len(considered),
        "users_set_aside": 0,
        "events_outside_window": len(waiting) - len(events),
        "allowlist_active": world.allowlist is not None,
        "users_skipped_allowlist": len(events) * (len(considered) - len(allowed)),
    }
    return FanOut(
        decisions=decisions,
        created=frozenset(_delivery(decision, world) for decision in delivered),
        completed_event_ids=frozenset(event.id for event in events),
        counts=counts,
    )


def world_after(world: World, outcome: FanOut) -> World:
    """The world as the run leaves it."""
    return replace(
        world,
        events=tuple(
            replace(event, fanned_out=event.fanned_out or event.id in outcome.completed_event_ids)
            for event in world.events
        ),
        deliveries=(*world.deliveries, *sorted(outcome.created, key=repr)),
    )


def _in_window(event: Event, world: World) -> bool:
    return world.since_hours == 0 or event.created_at >= world.now - timedelta(hours=world.since_hours)


def _age_order(event: Event) -> tuple[object, ...]:
    return event.created_at, event.id


def _quota_order(decision: Decision) -> tuple[object, ...]:
    return -decision.event.severity, *_age_order(decision.event)


def _delivery(decision: Decision, world: World) -> Delivery:
    return Delivery(
        event_id=decision.event.id,
        user_id=decision.user.id,
        channel=decision.channel.value,
        kind=decision.kind,
        status=Status.QUEUED,
        created_at=world.now,
        over_quota=decision.over_quota or None,
    )


def _verdict_counts(decisions: Iterable[Decision]) -> dict[str, int | bool]:
    verdicts = [decision.verdict for decision in decisions]
    created_kinds = [decision.kind for decision in decisions if decision.verdict is Verdict.DELIVER]
    skipped = {f"deliveries_skipped_{verdict}": verdicts.count(verdict) for verdict in list(Verdict)[:-1]}
    return skipped | {
        "deliveries_created": len(created_kinds),
        "created_instant": created_kinds.count(Kind.INSTANT),
        "created_digest": created_kinds.count(Kind.DIGEST),
    }


# --- one user ----------------------------------------------------------------------------------------------


def _decide_user(user: User, events: list[Event], world: World) -> Iterator[Decision]:
    candidates: list[Decision] = []
    taken_keys: set[str] = set()
    for event in events:
        decisions = [
            _decide_before_quota(event, user, channel, taken_keys, world)
            for channel in Channel
            if not _already_delivered(event, user, channel, world)
        ]
        if any(decision.verdict is Verdict.DELIVER for decision in decisions):
            taken_keys.add(event.cooldown_key)
        candidates += decisions
    for channel in Channel:
        yield from _apply_quota(user, channel, [one for one in candidates if one.channel is channel], world)


def _already_delivered(event: Event, user: User, channel: Channel, world: World) -> bool:
    decided = (event.id, user.id, channel.value)
    return any((old.event_id, old.user_id, old.channel) == decided for old in world.deliveries)


def _decide_before_quota(event: Event, user: User, channel: Channel, taken_keys: set[str], world: World) -> Decision:
    plan = plan_of(user, world)
    kind = _kind(user, plan, channel)
    if not (plan.allows(event.alert_type) and _channel_allowed(kind, plan, channel)):
        verdict = Verdict.PLAN
    elif (
        (channel, False) in user.switches
        or (channel, event.alert_type) in user.stops
        or not _wants(user, event, taken_keys, world)
    ):
        verdict = Verdict.PREFS
    elif not (_destination(user, channel) or "").strip():
        verdict = Verdict.MISSING_DESTINATION
    else:
        verdict = Verdict.DELIVER
    return Decision(event, user, channel, kind, verdict)


def _destination(user: User, channel: Channel) -> str | None:
    return {
        Channel.EMAIL: user.email,
        Channel.TELEGRAM: user.telegram_chat_id,
        Channel.SMS: user.phone_number,
    }[channel]


def _kind(user: User, plan: Plan, channel: Channel) -> Kind:
    if user.digest_only or plan.name == FREE or plan.instant[channel] == 0:
        return Kind.DIGEST
    return Kind.INSTANT


def _channel_allowed(kind: Kind, plan: Plan, channel: Channel) -> bool:
    if plan.instant[channel] is None:
        return False
    return kind is Kind.INSTANT or (channel is not Channel.SMS and plan.digests > 0)


# --- preferences -------------------------------------------------------------------------------------------


def _wants(user: User, event: Event, taken_keys: set[str], world: World) -> bool:
    rows = user.preferences or (Preference(region="Europe", alert_type="HIGH_IMPACT_EVENT"),)
    return any(
        row.enabled is True
        and _region_matches(row, event)
        and row.alert_type == event.alert_type
        and _asset_matches(row, event)
        and _threshold_reached(row, event)
        and not _cooling_down(row, user, event, taken_keys, world)
        for row in rows
    )


def _region_matches(row: Preference, event: Event) -> bool:
    wanted, given = row.region.strip().lower(), (event.scope_region or "").strip().lower()
    return not given or wanted in {"global", given}


def _asset_matches(row: Preference, event: Event) -> bool:
    if event.alert_type != "ASSET_RISK_SPIKE" or row.asset is None:
        return True
    return row.asset.lower() in [asset.lower() for asset in event.scope_assets]


def _threshold_reached(row: Preference, event: Event) -> bool:
    value = parse_object(event.payload).get("value")
    return row.threshold is None or not isinstance(value, Decimal) or row.threshold <= float(value)


def _cooling_down(row: Preference, user: User, event: Event, taken_keys: set[str], world: World) -> bool:
    if row.cooldown_minutes is None or row.cooldown_minutes <= 0:
        return False
    cooldown = timedelta(minutes=row.cooldown_minutes)
    return event.cooldown_key in taken_keys or any(
        world.now - old.created_at < cooldown for old in _deliveries_of_the_same_matter(user, event, world)
    )


def _deliveries_of_the_same_matter(user: User, event: Event, world: World) -> Iterator[Delivery]:
    others = {one.id for one in world.events if one.cooldown_key == event.cooldown_key and one.id != event.id}
    for old in world.deliveries:
        if old.user_id == user.id and old.event_id in others and old.channel in list(Channel):
            yield old


# --- quota -------------------------------------------------------------------------------------------------


def _apply_quota(user: User, channel: Channel, candidates: list[Decision], world: World) -> Iterator[Decision]:
    cap = plan_of(user, world).instant[channel]
    used = _used_today(user, channel, world)
    for decision in sorted(candidates, key=_quota_order):
        if decision.verdict is not Verdict.DELIVER or decision.kind is not Kind.INSTANT:
            yield decision
            continue
        assert cap is not None
        used += 1
        if used <= cap:
            yield decision
        elif world.quota_overflow == "digest" and _channel_allowed(Kind.DIGEST, plan_of(user, world), channel):
            yield replace(decision, kind=Kind.DIGEST, over_quota=True)
        else:
            yield replace(decision, verdict=Verdict.QUOTA)


def _used_today(user: User, channel: Channel, world: World) -> int:
    zone = ZoneInfo(world.time_zone)
    today = world.now.astimezone(zone).date()
    return sum(
        (old.user_id, old.channel, old.kind) == (user.id, channel.value, Kind.INSTANT)
        and (old.bundled or old.status in {Status.QUEUED, Status.SENDING, Status.SENT})
        and old.created_at.astimezone(zone).date() == today
        for old in world.deliveries
    )
