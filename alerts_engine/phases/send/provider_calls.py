"""One channel's calls of its provider: each ends in an outcome, and some say something about the whole channel."""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Self

import structlog

from alerts_engine.errors import AlertsEngineError
from alerts_engine.phases.send.in_flight import InFlight
from alerts_engine.phases.send.outcome_writer import PendingOutcome
from alerts_engine.phases.send.row_update import Provider, row_update_for
from alerts_engine.statements import command
from alerts_engine.tracing import in_span
from alerts_engine.types import ChannelDown, Retry, SendOutcome, Sent, Uncertain

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.phases.send.claims import ClaimedMessage, Source
    from alerts_engine.phases.send.limits import ChannelLimits, SendState
    from alerts_engine.phases.send.outcome_writer import OutcomeWriter
    from alerts_engine.types import Envelope, Outcome, SendResult

log = structlog.get_logger("alerts_engine.send")

UNASKED_PAUSE_SECONDS = 1.0
"""After a 429 that does not say how long to wait."""

move_telegram_chat = command("phase_c_send", "move_telegram_chat")


class ProviderCalls:
    """The calls under way; the end of the ``async with`` block is the end of all of them (see :class:`InFlight`)."""

    def __init__(
        self,
        state: SendState,
        writer: OutcomeWriter,
        limits: ChannelLimits,
        adapter: ChannelAdapter,
        on_landed: Callable[[], None],
    ) -> None:
        context = state.context
        self._state = state
        self._context = context
        self._writer = writer
        self._limits = limits
        self._adapter = adapter
        self._in_flight = InFlight(context.stopping, context.settings.shutdown_seconds, on_landed)
        self._broken = 0
        life = adapter.key_life
        self._provider = Provider(
            key_seconds=None if life is None else life.total_seconds(),
            can_ask=adapter.can_ask,
            gives_up=context.settings.uncertain_send == "fail",
        )

    def __len__(self) -> int:
        return len(self._in_flight)

    async def __aenter__(self) -> Self:
        await self._in_flight.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._in_flight.__aexit__(kind, error, trace)
        finally:
            if self._broken:
                self._state.problems.append(
                    f"{self._broken} sends by {self._adapter.channel} broke off by an internal error; their rows are "
                    "reclaimed when the lease expires"
                )

    def launch(self, source: Source, message: ClaimedMessage, envelope: Envelope) -> None:
        """Let one message go; what comes of it is written when it is known."""
        self._limits.bucket.take(1)
        self._state.calling.add((source.name, message.id))
        self._state.counts.repeated += message.is_repeat
        self._in_flight.launch(self._send(source, message, envelope))

    async def _send(self, source: Source, message: ClaimedMessage, envelope: Envelope) -> None:
        try:
            result = await in_span(
                "send",
                self._adapter.send(envelope),
                lambda result: {"outcome": type(result.outcome).__name__},
                channel=self._adapter.channel,
                source=source.name,
                row=message.id,
            )
            if result.destination_moved_to is not None:
                await self._keep_new_chat(message, result.destination_moved_to)
            self._heed(result)
            self.finish(source, message, result.outcome)
        except Exception as error:  # noqa: BLE001 - an adapter that breaks must not stop the others (C-5)
            # Whether it was sent is not known: the row keeps its lease, and is reclaimed as uncertain.
            log.error("send_broke", channel=self._adapter.channel, row=message.id, error=type(error).__name__)
            self._broken += 1
            self._state.spend()

    def _heed(self, result: SendResult) -> None:
        """What one answer says about the whole channel."""
        channel = self._adapter.channel
        match result.outcome:
            case ChannelDown(cause=cause, error=error) if not self._limits.is_down:
                self._limits.is_down = True
                self._state.counts.channels_down[channel] = cause
                log.error("channel_down", channel=channel, cause=cause, error=error)
            case Retry(rate_limited=True, retry_after=asked):
                seconds = asked or UNASKED_PAUSE_SECONDS
                self._limits.bucket.pause(seconds)
                log.warning("channel_paused", channel=channel, seconds=round(seconds, 1))
            case _:
                pass

    async def _keep_new_chat(self, message: ClaimedMessage, new: str) -> None:
        """Write the chat's new id to whoever has the old one (SPEC C-7)."""
        self._limits.pacer.sent_to(new)
        try:
            await self._context.database.run(move_telegram_chat, old_chat_id=message.destination, new_chat_id=new)
        except AlertsEngineError as error:
            log.warning("new_chat_id_not_kept", error=str(error))

    def finish(self, source: Source, message: ClaimedMessage, outcome: Outcome) -> None:
        """Have the outcome written, and count it."""
        update = row_update_for(
            outcome,
            message.attempts,
            self._state.policy,
            self._provider,
            random=random(),  # noqa: S311
            is_repeat=message.is_repeat,
        )
        if update is None:
            self.give_back(source, message)
            return
        if isinstance(outcome, Sent | Uncertain):
            self._state.spend()
        else:
            self._state.give_back(1)
        self._state.counts.settled(source.name, self._adapter.channel, update)
        self._writer.add(PendingOutcome(source, message.id, update, called=self._state.end_call(source, message)))
        self._context.on_outcome(SendOutcome(source.name, message.id, self._adapter.channel, outcome))
        self._context.progress("sending", self._state.counts.in_all, None)

    def give_back(self, source: Source, message: ClaimedMessage) -> None:
        """Queue it again as it was, with no attempt spent."""
        self._state.give_back(1)
        self._state.counts.selected(source.name, -1)
        self._writer.add(PendingOutcome(source, message.id, None, called=self._state.end_call(source, message)))
