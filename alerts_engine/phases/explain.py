"""Why a user does or does not get an event, from the statement that fan-out uses (SPEC B-9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import NotFoundError
from alerts_engine.phases.fan_out import fan_out_page
from alerts_engine.phases.plans import plans_as_json
from alerts_engine.statements import statement
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from alerts_engine.database import Database
    from alerts_engine.settings import Settings

NEWEST = 10


@dataclass(frozen=True, slots=True)
class ExplainedUser:
    id: int
    considered: bool


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    id: int
    alert_type: str
    scope_region: str | None
    severity: int
    headline: str
    created_at: datetime
    reached: bool
    reached_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryState:
    id: int
    channel: Channel
    kind: str
    status: str
    attempts: int
    last_error: str | None
    failure_kind: str | None
    next_retry_at: datetime | None
    sent_at: datetime | None
    digest_id: int | None
    digest_key: str | None
    digest_status: str | None
    digest_attempts: int | None
    digest_last_error: str | None
    digest_due_at: datetime | None
    digest_sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One channel: ``deliver`` or the first reason against it, with the facts, and what happened since."""

    channel: Channel
    decision: str
    """``deliver``, ``plan``, ``prefs``, ``missing_destination``, ``quota``, ``email_unverified`` or ``not_in_allowlist``."""
    kind: str | None
    facts: dict[str, Any]
    delivery: DeliveryState | None


@dataclass(frozen=True, slots=True)
class Explanation:
    event: ExplainedEvent
    user_id: int
    decided_at: datetime
    """The moment the decision is made for: the fan-out's, or now for an event that has not reached the user."""
    preferences: list[dict[str, Any]]
    """The user's preference rows, each with which of its conditions hold for this event."""
    decisions: tuple[Decision, ...]


explained_user = statement("explain", "explained_user", ExplainedUser)
explained_events = statement("explain", "explained_events", ExplainedEvent)
deliveries_of_user = statement("explain", "deliveries_of_user", DeliveryState)


async def explain(
    database: Database, settings: Settings, *, user_id: int, event_id: int | None, now: datetime
) -> list[Explanation]:
    """Explain one event, or the ten newest, for a user. Plan and preferences are as they are today.

    Raises :class:`NotFoundError`.
    """
    users = await database.rows(explained_user, user_id=user_id)
    if not users:
        raise NotFoundError(f"there is no user {user_id}")
    wanted = None if event_id is None else [event_id]
    events = await database.rows(explained_events, event_ids=wanted, user_id=user_id, most=NEWEST)
    if event_id is not None and not events:
        raise NotFoundError(f"there is no event {event_id}")
    plans = await plans_as_json(database, settings)
    return [await _explain_event(database, settings, users[0], event, plans, now) for event in events]


async def _explain_event(
    database: Database,
    settings: Settings,
    user: ExplainedUser,
    event: ExplainedEvent,
    plans: list[dict[str, Any]],
    now: datetime,
) -> Explanation:
    allowlist = settings.send_allowlist_user_ids
    moment = event.reached_at if event.reached and event.reached_at is not None else now
    page = await database.row(
        fan_out_page,
        event_ids=[event.id],
        after_user=user.id - 1,
        last_user=user.id,
        now=moment,
        time_zone=settings.time_zone,
        plans=plans,
        allowlist=None if allowlist is None else list(allowlist),
        record=False,
    )
    states = {state.channel: state for state in await database.rows(deliveries_of_user, event_id=event.id, user_id=user.id)}
    made = {Channel(decided["channel"]): decided for decided in page.decisions or []}
    before_all = "not_in_allowlist" if user.considered else "email_unverified"
    return Explanation(
        event=event,
        user_id=user.id,
        decided_at=moment,
        preferences=page.preferences or [],
        decisions=tuple(_decision(channel, made.get(channel), states.get(channel), before_all) for channel in Channel),
    )


_NOT_FACTS = {"event_id", "user_id", "channel", "kind", "reason"}


def _decision(
    channel: Channel, decided: dict[str, Any] | None, state: DeliveryState | None, before_all: str
) -> Decision:
    if decided is None:
        return Decision(channel, before_all, None, {}, state)
    facts = {name: value for name, value in decided.items() if name not in _NOT_FACTS}
    return Decision(channel, decided["reason"] or "deliver", decided["kind"], facts, state)
