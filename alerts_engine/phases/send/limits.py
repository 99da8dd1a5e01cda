"""What may go out now: the budget, each channel's share, its rate and its pace per destination (SPEC C-3 … C-9)."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alerts_engine.channels import channels
from alerts_engine.phases.send.rates import Pacer, SearchPause, TokenBucket
from alerts_engine.types import StopReason

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.send.backoff import RetryPolicy
    from alerts_engine.phases.send.claims import ClaimedMessage, Source, SourceName
    from alerts_engine.phases.send.counts import SendCounts
    from alerts_engine.phases.send.event_cache import EventCache
    from alerts_engine.phases.send.outcome_writer import OutcomeWriter
    from alerts_engine.phases.send.prepare import Preparation

LONGEST_PAUSE_SECONDS = 60.0
"""A provider that asks for a longer pause gets it: the rest waits in the queue, not in a worker (SPEC C-8)."""
LONGEST_FAILING_SECONDS = 60.0
"""Outcomes that cannot be written for this long end the sending by this channel."""
_REFILL_SHARE = 8
"""A claim waits until an eighth of the share is free: one statement for many rows, few places that stay empty."""
_MOST_UNWRITTEN = 4
"""Times the concurrency: outcomes that the database takes too slowly are not piled up without end."""
_LONGEST_WAIT_SECONDS = 1.0


class Wakeup:
    """A condition: every notification wakes all that wait now; nobody hears one from before."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.waiting = 0
        """How many wait now."""

    def notify(self) -> None:
        """Wake all that wait."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Until the next notification, or for this many seconds."""
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self.waiting -= 1


@dataclass(slots=True)
class Budget:
    """``ALERTS_MAX_SEND_PER_RUN`` over all channels: what is under way is set apart, what was not sent comes back."""

    left: int
    under_way: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left, and nothing can come back."""
        return self.left <= 0 and self.under_way <= 0

    def reserve(self, count: int) -> None:
        self.left -= count
        self.under_way += count

    def spend(self) -> None:
        self.under_way -= 1

    def give_back(self, count: int) -> None:
        self.under_way -= count
        self.left += count


@dataclass(slots=True)
class SendState:
    """Shared by the senders of one run."""

    context: PhaseContext
    events: EventCache
    preparation: Preparation
    policy: RetryPolicy
    counts: SendCounts
    budget: Budget
    wakeups: dict[str, Wakeup] = field(default_factory=dict)
    """The channels that still have something to do; they share the concurrency."""
    problems: list[str] = field(default_factory=list)
    """What went wrong without ending a sender."""
    calling: set[tuple[SourceName, int]] = field(default_factory=set)
    """The rows whose provider is being called, and those whose call broke off without an outcome."""

    @property
    def share(self) -> int:
        """Sends in flight that each sender may have, so that a slow channel cannot take the others' place (SPEC C-4).

        At least one each, also where the concurrency is lower than the number of channels.
        """
        return max(1, self.context.settings.send_concurrency // max(1, len(self.wakeups)))

    def leave(self, channel: str) -> None:
        """A sender has ended; the others may have its share."""
        self.wakeups.pop(channel, None)
        self.wake()

    def end_call(self, source: Source, message: ClaimedMessage) -> bool:
        """The outcome of this row is known: end its call, if there was one; whether there was."""
        was_called = (source.name, message.id) in self.calling
        self.calling.discard((source.name, message.id))
        return was_called

    def spend(self) -> None:
        """A message was sent, or may have been."""
        self.budget.spend()
        if self.budget.is_spent:
            self.wake()

    def give_back(self, count: int) -> None:
        """What was set apart of the budget is free again; a sender may be waiting for it."""
        if count:
            self.budget.give_back(count)
            self.wake()

    def wake(self) -> None:
        """Something has changed that any sender may wait for."""
        for wakeup in self.wakeups.values():
            wakeup.notify()


class ChannelLimits:
    """What one channel may send this moment, and how long it may wait for more."""

    def __init__(self, state: SendState, writer: OutcomeWriter, channel: str) -> None:
        self._state = state
        self._context = context = state.context
        self._writer = writer
        self._clock = asyncio.get_running_loop().time
        self.bucket = TokenBucket(context.settings.rate_limit(channel), self._clock)
        self.pacer = Pacer(context.pace * channels()[channel].seconds_per_destination, self._clock)
        self.search = SearchPause(self._clock)
        self.wakeup = state.wakeups[channel] = Wakeup()
        self.is_down = False

    def must_stop(self) -> bool:
        """Whether no more may be claimed; notes the reason."""
        reason = self._stop_reason()
        if reason is not None:
            self._state.counts.stop(reason)
        return reason is not None or self.is_down

    def _stop_reason(self) -> StopReason | None:
        context = self._context
        if context.stopping.is_set():
            return StopReason.SIGNAL
        if context.is_lock_lost:
            return StopReason.LOCK_LOST
        if context.deadline is not None and self._clock() >= context.deadline:
            return StopReason.MAX_RUN_SECONDS
        if self._state.budget.is_spent:
            return StopReason.MAX_SEND_PER_RUN
        return StopReason.OUTCOMES_NOT_WRITTEN if self._writer.failing_for > LONGEST_FAILING_SECONDS else None

    def must_hold(self) -> bool:
        """Whether what is claimed already may not go out this moment after all."""
        context = self._context
        return self.is_down or context.stopping.is_set() or context.is_lock_lost or self.bucket.paused_for() > 0

    def is_resting(self, message: ClaimedMessage) -> bool:
        """Whether its destination was written to just now; if not, it is being written to now."""
        if self.pacer.interval == 0 or message.destination is None:
            return False
        if message.destination in self.pacer.resting():
            return True
        self.pacer.sent_to(message.destination)
        return False

    def patience(self) -> float:
        """How long this run may wait for a paused bucket, in seconds."""
        deadline = self._context.deadline
        return LONGEST_PAUSE_SECONDS if deadline is None else min(LONGEST_PAUSE_SECONDS, deadline - self._clock())

    def room(self, in_flight: int, beginning: int = 0) -> int:
        """How many rows can be sent this very moment, beside those in flight and those that begin (SPEC C-3)."""
        settings, share = self._context.settings, self._state.share
        free = share - in_flight - beginning
        if (in_flight or beginning) and free < max(1, share // _REFILL_SHARE):
            return 0
        if self._writer.failing_for or self._writer.unwritten > _MOST_UNWRITTEN * settings.send_concurrency:
            return 0
        batch = self._context.batch_size or settings.send_batch_size
        return max(0, math.floor(min(free, self.bucket.available() - beginning, self._state.budget.left, batch)))

    async def wait(self, seconds: float) -> None:
        """For this long, or until something changes: a send ends, an outcome is written, the run must stop."""
        waits = [seconds if seconds > 0 else _LONGEST_WAIT_SECONDS]
        if self._context.deadline is not None:
            waits.append(max(0.01, self._context.deadline - self._clock()))
        await self.wakeup.wait(min(waits))
