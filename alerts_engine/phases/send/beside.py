"""One piece of work beside another, never two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType


class Beside:
    """One piece of work that goes on beside its owner; the end of the ``async with`` block is its end.

    ``size`` counts the rows that it holds. What it raises is raised by :meth:`end`, or at the end of the block. Where
    the block ends by an error of its own, that one is raised, and the work still comes to its end; a cancellation
    breaks it off.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        self.size = 0

    def start(self, work: Coroutine[None, None, None], size: int) -> None:
        """Let it go; what went before must have ended."""
        self.size = size
        self._task = asyncio.create_task(self._do(work))

    async def end(self) -> None:
        """Wait for it, and raise what it raised. A cancellation of the waiter cancels it."""
        task, self._task = self._task, None
        if task is not None:
            await task

    async def _do(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        finally:
            self.size = 0
            self._on_end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.end()
        elif self._task is not None:
            if isinstance(error, asyncio.CancelledError):
                self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()  # known, and said by the error that is on its way
