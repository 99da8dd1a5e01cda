"""What the sandbox has seen and kept."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from alerts_engine.sandbox.model import KEPT, Attempt, SandboxMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine.sandbox.model import Acceptance, Call, Provider, Submission


class Mailbox:
    """Accepted messages and attempts, oldest first, ``KEPT`` of each."""

    def __init__(self) -> None:
        self.messages: deque[SandboxMessage] = deque(maxlen=KEPT)
        self.attempts: deque[Attempt] = deque(maxlen=KEPT)
        self.requests = 0
        """Calls that have arrived, answered or not."""
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
                received_at=datetime.now(UTC),
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
            )
        )
        self._wake()

    def log(self, provider: Provider, call: Call, status: int | None, *, fault: bool) -> None:
        """Log a call once its answer is decided."""
        self._last_attempt += 1
        self.attempts.append(
            Attempt(
                number=self._last_attempt,
                received_at=datetime.now(UTC),
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

    def newest(
        self, *, channel: str | None, destination: str | None, since: int, limit: int | None
    ) -> list[SandboxMessage]:
        """The newest messages that fit, oldest first; only those with a number above ``since``."""
        fresh = takewhile(lambda message: message.number > since, reversed(self.messages))
        fitting = (
            message
            for message in fresh
            if channel in (None, message.channel) and destination in (None, message.destination)
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
