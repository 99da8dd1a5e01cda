"""One channel's part of phase C: claim what can be sent now, begin, send, hand the outcomes on (SPEC C-2 … C-9)."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from random import random
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import AlertsEngineError
from alerts_engine.phases.send.claims import SOURCES
from alerts_engine.phases.send.in_flight import InFlight
from alerts_engine.phases.send.limits import Pacer, TokenBucket
from alerts_engine.phases.send.outcome_writer import PendingOutcome
from alerts_engine.phases.send.row_update import row_update_for
from alerts_engine.phases.send.wakeup import Wakeup
from alerts_engine.statements import command
from alerts_engine.types import Channel, ChannelDown, Envelope, Outcome, Retry, SendResult, Sent

if TYPE_CHECKING:
    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.phases.send.claims import ClaimedMessage, Source
    from alerts_engine.phases.send.outcome_writer import OutcomeWriter
    from alerts_engine.phases.send.state import SendState

log = structlog.get_logger("alerts_engine.send")

move_telegram_chat = command("phase_c_send", "move_telegram_chat")

LONGEST_PAUSE_SECONDS = 60.0
"""A provider that asks for a longer pause gets it: the rest waits in the source, not in a worker (SPEC C-8)."""
UNASKED_PAUSE_SECONDS = 1.0
"""After a 429 that does not say how long to wait."""
LONGEST_FAILING_SECONDS = 60.0
"""Outcomes that cannot be written for so long end the sending by this channel."""
_REFILL_SHARE = 16
"""A claim waits until a sixteenth of the share is free: one statement for many rows, few places that stay empty."""
_MOST_UNWRITTEN = 4
"""Times the concurrency: outcomes that the database takes too slowly are not piled up without end."""
_LONGEST_WAIT_SECONDS = 1.0


class ChannelSender:
    """One channel from its first claim to its last outcome."""

    def __init__(self, state: SendState, writer: OutcomeWriter, adapter: ChannelAdapter) -> None:
        context, self._clock = state.context, asyncio.get_running_loop().time
        self._state = state
        self._context = context
        self._writer = writer
        self._adapter = adapter
        self._channel = adapter.channel
        self._bucket = TokenBucket(context.settings.rate_limit(adapter.channel), self._clock)
        self._pacer = Pacer(context.chat_interval if adapter.channel is Channel.TELEGRAM else 0.0, self._clock)
        self._wakeup = state.wakeups[adapter.channel] = Wakeup()
        self._in_flight = InFlight(context.stopping, context.settings.shutdown_seconds, self._wakeup.notify)
        self._is_down = False
        self._broken = 0

    async def run(self) -> None:
        """Send what is due: deliveries, then digests (SPEC C-1). Ends when nothing is due or the run must stop.

        Raises what the database raised, but only after the sends that are under way have come to their outcomes.
        """
        try:
            async with self._in_flight:
                for source in SOURCES:
                    while await self._send_some(source):
                        pass
        finally:
            self._state.leave(self._channel)
            if self._broken:
                self._state.problems.append(
                    f"{self._broken} sends by {self._channel} broke off by an internal error; their rows are reclaimed "
                    "when the lease runs out"
                )

    # --- deciding ---------------------------------------------------------------------------------------------------

    def _must_stop(self) -> bool:
        """Whether no more may be claimed; notes the reason."""
        context = self._context
        reason = None
        if context.stopping.is_set():
            reason = "signal"
        elif context.lock is not None and context.lock.lost.is_set():
            reason = "lock_lost"
        elif context.deadline is not None and self._clock() >= context.deadline:
            reason = "max_run_seconds"
        elif self._state.budget.is_spent:
            reason = "max_send_per_run"
        elif self._writer.failing_for > LONGEST_FAILING_SECONDS:
            reason = "outcomes_not_written"
        if reason is not None:
            self._state.counts.stop(reason)
        return reason is not None or self._is_down

    def _must_hold(self) -> bool:
        """Whether what is claimed already may not go out this moment after all."""
        lock = self._context.lock
        return (
            self._is_down
            or self._context.stopping.is_set()
            or (lock is not None and lock.lost.is_set())
            or self._bucket.paused_for() > 0
        )

    def _patience(self) -> float:
        """How long this run may wait for a paused bucket."""
        deadline = self._context.deadline
        return LONGEST_PAUSE_SECONDS if deadline is None else min(LONGEST_PAUSE_SECONDS, deadline - self._clock())

    def _room(self) -> int:
        """How many rows can be sent this very moment (SPEC C-3)."""
        settings, share = self._context.settings, self._state.share
        free = share - len(self._in_flight)
        if len(self._in_flight) and free < max(1, share // _REFILL_SHARE):
            return 0
        if self._writer.failing_for or self._writer.unwritten > _MOST_UNWRITTEN * settings.send_concurrency:
            return 0
        batch = self._context.batch_size or settings.send_batch_size
        return max(0, math.floor(min(free, self._bucket.available(), self._state.budget.left, batch)))

    async def _is_due(self, source: Source) -> bool:
        """Whether waiting is worth while: rows are due, or will be as soon as they are given back."""
        if self._writer.is_giving_back(source):
            return True
        context = self._context
        row = await context.database.row(
            source.statements.due,
            channel=self._channel,
            now=context.replayed_now,
            allowlist=context.allowlist,
            set_aside=self._writer.set_aside(source),
        )
        return row.due

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _wait_for_room(self, source: Source) -> bool:
        """Wait until something can be sent; false when that is not worth while, or would take too long (SPEC C-8)."""
        is_due = False
        while self._room() == 0 and not self._must_stop():
            if not is_due and self._bucket.wait_for_one() > 0:
                is_due = await self._is_due(source)
                if not is_due:
                    return False
            elif self._bucket.paused_for() > self._patience():
                self._state.counts.stop("rate_limited")
                return False
            else:
                await self._wait(self._bucket.wait_for_one())
        return True

    async def _wait(self, seconds: float) -> None:
        """For so long, or until something changes: a send ends, an outcome is written, the run must stop."""
        waits = [seconds if seconds > 0 else _LONGEST_WAIT_SECONDS]
        if self._context.deadline is not None:
            waits.append(max(0.01, self._context.deadline - self._clock()))
        await self._wakeup.wait(min(waits))

    # --- claiming ---------------------------------------------------------------------------------------------------

    async def _send_some(self, source: Source) -> bool:
        """One claim's worth, or one wait; false when nothing of ``source`` can be sent any more."""
        if self._must_stop():
            return False
        room = self._room()
        if room == 0:
            return await self._wait_for_room(source)
        resting = self._pacer.resting()
        claimed = await self._claim(source, room, resting)
        if claimed:
            await self._dispatch(source, claimed)
        elif self._writer.is_giving_back(source) or (resting and await self._is_due(source)):
            await self._wait(self._pacer.wait_for_one())
        else:
            return False
        return True

    async def _claim(self, source: Source, room: int, resting: list[str]) -> list[ClaimedMessage]:
        context, claimed = self._context, list["ClaimedMessage"]()
        # Set apart before the claim: the other senders draw on the same budget meanwhile.
        self._state.budget.reserve(room)
        try:
            claimed = await source.claim(
                context.database,
                self._state.events,
                channel=self._channel,
                claim_size=room,
                run_id=context.run_id,
                lease=timedelta(seconds=context.settings.send_lease_seconds),
                now=context.replayed_now,
                allowlist=context.allowlist,
                resting=resting,
                set_aside=self._writer.set_aside(source),
            )
        finally:
            self._state.give_back(room - len(claimed))
        self._state.counts.selected(source.name, len(claimed))
        return claimed

    async def _dispatch(self, source: Source, claimed: list[ClaimedMessage]) -> None:
        """Prepare what was claimed, note that the sends begin, and let them go."""
        ready: dict[int, tuple[ClaimedMessage, Envelope]] = {}
        for message in claimed:
            prepared = self._state.preparation.prepare(message, self._channel)
            if not isinstance(prepared, Envelope):
                self._finish(source, message, prepared)
            elif self._must_hold() or self._is_resting(message):
                self._give_back(source, message)
            else:
                ready[message.id] = message, prepared
        for message, envelope in await self._begin(source, ready):
            self._bucket.take(1)
            self._in_flight.launch(self._send(source, message, envelope))

    def _is_resting(self, message: ClaimedMessage) -> bool:
        """Whether its chat was written to within the second; if not, it is being written to now."""
        if self._channel is not Channel.TELEGRAM or message.destination is None:
            return False
        if message.destination in self._pacer.resting():
            return True
        self._pacer.sent_to(message.destination)
        return False

    async def _begin(
        self, source: Source, ready: dict[int, tuple[ClaimedMessage, Envelope]]
    ) -> list[tuple[ClaimedMessage, Envelope]]:
        """Note that these sends begin; what may not go out after all is given back."""
        begun: set[int] = set()
        if not ready:
            return []
        context = self._context
        try:
            rows = await context.database.rows(
                source.statements.begin,
                ids=list(ready),
                run_id=context.run_id,
                now=context.replayed_now,
                send_time=timedelta(seconds=context.settings.send_timeout_seconds),
            )
            if not self._must_hold():
                begun = {row.id for row in rows}
        finally:
            for message, _ in ready.values():
                if message.id not in begun:
                    self._give_back(source, message)
        return [ready[row_id] for row_id in ready if row_id in begun]

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _send(self, source: Source, message: ClaimedMessage, envelope: Envelope) -> None:
        try:
            result = await self._adapter.send(envelope)
            if result.destination_moved_to is not None:
                await self._keep_new_chat(message, result.destination_moved_to)
            self._heed(result)
            self._finish(source, message, result.outcome)
        except Exception as error:  # noqa: BLE001 - an adapter that breaks must not stop the others (C-5)
            # Whether it was sent is not known: the row keeps its lease, and is reclaimed as uncertain.
            log.error("send_broke", channel=self._channel, row=message.id, error=type(error).__name__)
            self._broken += 1
            self._state.spend()

    def _heed(self, result: SendResult) -> None:
        """What one answer says about the whole channel."""
        match result.outcome:
            case ChannelDown(cause=cause, error=error) if not self._is_down:
                self._is_down = True
                self._state.counts.channels_down[self._channel] = cause
                log.error("channel_down", channel=self._channel, cause=cause, error=error)
            case Retry(rate_limited=True, retry_after=asked):
                seconds = asked or UNASKED_PAUSE_SECONDS
                self._bucket.pause(seconds)
                log.warning("channel_paused", channel=self._channel, seconds=round(seconds, 1))
            case _:
                pass

    async def _keep_new_chat(self, message: ClaimedMessage, new: str) -> None:
        """Write the chat's new id to whoever has the old one (SPEC C-7)."""
        self._pacer.sent_to(new)
        try:
            await self._context.database.run(move_telegram_chat, old_chat_id=message.destination, new_chat_id=new)
        except AlertsEngineError as error:
            log.warning("new_chat_id_not_kept", error=str(error))

    def _finish(self, source: Source, message: ClaimedMessage, outcome: Outcome) -> None:
        update = row_update_for(outcome, message.attempts, self._state.policy, random=random())  # noqa: S311
        if update is None:
            self._give_back(source, message)
            return
        if isinstance(outcome, Sent):
            self._state.spend()
        else:
            self._state.give_back(1)
        self._state.counts.settled(source.name, self._channel, update)
        self._writer.add(PendingOutcome(source, message.id, update))
        self._context.progress("sending", self._state.counts.in_all, None)

    def _give_back(self, source: Source, message: ClaimedMessage) -> None:
        """Source it again as it was, with no attempt spent."""
        self._state.give_back(1)
        self._state.counts.selected(source.name, -1)
        self._writer.add(PendingOutcome(source, message.id, None))
