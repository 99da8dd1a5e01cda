"""What phase C knows of a channel: the protocol, and nothing of who is behind it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from alerts_engine.types import CannotTell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from alerts_engine.channels.credential_check import CredentialCheck
    from alerts_engine.types import AskAnswer, Envelope, Message, Question, SendResult


class ChannelAdapter(Protocol):
    """Carries messages of one channel to one provider.

    A custom adapter is a subclass: its provider knows no keys and cannot be asked, unless it says more.
    """

    @property
    def channel(self) -> str:
        """The channel it carries."""
        ...

    @property
    def provider(self) -> str:
        """The provider's name as in SPEC section 1: ``brevo``, ``resend``, ``telegram``, ``twilio``."""
        ...

    @property
    def key_life(self) -> timedelta | None:
        """How long after the first use of an idempotency key a repeat under it is safe; ``None``: it never is.

        A margin is taken off already: whoever begins a repeat within this time can rely on it (SPEC C-17).
        """
        return None

    @property
    def can_ask(self) -> bool:
        """Whether :meth:`ask` can find out what became of a send."""
        return False

    async def send(self, envelope: Envelope) -> SendResult:
        """Hand one message to the provider; at most one message leaves, whatever the answer.

        Never raises for anything the provider or the network does (timeouts, resets, nonsense): that is a
        ``Retry``, ``Uncertain``, ``Failed`` or ``ChannelDown``. Only cancellation passes through.
        """
        ...

    async def ask(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """What became of these sends: one answer for each question, in their order (SPEC C-17).

        Never raises for anything the provider or the network does: that is ``CannotTell``.
        """
        return [CannotTell(f"{self.provider}_cannot_be_asked", refused=True) for _ in questions]

    async def check_credentials(self) -> CredentialCheck | None:
        """Whether the provider takes our credentials, by a question that changes nothing; ``None``: there is none.

        Never raises for anything the provider or the network does (SPEC R-1).
        """
        return None


def body_digest(message: Message) -> bytes | None:
    """What identifies the text of a message where a provider can only be asked by it; ``None`` for other forms."""
    body = getattr(message, "body", None)
    return sha256(body.encode()).digest() if isinstance(body, str) else None
