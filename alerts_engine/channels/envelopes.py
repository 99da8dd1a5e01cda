"""What an adapter checks and takes out of an envelope before it calls its provider (SPEC M-4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import TYPE_CHECKING, TypeVar

from alerts_engine.types import Failed, Message, SendResult

if TYPE_CHECKING:
    from alerts_engine.types import Envelope

MessageT = TypeVar("MessageT", bound=Message)

INVALID_DESTINATION = SendResult(Failed("invalid_destination"))
"""The answer for a destination that no provider must be asked about."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Unicode's control characters, its separators of lines and paragraphs, and halves of surrogate pairs."""
_PLAIN_NAME = re.compile(r"[\w !#$%&'*+/=?^`{|}~-]+")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who an email comes from: ``EMAIL_FROM``, taken apart once."""

    address: str = field(repr=False)
    name: str | None = None

    @classmethod
    def parse(cls, email_from: str) -> Sender:
        """Read ``Name <a@b.c>`` or ``a@b.c``; line breaks in the name become spaces."""
        name, address = parseaddr(_one_line(email_from))
        return cls(address=address, name=name or None)

    def __str__(self) -> str:
        """The form of a ``From`` header, its name quoted where it has to be."""
        if self.name is None:
            return self.address
        if _PLAIN_NAME.fullmatch(self.name):
            return f"{self.name} <{self.address}>"
        escaped = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}" <{self.address}>'


def email_headers(envelope: Envelope) -> dict[str, str]:
    """What a mail program goes by: that nobody wrote it, which alert it is, and how to stop (SPEC M-3b, U-1)."""
    headers = {"Auto-Submitted": "auto-generated", "X-Entity-Ref-ID": str(envelope.idempotency_key)}
    if envelope.unsubscribe_url is not None:
        headers["List-Unsubscribe"] = f"<{envelope.unsubscribe_url}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers


def can_be_addressed(destination: str) -> bool:
    """Whether a provider may be asked about ``destination``: not blank, no line break, no control character.

    Everything else that can be wrong with an address is for the provider to refuse.
    """
    return bool(destination.strip()) and not _CONTROL.search(destination)


def message_in(envelope: Envelope, kind: type[MessageT]) -> MessageT:
    """The envelope's message; raises :class:`TypeError` when it is not of the channel's own ``kind``."""
    if not isinstance(envelope.message, kind):
        raise TypeError(f"this channel carries {kind.__name__}, not {type(envelope.message).__name__}")
    return envelope.message


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()
