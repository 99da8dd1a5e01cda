"""What phase C knows of a channel: the protocol, and nothing of who is behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from alerts_engine.types import Envelope, SendResult


class ChannelAdapter(Protocol):
    """Carries messages of one channel to one provider."""

    @property
    def channel(self) -> str:
        """The channel it carries."""
        ...

    @property
    def provider(self) -> str:
        """The provider's name as in SPEC section 1: ``brevo``, ``resend``, ``telegram``, ``twilio``."""
        ...

    async def send(self, envelope: Envelope) -> SendResult:
        """Hand one message to the provider; at most one message leaves, whatever the answer.

        Never raises for anything the provider or the network does (timeouts, resets, nonsense): that is a
        ``Retry``, ``Failed`` or ``ChannelDown``. Only cancellation passes through.
        """
        ...
