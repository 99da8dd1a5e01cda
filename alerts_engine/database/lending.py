"""Connections of a pool: taken, waited for where the server has no room for more, and given back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from alerts_engine.database.errors import CONNECT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

GIVE_BACK_TIMEOUT_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.5
"""Whether the server has room again, when nothing of ours comes back."""


class Lender:
    """Lends the connections of one pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._came_back = asyncio.Event()
        self._giving_back: set[asyncio.Future[None]] = set()

    @property
    def has_spare(self) -> bool:
        """Whether the pool has a connection that nobody uses, or may make one."""
        return bool(self._pool.get_size() - self._pool.get_idle_size() < self._pool.get_max_size())

    async def give_back(self, connection: asyncpg.Connection) -> None:
        try:
            await self._pool.release(connection, timeout=GIVE_BACK_TIMEOUT_SECONDS)
        except Exception:  # noqa: BLE001 - whatever a dead connection raises here, what it was for is over
            with suppress(Exception):
                connection.terminate()
        finally:
            self._came_back.set()

    async def acquire_in_time(self) -> asyncpg.Connection:
        """A connection; one that comes back, where the server has no room for another one.

        Raises what the server said when none came back.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_TIMEOUT_SECONDS
        while True:
            self._came_back.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    return await self.acquire()
            except asyncpg.TooManyConnectionsError:
                if not self._pool.get_size() or loop.time() + _LOOK_AGAIN_SECONDS >= deadline:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came_back.wait(), _LOOK_AGAIN_SECONDS)

    async def acquire(self) -> asyncpg.Connection:
        """A connection that is not in use, or a new one.

        The pool takes first what came back last, also the place of a connection that could not be made. That may hide
        one that is idle; so as many are asked for as there are such places, and what is too much is given back.
        """
        try:
            return await self._pool.acquire()
        except asyncpg.TooManyConnectionsError:
            if not self._pool.get_idle_size():
                raise
        places = self._pool.get_max_size() - self._pool.get_size() + 1
        acquiring = [asyncio.ensure_future(self._pool.acquire()) for _ in range(places)]
        try:
            await asyncio.wait(acquiring, return_when=asyncio.ALL_COMPLETED)
        except asyncio.CancelledError:
            for one in acquiring:
                one.add_done_callback(self._give_back_soon)
            raise
        made = [one.result() for one in acquiring if one.exception() is None]
        for more in made[1:]:
            await self.give_back(more)
        return made[0] if made else acquiring[0].result()

    def _give_back_soon(self, acquired: asyncio.Future[asyncpg.Connection]) -> None:
        if not acquired.cancelled() and acquired.exception() is None:
            giving_back = asyncio.ensure_future(self.give_back(acquired.result()))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)


async def or_terminate(connection: asyncpg.Connection, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Do what must be done before somebody else gets the connection; where that fails, nobody gets it."""
    try:
        doing = asyncio.ensure_future(work())
        doing.add_done_callback(_ask_for_its_error)
        await asyncio.shield(doing)
    except BaseException as error:
        with suppress(Exception):
            connection.terminate()
        if not isinstance(error, Exception):
            raise


def _ask_for_its_error(done: asyncio.Future[Any]) -> None:
    """Nobody else may: whoever waited for it may have been cancelled meanwhile."""
    if not done.cancelled():
        done.exception()
