"""The sends of one channel that are under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType


class InFlight:
    """Sends under way; the end of the ``async with`` block is the end of all of them.

    They are let finish, also when the block ends by an error: what was handed to a provider has an outcome that must
    be known. After a signal they have ``shutdown_seconds`` (SPEC CLI-7), after a cancellation no time at all. What is
    broken off keeps its lease, and is reclaimed as uncertain (SPEC C-11).
    """

    def __init__(self, stopping: asyncio.Event, shutdown_seconds: float, on_landed: Callable[[], None]) -> None:
        self._stopping = stopping
        self._shutdown_seconds = shutdown_seconds
        self._on_landed = on_landed
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def launch(self, sending: Coroutine[None, None, None]) -> None:
        """Let one go; it must not raise."""
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, asyncio.CancelledError):
                await self._wait_for_all()
        finally:
            await self._break_off()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._on_landed()

    async def _wait_for_all(self) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        everything = asyncio.ensure_future(_ended(self._tasks))
        try:
            await asyncio.wait([everything, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._shutdown_seconds)
        finally:
            stopping.cancel()
            everything.cancel()

    async def _break_off(self) -> None:
        for task in self._tasks:
            task.cancel()
        await _ended(self._tasks)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Return when all of them have ended, however they did."""
    if tasks:
        await asyncio.wait(tasks)
