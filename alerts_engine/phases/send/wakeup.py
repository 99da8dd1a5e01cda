"""Waking whoever waits for something to change."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Every ring wakes all that wait now; nobody hears a ring from before."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all that wait."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Until the next ring, or so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
