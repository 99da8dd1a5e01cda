"""One channel's part of phase C: claim what can be sent now, begin, send, hand the outcomes on (SPEC C-2 … C-9)."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import random
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import AlertsEngineError
from alerts_engine.phases.queues import QUEUES
from alerts_engine.phases.settler import Settled
from alerts_engine.sending.settlement import settlement_of
from alerts_engine.sending.token_bucket import Pacer, TokenBucket
from alerts_engine.statements import command
from alerts_engine.types import (
    Alert,
    Channel,
    ChannelDown,
    Envelope,
    Failed,
    Outcome,
    Retry,
    SendResult,
    Sent,
    Skipped,
    SkipReason,
)

if TYPE_CHECKING:
    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.phases.bell import Bell
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.queues import Queue, Work
    from alerts_engine.phases.send_counts import SendCounts
    from alerts_engine.phases.settler import Settler
    from alerts_engine.rendering import Renderer
    from alerts_engine.sending.backoff import RetryPolicy

log = structlog.get_logger("alerts_engine.send")

move_telegram_chat = command("phase_c_send", "move_telegram_chat")

CHAT_INTERVAL_SECONDS = 1.0
"""Telegram takes about one message a second per chat."""
LONGEST_PAUSE_SECONDS = 60.0
"""A provider that asks for a longer pause gets it: the rest waits in the queue, not in a worker (SPEC C-8)."""
_REFILL_SHARE = 4
"""A claim is made when a quarter of the lane is free: one statement for many rows."""
_MOST_UNWRITTEN = 4
"""Times the concurrency: outcomes the database does not take are not piled up without end."""


@dataclass(slots=True)
class Budget:
    """``ALERTS_MAX_SEND_PER_RUN`` over all channels: what is under way is set apart, what was not sent comes back."""

    left: int
    under_way: int = 0

    def reserve(self, count: int) -> None:
        self.left -= count
        self.under_way += count

    def spend(self) -> None:
        self.under_way -= 1

    def give_back(self, count: int) -> None:
        self.under_way -= count
        self.left += count


@dataclass(slots=True)
class Traffic:
    """What the lanes of one run share."""

    context: PhaseContext
    renderer: Renderer
    policy: RetryPolicy
    counts: SendCounts
    budget: Budget
    bell: Bell
    settler: Settler
    lanes: set[Channel] = field(default_factory=set)
    """The channels that still have something to do; they share the concurrency."""

    @property
    def share(self) -> int:
        """Sends in flight that each lane may have, so that a slow channel cannot take the others' place (SPEC C-4)."""
        return max(1, self.context.settings.send_concurrency // max(1, len(self.lanes)))


class Lane:
    """One channel from its first claim to its last outcome."""

    def __init__(self, traffic: Traffic, adapter: ChannelAdapter) -> None:
        loop = asyncio.get_running_loop()
        self._traffic = traffic
        self._context = traffic.context
        self._adapter = adapter
        self._bucket = TokenBucket(self._context.settings.rate_limit(adapter.channel), loop.time)
        self._pacer = Pacer(CHAT_INTERVAL_SECONDS if adapter.channel is Channel.TELEGRAM else 0.0, loop.time)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._down: ChannelDown | None = None
        self._clock = loop.time

    async def run(self) -> None:
        """Send what is due: deliveries, then digests (SPEC C-1). Ends when nothing is due or the run must stop."""
        try:
            for queue in QUEUES:
                while not self._must_stop() and await self._send_some(queue):
                    pass
            await self._wait_for_flights()
        finally:
            self._traffic.lanes.discard(self._adapter.channel)
            self._traffic.bell.ring()
            await self._abandon_flights()

    # --- deciding ---------------------------------------------------------------------------------------------------

    def _must_stop(self) -> bool:
        """Whether no more may be claimed; notes the reason."""
        if self._down is not None:
            return True
        context, counts = self._context, self._traffic.counts
        reason = None
        if context.stopping.is_set():
            reason = "signal"
        elif context.lock is not None and context.lock.lost.is_set():
            reason = "lock_lost"
        elif context.deadline is not None and self._clock() >= context.deadline:
            reason = "max_run_seconds"
        elif self._traffic.budget.left <= 0 and self._traffic.budget.under_way <= 0:
            reason = "max_send_per_run"
        elif self._bucket.paused_for() > self._patience():
            reason = "rate_limited"
        if reason is not None:
            counts.stop(reason)
        return reason is not None

    def _patience(self) -> float:
        """How long this run may wait for a paused bucket."""
        deadline = self._context.deadline
        return LONGEST_PAUSE_SECONDS if deadline is None else min(LONGEST_PAUSE_SECONDS, deadline - self._clock())

    def _room(self) -> int:
        """How many rows can be sent this very moment (SPEC C-3)."""
        traffic, settings = self._traffic, self._context.settings
        free = traffic.share - len(self._in_flight)
        if self._in_flight and free < max(1, traffic.share // _REFILL_SHARE):
            return 0
        if traffic.settler.unwritten > _MOST_UNWRITTEN * settings.send_concurrency:
            return 0
        batch = self._context.batch_size or settings.send_batch_size
        return max(0, math.floor(min(free, self._bucket.available(), traffic.budget.left, batch)))

    async def _wait(self, *others: float) -> None:
        """Until something changes: a send ends, a token falls, a chat has rested, or the run must end."""
        waits = [wait for wait in (self._bucket.wait_for_one(), *others) if wait > 0]
        if self._context.deadline is not None:
            waits.append(max(0.01, self._context.deadline - self._clock()))
        await self._traffic.bell.wait(min(waits, default=1.0))

    # --- claiming ---------------------------------------------------------------------------------------------------

    async def _send_some(self, queue: Queue) -> bool:
        """One claim's worth, or one wait; false when nothing of ``queue`` is due any more."""
        room = self._room()
        if room == 0:
            await self._wait()
            return True
        # Set apart before the claim: the other lanes draw on the same budget meanwhile.
        self._traffic.budget.reserve(room)
        resting = self._pacer.resting()
        claimed: list[Work] = []
        try:
            claimed = await self._claim(queue, room, resting)
        finally:
            self._traffic.budget.give_back(room - len(claimed))
        if claimed:
            await self._dispatch(queue, claimed)
            return True
        if resting:
            await self._wait(self._pacer.wait_for_one())
            return True
        return False

    async def _claim(self, queue: Queue, room: int, resting: list[str]) -> list[Work]:
        context = self._context
        claimed = await queue.claim(
            context.database,
            channel=self._adapter.channel,
            claim_size=room,
            run_id=context.run_id,
            lease=timedelta(seconds=context.settings.send_lease_seconds),
            now=context.replayed_now,
            allowlist=context.allowlist,
            resting=resting,
            set_aside=self._traffic.settler.unwritten_ids(queue),
        )
        self._traffic.counts.selected(queue.name, len(claimed))
        return claimed

    async def _dispatch(self, queue: Queue, claimed: list[Work]) -> None:
        """Prepare what was claimed, note that the sends begin, and let them go."""
        ready: list[tuple[Work, Envelope]] = []
        for work in claimed:
            prepared = prepare(work, self._adapter.channel, self._traffic.renderer)
            if not isinstance(prepared, Envelope):
                self._finish(queue, work, prepared)
            elif self._context.stopping.is_set() or self._is_resting(prepared):
                self._give_back(queue, work)
            else:
                ready.append((work, prepared))
        begun = await self._begin(queue, [work for work, _ in ready])
        self._bucket.take(len(begun))
        for work, envelope in ready:
            if work.id in begun:
                task = asyncio.create_task(self._send(queue, work, envelope))
                self._in_flight.add(task)
                task.add_done_callback(self._landed)
            else:  # another run holds it now: not ours to settle
                self._traffic.budget.give_back(1)

    def _is_resting(self, envelope: Envelope) -> bool:
        """Whether its chat was written to within the second; if not, it is being written to now."""
        if self._adapter.channel is not Channel.TELEGRAM:
            return False
        if envelope.destination in self._pacer.resting():
            return True
        self._pacer.sent_to(envelope.destination)
        return False

    async def _begin(self, queue: Queue, works: list[Work]) -> set[int]:
        if not works:
            return set()
        try:
            ids = [work.id for work in works]
            rows = await self._context.database.rows(queue.lifecycle.begin, ids=ids, run_id=self._context.run_id)
        except AlertsEngineError:
            # Nothing was sent: give them back as soon as the database answers, and let the lane end.
            for work in works:
                self._give_back(queue, work)
            raise
        return {row.id for row in rows}

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _send(self, queue: Queue, work: Work, envelope: Envelope) -> None:
        result = await self._adapter.send(envelope)
        if result.destination_moved_to is not None:
            await self._keep_new_chat(envelope.destination, result.destination_moved_to)
        self._heed(result)
        self._finish(queue, work, result.outcome)

    def _heed(self, result: SendResult) -> None:
        """What one answer says about the whole channel."""
        match result.outcome:
            case ChannelDown(cause=cause) as down if self._down is None:
                self._down = down
                self._traffic.counts.channels_down[self._adapter.channel] = cause
                log.error("channel_down", channel=self._adapter.channel, cause=cause, error=down.error)
            case Retry(rate_limited=True, retry_after=seconds) if seconds:
                self._bucket.pause(seconds)
                log.warning("channel_paused", channel=self._adapter.channel, seconds=round(seconds, 1))
            case _:
                pass

    async def _keep_new_chat(self, old: str, new: str) -> None:
        try:
            await self._context.database.run(move_telegram_chat, old_chat_id=old, new_chat_id=new)
        except AlertsEngineError as error:
            log.warning("new_chat_id_not_kept", error=str(error))

    def _finish(self, queue: Queue, work: Work, outcome: Outcome) -> None:
        settlement = settlement_of(outcome, work.attempts, self._traffic.policy, random=random())  # noqa: S311
        if settlement is None:
            self._give_back(queue, work)
            return
        if isinstance(outcome, Sent):
            self._traffic.budget.spend()
        else:
            self._traffic.budget.give_back(1)
        self._traffic.counts.settled(queue.name, self._adapter.channel, settlement)
        self._traffic.settler.add(Settled(queue, work.id, settlement))
        self._context.progress("sending", self._traffic.counts.in_all, None)

    def _give_back(self, queue: Queue, work: Work) -> None:
        """Queue it again as it was, with no attempt spent."""
        self._traffic.budget.give_back(1)
        self._traffic.counts.selected(queue.name, -1)
        self._traffic.settler.add(Settled(queue, work.id, None))

    # --- ending -----------------------------------------------------------------------------------------------------

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._traffic.bell.ring()
        if not task.cancelled() and task.exception() is not None:
            # Its row keeps its lease and is reclaimed as uncertain: whether it was sent is not known.
            log.error("send_broke", channel=self._adapter.channel, error=type(task.exception()).__name__)

    async def _wait_for_flights(self) -> None:
        """Let sends in flight finish; after a signal only for ``ALERTS_SHUTDOWN_SECONDS`` (SPEC CLI-7)."""
        stopping = asyncio.ensure_future(self._context.stopping.wait())
        try:
            while self._in_flight and not stopping.done():
                await asyncio.wait([*self._in_flight, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=self._context.settings.shutdown_seconds)
        finally:
            stopping.cancel()

    async def _abandon_flights(self) -> None:
        for task in self._in_flight:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._in_flight, return_exceptions=True)


def prepare(work: Work, channel: Channel, renderer: Renderer) -> Envelope | Skipped | Failed:
    """The message of a claimed row, or why there is none (SPEC C-10). Pure."""
    if not work.channel_enabled:
        return Skipped(SkipReason.CHANNEL_DISABLED)
    if work.destination is None or not work.destination.strip():
        return Skipped(SkipReason.MISSING_DESTINATION)
    try:
        if isinstance(work.content, Alert):
            message = renderer.instant(work.content, channel)
        elif work.content.items:
            message = renderer.digest(work.content, channel)
        else:
            return Skipped(SkipReason.EMPTY_DIGEST)
    except Exception as error:  # noqa: BLE001 - one row that cannot be rendered must not stop the others
        log.error("render_failed", row=work.id, channel=channel, error=type(error).__name__)
        return Failed("render_failed")
    return Envelope(work.destination.strip(), message, work.idempotency_key)
