"""Pieces of work beside their owner: each comes to its end, and nothing that one raises is lost."""

from __future__ import annotations

import asyncio

import pytest

from alerts_engine.phases.send.beside import Beside


def nobody() -> None:
    pass


async def test_it_goes_on_beside_its_owner_and_counts_its_rows():
    """Until it has ended it takes places; then its owner is woken."""
    go, woken = asyncio.Event(), asyncio.Event()
    async with Beside(2, woken.set) as beside:
        await beside.start(_wait(go), size=3)
        await asyncio.sleep(0)
        assert (beside.size, woken.is_set()) == (3, False)
        go.set()
        await beside.end()
        assert (beside.size, woken.is_set()) == (0, True)


async def test_what_it_raises_is_raised_at_the_end():
    """By whoever waits for it, or by the block."""
    with pytest.raises(LookupError):
        async with Beside(2, nobody) as beside:
            await beside.start(_raise(LookupError()), size=1)


async def test_error_of_the_block_goes_first_and_waits_for_the_work():
    """What was begun is known when the error is told."""
    go, done = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, go.set)

    async def work() -> None:
        await go.wait()
        done.set()
        raise LookupError

    async def owner() -> None:
        async with Beside(2, nobody) as beside:
            await beside.start(work(), size=1)
            raise KeyError

    with pytest.raises(KeyError):
        await owner()
    assert done.is_set()


async def test_cancellation_breaks_it_off():
    """A run that is cancelled does not wait for a database that hangs."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def owner() -> None:
        async with Beside(2, nobody) as beside:
            await beside.start(work(), size=1)
            await asyncio.sleep(3600)

    task = asyncio.create_task(owner())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _raise(error: Exception) -> None:
    raise error


async def test_no_more_go_on_than_there_is_room_for():
    """Who starts one too many waits for one that ends."""
    first, others = asyncio.Event(), asyncio.Event()
    async with Beside(2, nobody) as beside:
        await beside.start(_wait(first), size=1)
        await beside.start(_wait(others), size=1)
        third = asyncio.ensure_future(beside.start(_wait(others), size=1))
        await asyncio.sleep(0.01)
        assert not third.done()
        first.set()
        await third
        assert beside.size == 2
        others.set()


async def test_what_one_raises_is_raised_to_who_starts_another():
    """So that a claim is not followed by others when the database is gone."""
    go = asyncio.Event()

    async def start_three(beside: Beside) -> None:
        await beside.start(_raise(LookupError()), size=1)
        await beside.start(_wait(go), size=1)
        asyncio.get_running_loop().call_later(0.02, go.set)
        await beside.start(_wait(go), size=1)

    with pytest.raises(LookupError):
        async with Beside(2, nobody) as beside:
            await start_three(beside)
