"""The product's words as types (SPEC section 1). No I/O and no imports from the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

SINCE_HOURS = 24
"""How young an event must be to be fanned out, unless ``--since-hours`` says otherwise (SPEC B-1)."""
MOST_SINCE_HOURS = 24 * 366 * 100
"""A century: what is longer would be no time that PostgreSQL can subtract."""
EARLIEST_NOW, LATEST_NOW = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""What can be replayed: leases, windows and retries around it are times that PostgreSQL and Python both know."""


class Phase(StrEnum):
    """One step of the chain; ``ALL`` is A → B → D → C (SPEC section 3)."""

    A = "a"
    B = "b"
    C = "c"
    D = "d"
    ALL = "all"

    @property
    def steps(self) -> tuple[Phase, ...]:
        """The phases to run, in order."""
        return (Phase.A, Phase.B, Phase.D, Phase.C) if self is Phase.ALL else (self,)


class Channel(StrEnum):
    """The built-in channels, by which an alert reaches a user; custom ones have names with a dot in them (SPEC I-6).

    The legacy ``account`` feed is not a channel of the engine (SPEC DB-3).
    """

    EMAIL = "email"
    TELEGRAM = "telegram"
    SMS = "sms"


class Kind(StrEnum):
    """What a delivery becomes: a message of its own, or an item of a digest."""

    INSTANT = "instant"
    DIGEST = "digest"


class Status(StrEnum):
    """The states of a delivery and of a digest (SPEC DB-6)."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"


class Period(StrEnum):
    """The length of a digest's window."""

    DAILY = "daily"
    HOURLY = "hourly"
    BURST = "burst"
    """A bundle: instant alerts that were due together, as one message (SPEC D-7). Nobody chooses it."""


class FailureKind(StrEnum):
    """Whether trying again could help (SPEC C-6)."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


class DownCause(StrEnum):
    """Why a whole channel cannot send (SPEC C-7)."""

    AUTH_FAILED = "auth_failed"
    OUT_OF_CREDIT = "out_of_credit"
    QUOTA_EXHAUSTED = "quota_exhausted"
    QUEUE_FULL = "queue_full"


class StopReason(StrEnum):
    """Why a phase ended although more may be due (SPEC C-15, C-16)."""

    SIGNAL = "signal"
    LOCK_LOST = "lock_lost"
    MAX_RUN_SECONDS = "max_run_seconds"
    MAX_SEND_PER_RUN = "max_send_per_run"
    OUTCOMES_NOT_WRITTEN = "outcomes_not_written"
    RATE_LIMITED = "rate_limited"


class Refusal(StrEnum):
    """Why an event makes no delivery for a user on a channel: the first reason that applies (SPEC B-4)."""

    PLAN = "plan"
    PREFS = "prefs"
    MISSING_DESTINATION = "missing_destination"
    QUOTA = "quota"

    @property
    def count_name(self) -> str:
        """What phase B counts it as (SPEC B-8)."""
        return f"deliveries_skipped_{'missing_dest' if self is Refusal.MISSING_DESTINATION else self.value}"


class SkipReason(StrEnum):
    """Why a row ends ``skipped``; the value is what stands in ``last_error`` (SPEC C-10, D-1)."""

    CHANNEL_NOT_CONFIGURED = "channel_not_configured"
    MISSING_DESTINATION = "missing_destination"
    CHANNEL_DISABLED = "channel_disabled"
    BATCHED_INTO_DIGEST = "batched_into_digest"
    EMPTY_DIGEST = "empty_digest"


# --- what a message is made of ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alert:
    """One event as a user reads it."""

    event_id: int
    alert_type: str
    scope_region: str | None
    scope_assets: tuple[str, ...]
    severity: int
    headline: str
    body: str
    created_at: datetime
    """When the event was created; aware, UTC."""
    value: float | None = None
    """``payload.value``: the risk score (0–100) of the spike rules."""
    previous: float | None = None
    """``payload.previous``: what ``value`` is compared with."""
    what: str | None = None
    """``payload.what``: what has this value, such as ``Black Sea oil risk``."""
    digest_headline: str | None = None
    """``payload.digest_headline``: the headline for readers of another day, to whom "yesterday" is not true."""
    source: str | None = None
    """``payload.source``: who reported it."""


@dataclass(frozen=True, slots=True)
class DigestContent:
    """All that one digest message says (SPEC M-3)."""

    period: Period
    window_start: datetime
    window_end: datetime
    items: tuple[Alert, ...]
    over_quota: frozenset[int] = frozenset()
    """The events that would have come at once, had the day's instant messages not been used up (SPEC B-7)."""


# --- messages: what rendering makes and a channel sends -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel carries; each form has a class of its own."""


@dataclass(frozen=True, slots=True)
class EmailMessage(Message):
    subject: str
    html: str
    text: str


@dataclass(frozen=True, slots=True)
class TelegramMessage(Message):
    """``text`` is Telegram's HTML (``parse_mode=HTML``), at most 4096 characters after parsing."""

    text: str


@dataclass(frozen=True, slots=True)
class SmsMessage(Message):
    body: str
    encoding: str
    """``GSM-7`` or ``UCS-2``."""
    segments: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message on its way: where to, and the key that makes a repeat recognisable (SPEC C-12)."""

    destination: str = field(repr=False)
    message: Message = field(repr=False)
    idempotency_key: UUID
    silent: bool = False
    """A repeat of what may have arrived already: it should make no sound (SPEC C-17)."""
    unsubscribe_url: str | None = field(default=None, repr=False)
    """An email's one-click link (SPEC U-1)."""


# --- outcomes: a closed set, matched exhaustively (SPEC section 1, C-5 … C-8) -------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider accepted the message, now or (``already_accepted``) at an earlier attempt (SPEC C-12)."""

    provider_message_id: str | None
    already_accepted: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted: refused for now, or never handed over. Trying again later may help (SPEC C-6).

    ``error`` is a code such as ``brevo_500``, never a provider's text.
    """

    error: str
    retry_after: float | None = None
    """Seconds the provider asked to wait, if it said so."""
    rate_limited: bool = False
    """A 429: the channel's bucket pauses too (SPEC C-8)."""
    spends_attempt: bool = True
    """False while a twin of this very call is in flight: that one decides (SPEC C-12)."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """It was, or may have been, written to the provider, and no readable answer came: it may have been accepted.

    SPEC C-6 lists when; C-17 says how it is settled.
    """

    error: str
    key_failed: bool = False
    """The provider knows the key with other bytes: a repeat under it would prove nothing (SPEC C-12)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Trying again cannot help: permanent."""

    error: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not sent on purpose; terminal."""

    reason: SkipReason


@dataclass(frozen=True, slots=True)
class ChannelDown:
    """The channel, not the message, is at fault: no attempt is spent (SPEC C-7)."""

    cause: DownCause
    error: str


Outcome = Sent | Retry | Failed | Skipped | ChannelDown | Uncertain


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """What became of one message, for :meth:`AlertsEngine.on_outcome`; neither where it went nor what it said."""

    source: str
    """``deliveries`` or ``digests``."""
    row_id: int
    """The delivery's or the digest's id."""
    channel: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class SendResult:
    """What one call of a provider came to."""

    outcome: Outcome
    destination_moved_to: str | None = field(default=None, repr=False)
    """The new destination learnt on the way: Telegram's ``migrate_to_chat_id`` (SPEC C-7)."""


# --- asking a provider what became of an uncertain send (SPEC C-17) ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """Was this message accepted? What an adapter needs to find it in the provider's lists."""

    idempotency_key: UUID
    destination: str = field(repr=False)
    body_digest: bytes | None = field(repr=False)
    """:func:`alerts_engine.channels.base.body_digest` of the message as it was sent; for providers without tags."""
    sent_after: datetime
    """When the first send that may have been accepted began; aware, UTC."""
    taken: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids that the provider gave to other sends: where it can only be asked by text, none of them is the answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """The provider has the message: it was accepted."""

    provider_message_id: str | None
    accepted_at: datetime | None = None
    """The provider's own time; aware, UTC."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider's lists cover the time of the send, and the message is not in them."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The provider did not answer this question: refused, limited, away, or unreadable. It is asked again later."""

    error: str
    """A code such as ``brevo_ask_403``."""
    refused: bool = False
    """The provider refuses every such question (a key without the right to read): asking more is in vain this run."""


AskAnswer = Found | NotFound | CannotTell
