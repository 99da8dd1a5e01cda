"""Why a user does or does not get an event, from the statement that fan-out uses (SPEC B-9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from alerts_engine.channels import channels
from alerts_engine.errors import NotFoundError
from alerts_engine.phases.one_page import fan_out_page
from alerts_engine.phases.plans import channels_as_json, plans_as_json
from alerts_engine.statements import statement
from alerts_engine.types import FailureKind, Kind, Refusal, Status

if TYPE_CHECKING:
    from alerts_engine.database import Executor
    from alerts_engine.phases.one_page import FanOutPage
    from alerts_engine.settings import Settings

NEWEST = 10
_LONGEST_LINE = 1_000
"""Characters of a headline: enough for any terminal, whatever somebody has published."""


class Verdict(StrEnum):
    """What may be said of an event, a user and a channel besides the fan-out's reasons to refuse."""

    DELIVER = "deliver"
    EMAIL_UNVERIFIED = "email_unverified"
    NOT_IN_ALLOWLIST = "not_in_allowlist"
    CHANGED_SINCE = "changed_since"
    """The fan-out made nothing, and what there is today does not say why."""


Answer = Verdict | Refusal
"""``deliver``, or the first reason against it (SPEC B-4), for one event, user and channel."""


class Condition(StrEnum):
    """What a preference row asks of an event (SPEC B-4)."""

    ENABLED = "enabled"
    ALERT_TYPE = "alert_type"
    REGION = "region"
    ASSET = "asset"
    THRESHOLD = "threshold"


# --- rows -----------------------------------------------------------------------------------------------------------


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
    """Whether its fan-out has come to this user."""
    reached_at: datetime | None


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    id: int
    region: str | None
    alert_type: str
    asset: str | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class DeliveryState:
    id: int
    channel: str
    kind: Kind
    status: Status
    attempts: int
    last_error: str | None
    failure_kind: FailureKind | None
    next_retry_at: datetime | None
    uncertain_since: datetime | None
    """A send began then that may have been accepted (SPEC C-17)."""
    sent_by: str | None
    """The provider of the last send."""
    sent_at: datetime | None
    digest_id: int | None
    digest_key: str | None
    digest_status: Status | None
    digest_attempts: int | None
    digest_last_error: str | None
    digest_due_at: datetime | None
    digest_uncertain_since: datetime | None
    digest_sent_by: str | None
    digest_sent_at: datetime | None


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preference:
    """A preference row held against an event."""

    JSON_ALSO: ClassVar = ("matches",)

    row: PreferenceRow
    cooldown_minutes: int
    failed_conditions: tuple[Condition, ...]
    """None: the row matches."""

    @property
    def matches(self) -> bool:
        """Whether the row wants the event; its cooldown may still hold it back."""
        return not self.failed_conditions


@dataclass(frozen=True, slots=True)
class Facts:
    """What decided about one channel."""

    plan: str
    type_allowed: bool
    per_day: int | None
    """Instant messages a day: ``None`` is a channel that the plan does not allow, 0 is digests only."""
    used: int | None
    """Instant messages of the day before this one; known where the quota was asked."""
    wanted: bool
    """A preference row, or the defaults, and no cooldown against it."""
    cooldown_minutes: int | None
    """The shortest one among the rows that match."""
    heard_at: datetime | None
    """When the user last got another event with the same cooldown key."""
    switched_off: bool
    stopped: bool
    """The reader stopped this alert type on this channel, by the link in an email (SPEC U-3)."""
    destination_present: bool
    over_quota: bool
    """The day's instant messages are used up, so it goes into the digest (SPEC B-7)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One channel."""

    channel: str
    verdict: Answer
    """Where the fan-out has been: ``deliver`` exactly where it made a delivery."""
    today: Answer
    """What today's plan, preferences and addresses say for the moment of the decision."""
    kind: Kind | None
    facts: Facts | None
    """``None`` where the user is not looked at: ``email_unverified``, ``not_in_allowlist``."""
    deliveries: tuple[DeliveryState, ...]
    """What happened since."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One event for one user."""

    event: ExplainedEvent
    user_id: int
    decided_at: datetime
    """The moment the decision is made for: the fan-out's, or now for an event that has not reached the user."""
    preferences: tuple[Preference, ...]
    """The user's preference rows, a hundred at most; with none at all the defaults of SPEC B-4 stand for them."""
    preferences_left_out: int
    """How many more rows the user has. Those that match come first, and of these the one that decides."""
    decisions: tuple[Decision, ...]


explained_user = statement("explain", "explained_user", ExplainedUser)
explained_events = statement("explain", "explained_events", ExplainedEvent)
preferences_of_user = statement("explain", "preferences_of_user", PreferenceRow)
deliveries_of_user = statement("explain", "deliveries_of_user", DeliveryState)


async def explain(
    database: Executor, settings: Settings, *, user_id: int, event_id: int | None, now: datetime
) -> list[Explanation]:
    """Explain one event, or the ten newest, for a user. Plan, preferences and addresses are as they are today.

    Raises :class:`NotFoundError`.
    """
    users = await database.rows(explained_user, user_id=user_id)
    if not users:
        raise NotFoundError(f"there is no user {user_id}")
    wanted = None if event_id is None else [event_id]
    events = await database.rows(
        explained_events, event_ids=wanted, user_id=user_id, most=NEWEST, longest_line=_LONGEST_LINE
    )
    if event_id is not None and not events:
        raise NotFoundError(f"there is no event {event_id}")
    plans = await plans_as_json(database, settings)
    return [await _explain_event(database, settings, event, user=users[0], plans=plans, now=now) for event in events]


async def _explain_event(
    database: Executor,
    settings: Settings,
    event: ExplainedEvent,
    *,
    user: ExplainedUser,
    plans: list[dict[str, Any]],
    now: datetime,
) -> Explanation:
    moment = event.reached_at if event.reached and event.reached_at is not None else now
    page = await _page_of_one(database, settings, event, user, plans=plans, moment=moment)
    checks = {check["id"]: check for check in page.preferences or []}
    rows = await database.rows(preferences_of_user, ids=list(checks), longest_line=_LONGEST_LINE)
    deliveries = await database.rows(deliveries_of_user, event_id=event.id, user_id=user.id)
    return Explanation(
        event=event,
        user_id=user.id,
        decided_at=moment,
        preferences=tuple(_preference(row, checks[row.id]) for row in rows),
        preferences_left_out=max((check["in_all"] for check in checks.values()), default=0) - len(checks),
        decisions=_decisions(page.decisions or [], deliveries, user=user, reached=event.reached),
    )


async def _page_of_one(
    database: Executor,
    settings: Settings,
    event: ExplainedEvent,
    user: ExplainedUser,
    *,
    plans: list[dict[str, Any]],
    moment: datetime,
) -> FanOutPage:
    """What the fan-out decides of one event and one user; nothing is written."""
    allowlist = settings.send_allowlist_user_ids
    return await database.row(
        fan_out_page,
        event_ids=[event.id],
        after_user=user.id - 1,
        last_user=user.id,
        now=moment,
        time_zone=settings.time_zone,
        plans=plans,
        allowlist=None if allowlist is None else list(allowlist),
        record=False,
        channels=channels_as_json(),
        overflow=settings.quota_overflow == "digest",
    )


_CONDITIONS = {
    Condition.ENABLED: "enabled",
    Condition.ALERT_TYPE: "type_matches",
    Condition.REGION: "region_matches",
    Condition.ASSET: "asset_matches",
    Condition.THRESHOLD: "threshold_matches",
}


def _preference(row: PreferenceRow, check: dict[str, Any]) -> Preference:
    failed = tuple(name for name, column in _CONDITIONS.items() if check[column] is not True)
    return Preference(row, check["cooldown_minutes"], failed)


def _decisions(
    decided: list[dict[str, Any]], deliveries: list[DeliveryState], *, user: ExplainedUser, reached: bool
) -> tuple[Decision, ...]:
    """One for every channel, also where the fan-out has not looked at the user."""
    by_channel = {one["channel"]: one for one in decided}
    unseen = Verdict.NOT_IN_ALLOWLIST if user.considered else Verdict.EMAIL_UNVERIFIED
    return tuple(
        _decision(
            channel,
            by_channel.get(channel),
            tuple(one for one in deliveries if one.channel == channel),
            unseen=unseen,
            reached=reached,
        )
        for channel in channels()
    )


def _decision(
    channel: str,
    decided: dict[str, Any] | None,
    deliveries: tuple[DeliveryState, ...],
    *,
    unseen: Verdict,
    reached: bool,
) -> Decision:
    today = unseen if decided is None else _answer(decided["reason"])
    verdict = today
    if deliveries:
        verdict = Verdict.DELIVER
    elif reached and today is Verdict.DELIVER:
        verdict = Verdict.CHANGED_SINCE
    if decided is None:
        return Decision(channel, verdict, today, None, None, deliveries)
    return Decision(channel, verdict, today, Kind(decided["kind"]), _facts(decided), deliveries)


def _answer(reason: str | None) -> Answer:
    return Verdict.DELIVER if reason is None else Refusal(reason)


def _facts(decided: dict[str, Any]) -> Facts:
    heard_at = decided["heard_at"]
    return Facts(
        plan=decided["plan"],
        type_allowed=decided["type_allowed"],
        per_day=decided["per_day"],
        used=decided["used"],
        wanted=decided["wanted"],
        cooldown_minutes=decided["cooldown_minutes"],
        heard_at=None if heard_at is None else datetime.fromisoformat(heard_at),
        switched_off=decided["switched_off"],
        stopped=decided["stopped"],
        destination_present=decided["destination_present"],
        over_quota=decided["over_quota"],
    )
