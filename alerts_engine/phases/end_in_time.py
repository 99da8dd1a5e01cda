"""A phase that must stop has some time to come to an end, and is then broken off (SPEC CLI-7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from alerts_engine.database import statements_under_way
from alerts_engine.errors import AlertsEngineError, PhaseError
from alerts_engine.types import StopReason

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from alerts_engine.phases.context import PhaseContext

_MOST_CANCELLATIONS = 4
_CLEAN_UP_SECONDS = 3.0
"""A cancelled statement is rolled back within milliseconds, unless the server has stopped to answer at all."""

_BECAUSE = {
    StopReason.SIGNAL: "a signal came (ALERTS_SHUTDOWN_SECONDS)",
    StopReason.MAX_RUN_SECONDS: "ALERTS_MAX_RUN_SECONDS were over",
}


async def end_in_time(work: Coroutine[Any, Any, None], context: PhaseContext, grace_seconds: float) -> None:
    """Await ``work``. Once it must stop it has ``grace_seconds``, then what runs in the database is cancelled.

    Raises :class:`PhaseError`, which names the statement that was under way.
    """
    with statements_under_way() as under_way:
        task = asyncio.create_task(work)
        limit = asyncio.create_task(_time_is_up(context, grace_seconds))
        try:
            await asyncio.wait({task, limit}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            hung = ", ".join(dict.fromkeys(under_way)) or "its own work"
        finally:
            limit.cancel()
            await _break_off(task)  # also when the run itself is cancelled
    if _is_done(task):
        return None
    because = _BECAUSE[context.stop_reason or StopReason.SIGNAL]
    raise PhaseError(
        f"broken off in {hung}, {grace_seconds:g} s after {because}: what is committed stands, and the next run goes on"
    )


async def _time_is_up(context: PhaseContext, grace_seconds: float) -> None:
    try:
        async with asyncio.timeout_at(context.deadline):
            await context.stopping.wait()
    except TimeoutError:
        pass
    await asyncio.sleep(grace_seconds)


async def _break_off(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` until it ends: each of its clean-ups may wait for a server that does not answer."""
    for _ in range(_MOST_CANCELLATIONS):
        if task.done():
            return
        task.cancel()
        await asyncio.wait({task}, timeout=_CLEAN_UP_SECONDS)


def _is_done(task: asyncio.Task[None]) -> bool:
    """Whether it came to its end after all; an error is the cancellation's, unless it is a bug."""
    if not task.done() or task.cancelled():
        return False
    error = task.exception()
    if error is not None and not isinstance(error, AlertsEngineError):
        raise error
    return error is None
