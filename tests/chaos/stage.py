"""The course of a scenario: fill, fault, heal, send the rest, count."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.sandbox import Fault, Sandbox
from tests.support import ground
from tests.support.ground import CHANNELS, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from alerts_engine import RunReport, Settings


@dataclass
class Stage:
    """A filled database, a sandbox that is a little slow, and settings that bring the two together."""

    url: str
    sandbox: Sandbox
    settings: Settings
    result: Result
    total: int
    """Messages that should arrive."""

    async def run(self) -> RunReport:
        return await ground.run(self.settings)

    async def when_under_way(self, act: Callable[[], object], running: Coroutine[Any, Any, Any]) -> Any:
        """Start ``running``, ``act`` once a third of the messages has arrived, and give what ``running`` returns."""
        task = asyncio.ensure_future(running)
        await self.reach(self.total // 3, task)
        act()
        return await task

    async def reach(self, messages: int, task: asyncio.Future[Any]) -> None:
        """Wait for this many messages; fails when ``task`` ends before."""
        reached = asyncio.ensure_future(self.sandbox.wait_for_messages(messages))
        await asyncio.wait([reached, task], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if len(self.sandbox.messages) < messages:
            raise AssertionError(f"ended with {len(self.sandbox.messages)} of {messages} messages: {await task}")

    def execute(self, statement: str) -> None:
        with closing(ground.connect(self.url)) as db:
            db.execute(statement)

    def expect(self, fact: bool, text: object) -> None:
        if not fact:
            raise AssertionError(f"{self.result.fault}: {text}")


@asynccontextmanager
async def stage(
    fault: str, url: str, sends: int, *, channels: tuple[str, ...] = CHANNELS, delay: float = 0.005, **fields: Any
) -> AsyncIterator[Stage]:
    """Set the stage with ``sends`` messages, evenly on ``channels``.

    After the block all faults are gone, the rest is sent, and the result is filled in.
    """
    started = time.monotonic()
    total = ground.seed(url, max(1, sends // len(channels)), channels)
    async with Sandbox.start() as sandbox:
        configured = ground.settings(url, sandbox.url, **{"send_concurrency": 12, "max_attempts": 1000, **fields})
        if delay:
            sandbox.faults.add(Fault(delay=delay))
        play = Stage(url, sandbox, configured, Result(fault), total)
        yield play
        sandbox.faults.clear()
        await ground.drain(ground.settings(url, sandbox.url, **{"max_attempts": 1000, **fields}), sandbox)
        received = [(str(message.channel), message.destination) for message in sandbox.messages]
        ground.judge(play.result, url, received, started)
