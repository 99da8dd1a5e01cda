"""Phase C: reclaim what a crash left, then send what is due, each channel by a sender of its own (SPEC section 8)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from alerts_engine.channels import channels
from alerts_engine.errors import AlertsEngineError, LockLostError, PhaseError
from alerts_engine.phases.send.backoff import RetryPolicy
from alerts_engine.phases.send.channel_sender import ChannelSender
from alerts_engine.phases.send.claims import SOURCES, SourceName, channel_work
from alerts_engine.phases.send.event_cache import EventCache
from alerts_engine.phases.send.folding import fold, fold_on
from alerts_engine.phases.send.limits import Budget, SendState
from alerts_engine.phases.send.outcome_writer import OutcomeStatements, OutcomeWriter
from alerts_engine.phases.send.prepare import Preparation
from alerts_engine.phases.send.resolve import Resolver
from alerts_engine.settings.links import reader_links
from alerts_engine.types import StopReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.phases.context import PhaseContext, Transports
    from alerts_engine.phases.send.counts import SendCounts

log = structlog.get_logger("alerts_engine.send")

_SKIP_BATCH = 5_000


async def send(context: PhaseContext, counts: SendCounts, transports: Transports) -> None:
    """Send what is due.

    Raises :class:`PhaseError` at the end when a channel is down, an outcome is not written, or the lock was lost.
    """
    await _reclaim(context, counts, transports)
    await _skip_unconfigured(context, counts, transports)
    problems = await _send_on_all_channels(context, counts, transports)
    await fold(context)
    problems[:0] = [f"channel {channel} is down: {cause}" for channel, cause in sorted(counts.channels_down.items())]
    try:
        context.check_lock()
    except LockLostError as error:
        counts.stop(StopReason.LOCK_LOST)
        problems.insert(0, str(error))
    if problems:
        raise PhaseError("; ".join(problems))


async def _reclaim(context: PhaseContext, counts: SendCounts, transports: Transports) -> None:
    """Take back what a killed run left in ``sending`` (C-11)."""
    settings = context.settings
    mute = _mute_providers(transports)
    for source in SOURCES:
        row = await context.database.row(
            source.statements.reclaim,
            now=context.replayed_now,
            max_attempts=settings.max_attempts,
            give_up=settings.uncertain_send == "fail",
            mute=mute,
        )
        counts.reclaimed += row.reclaimed
        counts.uncertain += row.uncertain
        if source.name is SourceName.DIGESTS:
            counts.digests.failed += row.failed
        else:
            counts.failed += row.failed
        if row.reclaimed:
            log.warning("reclaimed", source=source.name, rows=row.reclaimed, failed=row.failed)


def _mute_providers(transports: Transports) -> list[str]:
    """Those that recognise no key and cannot be asked: what became of an uncertain send nobody can tell."""
    return [one.provider for one in transports.adapters.values() if one.key_life is None and not one.can_ask]


async def _skip_unconfigured(context: PhaseContext, counts: SendCounts, transports: Transports) -> None:
    """End the due rows of channels without credentials, unless they are to wait for them (C-10)."""
    settings = context.settings
    if settings.fail_open_on_channel_missing:
        return
    for channel in channels():
        if channel in transports.adapters or channel in settings.channels_paused:
            continue
        for source in SOURCES:
            ended = _SKIP_BATCH
            while ended == _SKIP_BATCH and not context.stopping.is_set():
                context.check_lock()
                row = await context.database.row(
                    source.statements.skip_unconfigured,
                    channel=channel,
                    now=context.replayed_now,
                    allowlist=context.allowlist,
                    batch=_SKIP_BATCH,
                )
                ended = row.count
                if ended:
                    counts.skipped_unconfigured(source.name, channel, ended)


async def _send_on_all_channels(context: PhaseContext, counts: SendCounts, transports: Transports) -> list[str]:
    """Run the senders to their ends; what went wrong in one is told, and keeps no other from its work."""
    settings = context.settings
    due, uncertain = await _channels_with_work(context, transports)
    policy = RetryPolicy(settings.retry_base_seconds, settings.retry_max_seconds, settings.max_attempts)
    state = SendState(
        context,
        EventCache(context.database),
        Preparation(transports.renderer, reader_links(settings)),
        policy,
        counts,
        Budget(settings.max_send_per_run),
    )
    mute = _mute_providers(transports)
    writer = OutcomeWriter(OutcomeStatements(context.database, context.run_id, context.replayed_now, mute), state.wake)
    resolvers = [Resolver(state, adapter, transports.askers[adapter.channel]) for adapter in uncertain]
    waker = asyncio.create_task(_wake_when_stopping(context, state))
    folding = asyncio.create_task(fold_on(context))
    try:
        senders = [ChannelSender(state, writer, adapter) for adapter in due]
        results = await _together([*senders, *resolvers])
        late = [adapter for adapter, resolver in zip(uncertain, resolvers, strict=True) if resolver.made_due]
        results += await _together([ChannelSender(state, writer, adapter) for adapter in late])
    finally:
        waker.cancel()
        folding.cancel()
        await asyncio.gather(folding, return_exceptions=True)
        state.problems += await _close(writer, context)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AlertsEngineError):
            raise result
    broken = [str(result) for result in results if result is not None]
    if broken:
        await _release_unheard(state, writer)
    return list(dict.fromkeys([*state.problems, *broken]))


async def _channels_with_work(
    context: PhaseContext, transports: Transports
) -> tuple[list[ChannelAdapter], list[ChannelAdapter]]:
    """The channels with something that is due, and those with something to ask about."""
    paused = context.settings.channels_paused
    adapters = [adapter for channel, adapter in transports.adapters.items() if channel not in paused]
    rows = await context.database.rows(
        channel_work, channels=[adapter.channel for adapter in adapters], now=context.replayed_now
    )
    work = {row.channel: row for row in rows}
    return (
        [adapter for adapter in adapters if work[adapter.channel].is_due],
        [adapter for adapter in adapters if work[adapter.channel].is_uncertain],
    )


async def _together(parts: Sequence[ChannelSender | Resolver]) -> list[BaseException | None]:
    """Run them to their ends at the same time; what each raised, if anything."""
    return await asyncio.gather(*(part.run() for part in parts), return_exceptions=True)


async def _close(writer: OutcomeWriter, context: PhaseContext) -> list[str]:
    settings = context.settings
    try:
        await writer.close(
            stopping=context.stopping,
            lease_seconds=settings.send_lease_seconds,
            shutdown_seconds=settings.shutdown_seconds,
        )
    except PhaseError as error:
        return [str(error)]
    return []


async def _release_unheard(state: SendState, writer: OutcomeWriter) -> None:
    """After an error of the database: what it may have claimed for this run without our knowing."""
    context = state.context
    for source in SOURCES:
        called = writer.called(source) + [row_id for name, row_id in state.calling if name is source.name]
        try:
            await context.database.rows(source.statements.release_unheard, run_id=context.run_id, called=called)
        except AlertsEngineError as error:
            log.warning("not_released", source=source.name, error=str(error))


async def _wake_when_stopping(context: PhaseContext, state: SendState) -> None:
    """The senders look up when a signal comes, and when the lock is lost."""
    signs = [context.stopping] + ([context.lock.lost] if context.lock is not None else [])
    waits = {asyncio.ensure_future(sign.wait()) for sign in signs}
    try:
        while waits:
            _, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            state.wake()
    finally:
        for wait in waits:
            wait.cancel()
