"""Phase C: reclaim what a crash left, then send what is due, each channel in a lane of its own (SPEC section 8)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import AlertsEngineError, LockLostError, PhaseError
from alerts_engine.phases.send.backoff import RetryPolicy
from alerts_engine.phases.send.channel_sender import Lane
from alerts_engine.phases.send.claims import QUEUES
from alerts_engine.phases.send.event_cache import Alerts
from alerts_engine.phases.send.outcome_writer import Settler
from alerts_engine.phases.send.prepare import Preparation
from alerts_engine.phases.send.state import Budget, Traffic
from alerts_engine.statements import statement
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from alerts_engine.phases.context import Outlets, PhaseContext
    from alerts_engine.phases.send.counts import SendCounts

log = structlog.get_logger("alerts_engine.send")

_SKIP_BATCH = 5_000
_MOST_IDS_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class Sendable:
    kind: str
    channel: Channel
    state: str
    count: int
    ids: list[int] | None


sendable_now = statement("phase_c_send", "sendable_now", Sendable)


async def send(context: PhaseContext, counts: SendCounts, outlets: Outlets) -> None:
    """Send what is due.

    Raises :class:`PhaseError` at the end when a channel is down, an outcome is not written, or the lock was lost.
    """
    await _reclaim(context, counts)
    await _skip_unconfigured(context, counts, outlets)
    problems = await _send_on_all_lanes(context, counts, outlets)
    problems[:0] = [f"channel {channel} is down: {cause}" for channel, cause in sorted(counts.channels_down.items())]
    try:
        context.check_lock()
    except LockLostError as error:
        counts.stop("lock_lost")
        problems.insert(0, str(error))
    if problems:
        raise PhaseError("; ".join(problems))


async def _reclaim(context: PhaseContext, counts: SendCounts) -> None:
    """Take back what a killed run left in ``sending`` (C-11)."""
    settings = context.settings
    for queue in QUEUES:
        row = await context.database.row(
            queue.lifecycle.reclaim,
            now=context.replayed_now,
            max_attempts=settings.max_attempts,
            give_up=settings.uncertain_send == "fail",
        )
        counts.reclaimed += row.reclaimed
        if queue.name == "digests":
            counts.digests.failed += row.failed
        else:
            counts.failed += row.failed
        if row.reclaimed:
            log.warning("reclaimed", queue=queue.name, rows=row.reclaimed, failed=row.failed)


async def _skip_unconfigured(context: PhaseContext, counts: SendCounts, outlets: Outlets) -> None:
    """End the due rows of channels without credentials, unless they shall wait for them (C-10)."""
    settings = context.settings
    if settings.fail_open_on_channel_missing:
        return
    for channel in Channel:
        if channel in outlets.adapters or channel in settings.channels_paused:
            continue
        for queue in QUEUES:
            ended = _SKIP_BATCH
            while ended == _SKIP_BATCH and not context.stopping.is_set():
                context.check_lock()
                row = await context.database.row(
                    queue.lifecycle.skip_unconfigured,
                    channel=channel,
                    now=context.replayed_now,
                    allowlist=context.allowlist,
                    batch=_SKIP_BATCH,
                )
                ended = row.count
                if ended:
                    counts.skipped_unconfigured(queue.name, channel, ended)


async def _send_on_all_lanes(context: PhaseContext, counts: SendCounts, outlets: Outlets) -> list[str]:
    """Run the lanes to their ends; what went wrong in one is told, and keeps no other from its work."""
    settings = context.settings
    policy = RetryPolicy(settings.retry_base_seconds, settings.retry_max_seconds, settings.max_attempts)
    traffic = Traffic(
        context,
        Alerts(context.database),
        Preparation(outlets.renderer),
        policy,
        counts,
        Budget(settings.max_send_per_run),
    )
    settler = Settler(context.database, context.run_id, context.replayed_now, traffic.wake)
    open_channels = [a for channel, a in outlets.adapters.items() if channel not in settings.channels_paused]
    lanes = [Lane(traffic, settler, adapter) for adapter in open_channels]
    waker = asyncio.create_task(_wake_when_stopping(context, traffic))
    try:
        results = await asyncio.gather(*(lane.run() for lane in lanes), return_exceptions=True)
    finally:
        waker.cancel()
        traffic.problems += await _close(settler, context)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AlertsEngineError):
            raise result
    broken = [str(result) for result in results if result is not None]
    if broken:
        await _release_unbegun(context)
    return list(dict.fromkeys([*traffic.problems, *broken]))


async def _close(settler: Settler, context: PhaseContext) -> list[str]:
    settings = context.settings
    try:
        await settler.close(
            stopping=context.stopping,
            lease_seconds=settings.send_lease_seconds,
            shutdown_seconds=settings.shutdown_seconds,
        )
    except PhaseError as error:
        return [str(error)]
    return []


async def _release_unbegun(context: PhaseContext) -> None:
    """After an error of the database: what it may have claimed for this run without our knowing."""
    for queue in QUEUES:
        try:
            await context.database.rows(queue.lifecycle.release_unbegun, run_id=context.run_id)
        except AlertsEngineError as error:
            log.warning("not_released", queue=queue.name, error=str(error))


async def _wake_when_stopping(context: PhaseContext, traffic: Traffic) -> None:
    """The lanes look up when a signal comes, and when the lock is lost."""
    signs = [context.stopping] + ([context.lock.lost] if context.lock is not None else [])
    waits = {asyncio.ensure_future(sign.wait()) for sign in signs}
    try:
        while waits:
            _, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            traffic.wake()
    finally:
        for wait in waits:
            wait.cancel()


async def list_sendable(context: PhaseContext, counts: SendCounts, outlets: Outlets) -> None:
    """The dry run of phase C: what would be sent now, and what waits and why; nothing is touched (X-1)."""
    rows = await context.database.rows(
        sendable_now, now=context.replayed_now, allowlist=context.allowlist, most_ids=_MOST_IDS_SHOWN
    )
    counts.would_send, counts.waiting = {}, {}
    for row in rows:
        state = _state(row, context, outlets)
        if state == "due":
            counts.would_send.setdefault(row.channel, {})[_plural(row.kind)] = {
                "count": row.count,
                "ids": row.ids or [],
            }
        else:
            reasons = counts.waiting.setdefault(row.channel, {})
            reasons[state] = reasons.get(state, 0) + row.count


def _state(row: Sendable, context: PhaseContext, outlets: Outlets) -> str:
    if row.state == "due" and row.channel in context.settings.channels_paused:
        return "channel_paused"
    if row.state == "due" and row.channel not in outlets.adapters:
        return "channel_not_configured"
    return row.state


def _plural(kind: str) -> str:
    return "deliveries" if kind == "delivery" else "digests"
