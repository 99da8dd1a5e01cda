"""Sites over real HTTP, by either binding, for tests."""

from __future__ import annotations

import asyncio
import re
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn
from aiohttp import web
from fastapi import APIRouter, FastAPI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

BINDINGS = ("aiohttp", "fastapi")


@asynccontextmanager
async def served(app: web.Application | APIRouter) -> AsyncIterator[str]:
    """What a binding made, on a port of its own; yields the base URL."""
    serve = _by_aiohttp(app) if isinstance(app, web.Application) else _by_uvicorn(app)
    async with serve as url:
        yield url


@asynccontextmanager
async def _by_aiohttp(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _by_uvicorn(router: APIRouter) -> AsyncIterator[str]:
    app = FastAPI()
    app.include_router(router)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(30):
                while not server.started:
                    assert not serving.done(), serving
                    await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@contextmanager
def served_in_thread(make: Callable[[], web.Application | APIRouter]) -> Iterator[str]:
    """The same, for a client that would keep the event loop from serving; yields the base URL."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with served(make()) as url:
            started.set_result((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(lambda: asyncio.run(serve()))
        url, loop, stop = started.result(30)
        try:
            yield url
        finally:
            loop.call_soon_threadsafe(stop.set)
            serving.result(30)


async def raw_answer(url: str, *pieces: bytes, pause: float = 0.0, endless: bytes = b"") -> bytes:
    """What comes back for these very bytes, sent with pauses between; ``endless`` is repeated until it comes."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    sending = asyncio.create_task(_send(writer, pieces, pause, endless))
    try:
        async with asyncio.timeout(30):  # it only turns a hang into a failure
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            return head + await reader.readexactly(int(length[1]) if length else 0)
    finally:
        sending.cancel()
        writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...], pause: float, endless: bytes) -> None:
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        while endless:
            writer.write(endless)
            await writer.drain()
            await asyncio.sleep(pause)
