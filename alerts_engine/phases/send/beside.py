"""Pieces of work beside their owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType


class Beside:
    """At most ``most`` pieces of work that go on beside their owner; the end of the ``async with`` block is their end.

    ``size`` counts the rows that they hold. What one raises is raised by the next :meth:`start`, by :meth:`end`, or at
    the end of the block. Where the block ends by an error of its own, that one is raised, and the work still comes to
    its end; a cancellation breaks it off.
    """

    def __init__(self, most: int, on_end: Callable[[], None]) -> None:
        self._most = most
        self._on_end = on_end
        self._tasks: dict[asyncio.Task[None], int] = {}

    @property
    def size(self) -> int:
        return sum(size for task, size in self._tasks.items() if not task.done())

    async def start(self, work: Coroutine[None, None, None], size: int) -> None:
        """Let it go, as soon as there is room for it."""
        task = asyncio.create_task(work)
        self._tasks[task] = size
        task.add_done_callback(lambda _: self._on_end())
        while len(self._tasks) > self._most:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._look()

    async def end(self) -> None:
        """Wait for all of them, and raise what one raised."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._look()

    def _look(self) -> None:
        """Forget those that have ended; raises what the first of them raised."""
        ended = [task for task in self._tasks if task.done()]
        for task in ended:
            del self._tasks[task]
        errors = [error for task in ended if not task.cancelled() and (error := task.exception()) is not None]
        if errors:
            raise errors[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.end()
        elif self._tasks:
            if isinstance(error, asyncio.CancelledError):
                for task in self._tasks:
                    task.cancel()
            await asyncio.wait(self._tasks)
            for task in self._tasks:
                if not task.cancelled():
                    task.exception()  # known, and said by the error that is on its way
