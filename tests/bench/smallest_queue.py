"""The least that a queue in PostgreSQL can be: no sender that claims only what it can send now gets past it.

Two statements on a table of two columns, planned once: claim as many rows as there are free places, mark what was
posted as sent, a batch every ten milliseconds. No message is made, no outcome is told from another, nothing survives a
crash. The difference to the bare loop is the price of asking a database at all, on these cores.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg.prepared_stmt import PreparedStatement

    from tests.bench.other_queues import Post

TABLE = """
DROP TABLE IF EXISTS queue;
CREATE TABLE queue (id bigint PRIMARY KEY, is_sent bool);
CREATE INDEX ON queue (id) WHERE is_sent IS NULL
"""
CLAIM = """
UPDATE queue SET is_sent = FALSE
 WHERE id IN (SELECT id FROM queue WHERE is_sent IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
SETTLE = "UPDATE queue SET is_sent = TRUE WHERE id = ANY ($1::bigint[])"
GATHER_SECONDS = 0.01
REFILL_SHARE = 8
"""A claim waits until an eighth of the places is free, as in phase C."""


async def smallest_queue_seconds(url: str, post: Post, jobs: int, concurrency: int) -> float:
    """How long this many posts take."""
    async with _connection(url) as claiming, _connection(url) as settling:
        await claiming.execute(TABLE)
        await claiming.execute("INSERT INTO queue SELECT number FROM generate_series(0, $1 - 1) AS number", jobs)
        await claiming.execute("VACUUM ANALYZE queue")
        queue = _Queue(await claiming.prepare(CLAIM), await settling.prepare(SETTLE), post, concurrency)
        started = time.perf_counter()
        await queue.drain()
        return time.perf_counter() - started


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class _Queue:
    def __init__(self, claim: PreparedStatement, settle: PreparedStatement, post: Post, concurrency: int) -> None:
        self._claim, self._settle, self._post = claim, settle, post
        self._free, self._least = concurrency, max(1, concurrency // REFILL_SHARE)
        self._posted: list[int] = []
        self._is_drained = False
        self._has_room, self._has_news = asyncio.Event(), asyncio.Event()

    async def drain(self) -> None:
        settling = asyncio.create_task(self._settle_on())
        async with asyncio.TaskGroup() as sends:
            while numbers := await self._claimed():
                for number in numbers:
                    sends.create_task(self._send(number))
        self._is_drained = True
        self._has_news.set()
        await settling

    async def _claimed(self) -> list[int]:
        while self._free < self._least:
            self._has_room.clear()
            await self._has_room.wait()
        wanted, self._free = self._free, 0
        numbers = [row["id"] for row in await self._claim.fetch(wanted)]
        self._free += wanted - len(numbers)
        return numbers

    async def _send(self, number: int) -> None:
        await self._post(number)
        self._posted.append(number)
        self._free += 1
        self._has_news.set()
        self._has_room.set()

    async def _settle_on(self) -> None:
        while self._posted or not self._is_drained:
            await self._has_news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._has_news.clear()
            posted, self._posted = self._posted, []
            if posted:
                await self._settle.fetch(posted)
