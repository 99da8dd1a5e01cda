"""One channel's loop: claim what can be sent now, prepare, begin, hand it to the provider (SPEC C-2 … C-4)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from alerts_engine.channels.base import body_digest
from alerts_engine.phases.send.beside import Beside
from alerts_engine.phases.send.claims import HEAD, SOURCES
from alerts_engine.phases.send.limits import ChannelLimits
from alerts_engine.phases.send.provider_calls import ProviderCalls
from alerts_engine.tracing import in_span
from alerts_engine.types import Channel, Envelope, StopReason

if TYPE_CHECKING:
    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.phases.send.claims import ClaimedMessage, Position, Source
    from alerts_engine.phases.send.limits import SendState
    from alerts_engine.phases.send.outcome_writer import OutcomeWriter

_MOST_BEGINNING = 4
"""A begin waits for the disk; those of several claims wait for it together."""

Ready = dict[int, tuple["ClaimedMessage", Envelope]]
"""Rows that are prepared, by their ids."""


class ChannelSender:
    """One channel from its first claim to its last outcome."""

    def __init__(self, state: SendState, writer: OutcomeWriter, adapter: ChannelAdapter) -> None:
        self._state = state
        self._context = state.context
        self._writer = writer
        self._adapter = adapter
        self._channel = adapter.channel
        self._limits = ChannelLimits(state, writer, adapter.channel)
        self._calls = ProviderCalls(state, writer, self._limits, adapter, self._room_changed)
        self._beginning = Beside(_MOST_BEGINNING, self._room_changed)
        """What was claimed is begun beside the next claims."""
        self._position = HEAD
        """Where the next claim begins."""
        settings = state.context.settings
        self._longest_wait = settings.send_lease_seconds - settings.send_timeout_seconds
        """From a claim to a send that still ends within the lease."""
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Send what is due: deliveries, then digests (SPEC C-1). Ends when nothing is due or the run must stop.

        Raises what the database raised, but only after the sends that are under way have come to their outcomes.
        """
        try:
            async with self._calls, self._beginning:
                for source in SOURCES:
                    self._position = HEAD
                    while await self._send_some(source):
                        pass
        finally:
            self._state.leave(self._channel)

    async def _send_some(self, source: Source) -> bool:
        """One claim's worth, or one wait; false when nothing of ``source`` can be sent any more."""
        limits = self._limits
        if limits.must_stop():
            return False
        room = self._room()
        if room == 0:
            return await self._wait_for_room(source)
        resting = limits.pacer.resting()
        if resting and limits.search.left() > 0:
            await limits.wait(limits.search.left())
            return True
        holds_until = self._clock() + self._longest_wait
        claimed = await self._claim(source, room, resting)
        if claimed:
            await self._hand_over(source, self._prepare(source, claimed, holds_until))
        elif self._beginning.size:
            await self._beginning.end()
        elif self._writer.is_giving_back(source) or (resting and await self._is_due(source)):
            await limits.wait(limits.pacer.wait_for_one())
        else:
            return False
        return True

    def _room(self) -> int:
        """How many rows can be claimed; those that begin take places and tokens as those do that are being sent."""
        return self._limits.room(len(self._calls), self._beginning.size)

    def _room_changed(self) -> None:
        """Something has ended: wake up for as many rows as are worth a claim, not for each."""
        if self._limits.wakeup.waiting and (not len(self._calls) or self._room()):
            self._limits.wakeup.notify()

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _wait_for_room(self, source: Source) -> bool:
        """Wait until something can be sent; false when that is not worth while, or would take too long (SPEC C-8)."""
        limits, is_due = self._limits, False
        while self._room() == 0 and not limits.must_stop():
            if not is_due and limits.bucket.wait_for_one() > 0:
                is_due = await self._is_due(source)
                if not is_due:
                    return False
            elif limits.bucket.paused_for() > limits.patience():
                self._state.counts.stop(StopReason.RATE_LIMITED)
                return False
            else:
                await limits.wait(limits.bucket.wait_for_one())
        return True

    async def _is_due(self, source: Source) -> bool:
        """Whether waiting is worth while: rows are due, or will be as soon as they are given back."""
        if self._writer.is_giving_back(source):
            return True
        row = await self._context.database.row(
            source.statements.due,
            channel=self._channel,
            now=self._context.replayed_now,
            allowlist=self._context.allowlist,
            set_aside=self._writer.set_aside(source),
            provider=self._adapter.provider,
            key_life=self._adapter.key_life,
            max_attempts=self._context.settings.max_attempts,
        )
        return row.due

    # --- claiming ---------------------------------------------------------------------------------------------------

    async def _claim(self, source: Source, room: int, resting: list[str]) -> list[ClaimedMessage]:
        """As many due rows as there is room for: from where the last claim ended, and then from the head."""
        claimed = list["ClaimedMessage"]()
        # Set apart before the claim: the other senders draw on the same budget meanwhile.
        self._state.budget.reserve(room)
        try:
            claimed = await self._claim_from(self._position, source, room, resting)
            if len(claimed) < room and self._position is not HEAD:
                claimed += await self._claim_from(HEAD, source, room - len(claimed), resting)
        finally:
            self._state.give_back(room - len(claimed))
        # Behind a destination that rests there are rows to come back for: the next claim looks at them again.
        self._position = HEAD if self._limits.pacer.interval else self._position.after(claimed)
        self._state.counts.selected(source.name, len(claimed))
        return claimed

    async def _claim_from(self, start: Position, source: Source, room: int, resting: list[str]) -> list[ClaimedMessage]:
        context, began = self._context, self._clock()
        claiming = source.claim(
            context.database,
            self._state.events,
            start,
            channel=self._channel,
            claim_size=room,
            run_id=context.run_id,
            lease=timedelta(seconds=context.settings.send_lease_seconds),
            now=context.replayed_now,
            allowlist=context.allowlist,
            resting=resting,
            set_aside=self._writer.set_aside(source),
            provider=self._adapter.provider,
            key_life=self._adapter.key_life,
            max_attempts=context.settings.max_attempts,
            says_why=self._channel == Channel.EMAIL,
            begins=self._adapter.key_life is not None,
        )
        claimed = await in_span(
            "claim", claiming, lambda rows: {"rows": len(rows)}, channel=self._channel, source=source.name
        )
        self._limits.search.searched(self._clock() - began)
        return claimed

    def _prepare(self, source: Source, claimed: list[ClaimedMessage], holds_until: float) -> Ready:
        """The messages that can go; the others end here, or go back."""
        is_late = self._clock() >= holds_until  # this process was asleep, or the database was slow
        ready: Ready = {}
        for message in claimed:
            prepared = self._state.preparation.prepare(message, self._channel)
            if not isinstance(prepared, Envelope):
                self._calls.finish(source, message, prepared)
            elif is_late or self._limits.must_hold() or self._limits.is_resting(message):
                self._calls.give_back(source, message)
            else:
                ready[message.id] = message, prepared
        return ready

    async def _hand_over(self, source: Source, ready: Ready) -> None:
        """Let go at once what its claim has begun; the others begin beside the next claims."""
        waiting: Ready = {}
        for row_id, (message, envelope) in ready.items():
            if message.is_begun:
                self._calls.launch(source, message, envelope)
            else:
                waiting[row_id] = message, envelope
        if waiting:
            await self._beginning.start(self._begin_and_launch(source, waiting), len(waiting))

    async def _begin_and_launch(self, source: Source, ready: Ready) -> None:
        for row_id in await self._begin(source, ready):
            self._calls.launch(source, *ready[row_id])

    async def _begin(self, source: Source, ready: Ready) -> list[int]:
        """Note that these sends begin; what may not go out after all is given back."""
        begun: list[int] = []
        context = self._context
        try:
            rows = await context.database.rows(
                source.statements.begin,
                ids=list(ready),
                run_id=context.run_id,
                now=context.replayed_now,
                send_time=timedelta(seconds=context.settings.send_timeout_seconds),
                provider=self._adapter.provider,
                body_digests=[body_digest(envelope.message) for _, envelope in ready.values()],
                key_life=self._adapter.key_life,
            )
            if not self._limits.must_hold():
                noted = {row.id for row in rows}
                begun = [row_id for row_id in ready if row_id in noted]
        finally:
            for row_id in ready.keys() - set(begun):
                self._calls.give_back(source, ready[row_id][0])
        return begun
