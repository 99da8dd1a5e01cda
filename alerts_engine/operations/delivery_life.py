"""The life of a delivery or a digest: created, begun, each attempt and what came of it, its end (SPEC section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from alerts_engine.errors import NotFoundError
from alerts_engine.operations.causes import cause_of
from alerts_engine.statements import statement
from alerts_engine.types import FailureKind, SkipReason, Status

if TYPE_CHECKING:
    from alerts_engine.database import Executor
    from alerts_engine.settings import Settings

_LONGEST_LINE = 1_000
_MOST_ATTEMPTS = 200
_MOST_ITEMS = 100


# --- rows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LifeRow:
    """The row as it is now."""

    id: int
    user_id: int
    channel: str
    kind: str
    """``instant`` or ``digest``; of a digest its period."""
    status: Status
    attempts: int
    created_at: datetime
    next_retry_at: datetime | None
    last_error: str | None
    failure_kind: FailureKind | None
    claimed_by: str | None
    lease_expires_at: datetime | None
    send_started_at: datetime | None
    uncertain_since: datetime | None
    sent_by: str | None
    key_used_at: datetime | None
    sent_at: datetime | None
    provider_message_id: str | None
    ended_at: datetime | None
    failed_before: datetime | None
    event_id: int | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    attempt: int
    begun_at: datetime | None
    known_at: datetime
    outcome: str
    error: str | None
    provider: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class LifeEvent:
    id: int
    alert_type: str
    severity: int
    headline: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LifeDigest:
    id: int
    digest_key: str
    status: Status
    window_start: datetime
    window_end: datetime
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class DigestItems:
    count: int
    delivery_ids: list[int]
    digest_key: str | None
    window_start: datetime | None
    window_end: datetime | None


# --- the answer -----------------------------------------------------------------------------------------------------


class Step(StrEnum):
    """What can happen in a life, in no order."""

    EVENT = "event"
    CREATED = "created"
    BATCHED = "batched"
    """It became an item of a digest."""
    BEGUN = "begun"
    """A send began."""
    RETRY = "retry"
    UNCERTAIN = "uncertain"
    FOUND = "found"
    """The provider was asked, and has it."""
    NOT_FOUND = "not_found"
    NOBODY_CAN_TELL = "nobody_can_tell"
    FAILED = "failed"
    RETRIED_BY_HAND = "retried_by_hand"
    """``retry-failed`` queued it again, after it had failed at this moment."""
    SENT = "sent"
    SKIPPED = "skipped"
    CLAIMED = "claimed"
    WAITING = "waiting"
    """It is due then."""


@dataclass(frozen=True, slots=True)
class LifeStep:
    """One thing that happened, or that is to come."""

    at: datetime | None
    """``None``: not known."""
    step: Step
    detail: str | None = None
    """A code or a provider, or who did it; never a destination."""
    attempt: int | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """What became of one row."""

    source: str
    """``delivery`` or ``digest``."""
    row: LifeRow
    steps: tuple[LifeStep, ...]
    """In the order of time; what is to come stands last."""
    next: str
    """What happens next, in a sentence."""
    event: LifeEvent | None = None
    """Of a delivery."""
    digest: LifeDigest | None = None
    """The digest that a delivery went into."""
    digest_key: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    items: int | None = None
    """Of a digest: how many deliveries are in it."""
    delivery_ids: tuple[int, ...] = ()
    """Of a digest: the first hundred of them."""


delivery_of_life = statement("delivery_life", "delivery_of_life", LifeRow)
digest_of_life = statement("delivery_life", "digest_of_life", LifeRow)
attempts_of_delivery = statement("delivery_life", "attempts_of_delivery", AttemptRow)
attempts_of_digest = statement("delivery_life", "attempts_of_digest", AttemptRow)
event_of_life = statement("delivery_life", "event_of_life", LifeEvent)
digest_of_delivery = statement("delivery_life", "digest_of_delivery", LifeDigest)
items_of_digest = statement("delivery_life", "items_of_digest", DigestItems)


async def delivery_life(database: Executor, settings: Settings, delivery_id: int) -> Life:
    """The life of a delivery. Raises :class:`NotFoundError`."""
    found = await database.rows(delivery_of_life, id=delivery_id)
    if not found:
        raise NotFoundError(f"there is no delivery {delivery_id}: alerts-engine failures and explain name some")
    (row,) = found
    attempts = await database.rows(attempts_of_delivery, id=delivery_id, most=_MOST_ATTEMPTS)
    events = await database.rows(event_of_life, event_id=row.event_id or 0, longest_line=_LONGEST_LINE)
    digests = await database.rows(digest_of_delivery, delivery_id=delivery_id)
    event, digest = next(iter(events), None), next(iter(digests), None)
    return Life("delivery", row, _steps(row, attempts, event, digest), _what_next(row, settings, digest), event, digest)


async def digest_life(database: Executor, settings: Settings, digest_id: int) -> Life:
    """The life of a digest. Raises :class:`NotFoundError`."""
    found = await database.rows(digest_of_life, id=digest_id)
    if not found:
        raise NotFoundError(f"there is no digest {digest_id}: alerts-engine failures and explain name some")
    (row,) = found
    attempts = await database.rows(attempts_of_digest, id=digest_id, most=_MOST_ATTEMPTS)
    items = await database.row(items_of_digest, digest_id=digest_id, most=_MOST_ITEMS)
    return Life(
        "digest", row, _steps(row, attempts, None, None), _what_next(row, settings, None), digest_key=items.digest_key,
        window_start=items.window_start, window_end=items.window_end, items=items.count,
        delivery_ids=tuple(items.delivery_ids),
    )  # fmt: skip


# --- its steps ------------------------------------------------------------------------------------------------------


def _steps(
    row: LifeRow, attempts: list[AttemptRow], event: LifeEvent | None, digest: LifeDigest | None
) -> tuple[LifeStep, ...]:
    past = [LifeStep(row.created_at, Step.CREATED)]
    if event is not None:
        past.append(LifeStep(event.created_at, Step.EVENT, f"event {event.id}"))
    for attempt in attempts:
        past += _of_attempt(attempt)
    if row.failed_before is not None and row.status is not Status.SENT:
        past.append(LifeStep(row.failed_before, Step.RETRIED_BY_HAND))
    past += _ending(row, attempts, digest)
    past.sort(key=lambda step: (step.at is None, step.at.timestamp() if step.at is not None else 0.0))
    return (*past, *_to_come(row))


def _of_attempt(attempt: AttemptRow) -> list[LifeStep]:
    step = Step(attempt.outcome) if attempt.outcome in set(Step) else Step.UNCERTAIN
    asked = step in {Step.FOUND, Step.NOT_FOUND, Step.NOBODY_CAN_TELL}
    begun = [] if asked else [LifeStep(attempt.begun_at, Step.BEGUN, attempt.provider, attempt.attempt, attempt.run_id)]
    detail = attempt.provider if asked else attempt.error
    return [*begun, LifeStep(attempt.known_at, step, detail, attempt.attempt, attempt.run_id)]


def _ending(row: LifeRow, attempts: list[AttemptRow], digest: LifeDigest | None) -> list[LifeStep]:
    """What the row alone says: a plain first success, a skip, or an end of which no attempt is kept."""
    known = {attempt.outcome for attempt in attempts}
    match row.status:
        case Status.SENT if "sent" in known:
            return []
        case Status.SENT:
            begun = [LifeStep(row.send_started_at, Step.BEGUN, row.sent_by, row.attempts, row.claimed_by)]
            is_begun = row.send_started_at is not None and not attempts
            return [
                *(begun if is_begun else []),
                # Of a send that was found, sent_at is the provider's time: before we knew.
                LifeStep(row.ended_at or row.sent_at, Step.SENT, row.provider_message_id, row.attempts, row.claimed_by),
            ]
        case Status.SKIPPED if row.last_error == SkipReason.BATCHED_INTO_DIGEST:
            return [LifeStep(row.ended_at, Step.BATCHED, None if digest is None else f"digest {digest.id}")]
        case Status.SKIPPED:
            return [LifeStep(row.ended_at, Step.SKIPPED, row.last_error, run_id=row.claimed_by)]
        case Status.FAILED if "failed" not in known:
            return [LifeStep(row.ended_at, Step.FAILED, row.last_error, row.attempts, row.claimed_by)]
        case _:
            return []


def _to_come(row: LifeRow) -> list[LifeStep]:
    if row.status is Status.SENDING:
        begun = [LifeStep(row.send_started_at, Step.BEGUN, row.sent_by)] if row.send_started_at is not None else []
        return [LifeStep(None, Step.CLAIMED, run_id=row.claimed_by), *begun]
    return [LifeStep(row.next_retry_at, Step.WAITING)] if row.status is Status.QUEUED else []


# --- what is next ---------------------------------------------------------------------------------------------------


def _what_next(row: LifeRow, settings: Settings, digest: LifeDigest | None) -> str:
    match row.status:
        case Status.QUEUED:
            return _queued(row, settings)
        case Status.SENDING:
            return "a run holds it; when its lease expires, the next run decides what became of it"
        case Status.SENT:
            return "nothing: the provider has accepted it"
        case Status.FAILED:
            return _failed(row)
        case Status.SKIPPED:
            return _skipped(row, digest)
        case _:
            assert_never(row.status)


def _skipped(row: LifeRow, digest: LifeDigest | None) -> str:
    if digest is not None:
        return f"it is in digest {digest.id}: alerts-engine digest show {digest.id}"
    if row.last_error == SkipReason.CHANNEL_NOT_CONFIGURED:
        return "nothing by itself: alerts-engine retry-failed --reason channel_not_configured takes it up"
    return "nothing: it was skipped for good"


def _queued(row: LifeRow, settings: Settings) -> str:
    if row.channel in settings.channels_paused:
        return f"it waits until {row.channel} is not in ALERTS_CHANNELS_PAUSED any more"
    allowed = settings.send_allowlist_user_ids
    if allowed and row.user_id not in allowed:
        return "it waits: its user is not in ALERTS_SEND_ALLOWLIST_USER_IDS"
    if row.uncertain_since is not None:
        who = "its key is repeated, or the provider asked" if row.sent_by is not None else "nobody can be asked"
        last = "then ALERTS_UNCERTAIN_SEND decides" if row.sent_by is not None else "ALERTS_UNCERTAIN_SEND decides"
        return f"it may have been accepted: {who}; {last}"
    if row.kind == "digest":
        return "phase D puts it into a digest"
    return "the next run of phase C that finds it due sends it"


def _failed(row: LifeRow) -> str:
    cause = cause_of(row.last_error or "", is_permanent=row.failure_kind is FailureKind.PERMANENT)
    if row.failure_kind is FailureKind.TRANSIENT:
        return f"nothing by itself ({cause.meaning}): alerts-engine retry-failed takes it up"
    return f"nothing: {cause.meaning}; {cause.advice}"
