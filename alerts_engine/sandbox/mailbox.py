"""What the sandbox has seen and kept."""

from __future__ import annotations

import asyncio
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from alerts_engine.sandbox.bounded import Newest
from alerts_engine.sandbox.clock import Clock
from alerts_engine.sandbox.model import KEPT, KEPT_BYTES, Attempt, SandboxMessage, weight

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine.sandbox.model import Acceptance, Call, Provider, Submission


class Mailbox:
    """Accepted messages and attempts, oldest first: the newest of each, by number and by size."""

    def __init__(self) -> None:
        self.messages: Newest[SandboxMessage] = Newest(KEPT, KEPT_BYTES, _message_weight)
        self.attempts: Newest[Attempt] = Newest(KEPT, KEPT_BYTES // 4, _attempt_weight)
        self.requests = 0
        """Calls that have arrived, answered or not."""
        self.clock = Clock()
        self._last_message = 0
        self._last_attempt = 0
        self._waiting: list[asyncio.Future[None]] = []

    def arrived(self) -> None:
        """Count a call as soon as it is there."""
        self.requests += 1
        self._wake()

    def next_number(self) -> int:
        """The number of the message about to be accepted."""
        self._last_message += 1
        return self._last_message

    def keep(self, provider: Provider, submission: Submission, number: int, acceptance: Acceptance) -> None:
        """Keep an accepted message."""
        self.messages.append(
            SandboxMessage(
                number=number,
                received_at=self.clock.now(),
                provider=provider,
                channel=submission.channel,
                destination=submission.destination,
                sender=submission.sender,
                subject=submission.subject,
                html=submission.html,
                text=submission.text,
                idempotency_key=submission.idempotency_key,
                provider_message_id=acceptance.provider_message_id,
                segments=submission.segments,
                tags=submission.tags,
                headers=submission.headers,
                silent=submission.silent,
            )
        )
        self._wake()

    def log(self, provider: Provider, call: Call, status: int | None, *, fault: bool) -> None:
        """Log a call once its answer is decided."""
        self._last_attempt += 1
        self.attempts.append(
            Attempt(
                number=self._last_attempt,
                received_at=self.clock.now(),
                provider=provider,
                destination=call.destination,
                status=status,
                idempotency_key=call.idempotency_key,
                fault=fault,
            )
        )

    def clear(self) -> None:
        """Empty it, and count from 0 again; numbers of messages go on."""
        self.messages.clear()
        self.attempts.clear()
        self.requests = 0

    @property
    def accepted(self) -> int:
        """How many messages came in since it was last emptied, also those that are not kept any more."""
        return len(self.messages) + self.messages.dropped

    def newest(
        self, *, channel: str | None, destination: str | None, since: int, before: int | None, limit: int | None
    ) -> list[SandboxMessage]:
        """The newest messages that fit, oldest first; only those with a number above ``since`` and below ``before``."""
        fresh = takewhile(lambda message: message.number > since, reversed(self.messages))
        fitting = (
            message
            for message in fresh
            if (before is None or message.number < before)
            and channel in (None, message.channel)
            and destination in (None, message.destination)
        )
        return list(islice(fitting, limit))[::-1]

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for calls or messages until the condition holds."""
        while not condition():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _wake(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _message_weight(message: SandboxMessage) -> int:
    return weight(message.destination, message.sender, message.subject, message.html, message.text)


def _attempt_weight(attempt: Attempt) -> int:
    return weight(attempt.destination, attempt.idempotency_key)
