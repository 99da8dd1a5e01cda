"""The sandbox's words: a call comes in, is read as a submission, kept as a message, and an answer goes out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from alerts_engine.types import Channel

KEPT = 100_000
"""Most messages, and most attempts, that are kept; the oldest go first."""
KEPT_BYTES = 256 * 1024 * 1024
"""Most memory that the texts of messages take, and a quarter of it those of attempts; the oldest go first."""


_RECORD_BYTES = 500
"""What a record takes besides its texts."""


class Provider(StrEnum):
    """Whom the sandbox plays."""

    BREVO = "brevo"
    RESEND = "resend"
    TELEGRAM = "telegram"
    TWILIO = "twilio"


@dataclass(frozen=True, slots=True)
class SandboxMessage:
    """A message that a provider has accepted. A replayed idempotent call makes no second one."""

    number: int
    """Counts up from 1 over the sandbox's life, across providers; ``clear`` does not restart it."""
    received_at: datetime
    """Aware, UTC."""
    provider: Provider
    channel: Channel
    destination: str = field(repr=False)
    """Email address, chat id or phone number; several recipients of one email are joined with ``, ``."""
    sender: str
    subject: str | None = field(repr=False)
    html: str | None = field(repr=False)
    """An email's HTML, or a Telegram text as it was sent with ``parse_mode=HTML``."""
    text: str = field(repr=False)
    """What can be read without markup: an email's text part, Telegram's text after parsing, an SMS body."""
    idempotency_key: str | None
    provider_message_id: str
    segments: int | None
    """Of an SMS: how many are billed."""
    tags: tuple[str, ...] = ()
    """An email's; Resend's as ``name:value``."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those of the email itself, as the call gave them."""
    silent: bool = False
    """Telegram: it makes no sound (``disable_notification``)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a provider, whatever came of it."""

    number: int
    received_at: datetime
    provider: Provider
    destination: str | None = field(repr=False)
    """As far as it could be read from the call."""
    status: int | None
    """The HTTP status answered; ``None``: no answer was given (reset, hang, or the client left)."""
    idempotency_key: str | None
    fault: bool
    """Whether a fault was applied."""


@dataclass(slots=True)
class Call:
    """A request as it came over the wire, and what could be read of it so far (for the log of attempts)."""

    headers: Mapping[str, str]
    path: Mapping[str, str]
    body: bytes
    destination: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A call that the provider would accept."""

    channel: Channel
    destination: str
    sender: str
    text: str
    subject: str | None = None
    html: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    """Equal for equal payloads, where the provider compares them."""
    segments: int | None = None
    tags: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the email itself, as the call gave them."""
    silent: bool = False
    dropped: bool = False
    """The provider's own test mode: checked and answered, but not delivered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a provider says to a message that it takes."""

    provider_message_id: str
    answer: Answer


def weight(*texts: str | bytes | None) -> int:
    """About how many bytes a record with these texts takes."""
    return _RECORD_BYTES + sum(sys.getsizeof(text) for text in texts)


class RefusedError(Exception):
    """The provider refuses a call; each provider puts it in its own words and form."""

    def __init__(
        self,
        status: int,
        code: str | int | None,
        message: str,
        *,
        retry_after: float | None = None,
        migrate_to_chat_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.migrate_to_chat_id = migrate_to_chat_id


def json_answer(status: int, payload: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, json.dumps(payload).encode(), headers=headers or {})
