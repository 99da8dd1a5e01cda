"""The job queues that one would pick instead of an engine of one's own, with the same posts as their jobs (section 16).

Each job carries the number of a request, nothing else: there is no message to render, no preference to look up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import asyncpg
import procrastinate
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode

Post = Callable[[int], Awaitable[None]]
"""Posts the request of that number."""

for name in ("procrastinate", "pgqueuer"):
    logging.getLogger(name).setLevel(logging.ERROR)


async def procrastinate_seconds(url: str, post: Post, jobs: int, concurrency: int) -> float:
    """How long procrastinate's worker takes for this many posts; its schema is made where it is missing."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=10))

    @app.task(queue="send")
    async def send(number: int) -> None:
        await post(number)

    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        await send.batch_defer_async(*({"number": number} for number in range(jobs)))
        started = time.perf_counter()
        await app.run_worker_async(
            concurrency=concurrency, wait=False, listen_notify=False, install_signal_handlers=False
        )
        return time.perf_counter() - started


async def pgqueuer_seconds(url: str, post: Post, jobs: int, concurrency: int) -> float:
    """How long pgqueuer takes for this many posts, in batches as large as it allows for the concurrency."""
    async with asyncpg.create_pool(url, max_size=10) as pool:
        driver = AsyncpgPoolDriver(pool)
        queries = Queries(driver)
        if not await queries.schema_is_installed():
            await queries.install()
        await queries.enqueue(["send"] * jobs, [str(number).encode() for number in range(jobs)], [0] * jobs)
        queue = PgQueuer(driver)

        @queue.entrypoint("send")
        async def send(job: Job) -> None:
            await post(int(job.payload or b""))

        started = time.perf_counter()
        await queue.run(batch_size=concurrency // 2, max_concurrent_tasks=concurrency, mode=QueueExecutionMode.drain)
        return time.perf_counter() - started
