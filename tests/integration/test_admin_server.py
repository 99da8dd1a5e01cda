"""The server of ``serve``: what its clients may do to it (SPEC P-2)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from alerts_engine import AlertsEngine
from alerts_engine.admin import server
from alerts_engine.admin.server import serve_admin
from tests.support.admin import TOKEN
from tests.support.serving import raw_answer
from tests.support.world import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(server, "_IDLE_SECONDS", 0.5)
    engine = AlertsEngine(settings(UNREACHABLE, internal_runner_token=TOKEN))
    async with serve_admin(engine) as address:
        yield address


async def test_a_client_that_is_slow_with_its_headers_is_cut_off(url):
    """A byte now and then, for ever; others are served meanwhile."""
    host, port = url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def drip() -> None:
        with suppress(ConnectionError):
            writer.write(HEAD + b"x-slow: ")
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert b" 307 " in await raw_answer(url, HEAD + b"\r\n")
    with suppress(ConnectionError):
        async with asyncio.timeout(30):  # it only turns a hang into a failure
            assert await reader.read() == b""
    dripping.cancel()
    writer.close()


async def test_headers_are_bounded(url):
    """More of them than anybody has is refused."""
    answer = await raw_answer(url, HEAD, endless=b"x-many: " + b"a" * 4000 + b"\r\n")
    assert answer[9:12] in {b"400", b"431"}


async def test_whoever_opens_it_to_a_network_is_warned(monkeypatch):
    """The token goes in clear there (P-2)."""
    engine = AlertsEngine(settings(UNREACHABLE, internal_runner_token=TOKEN))
    with capture_logs() as lines:
        async with serve_admin(engine, "0.0.0.0"):  # noqa: S104
            pass
        async with serve_admin(engine):
            pass
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["serve_is_public"]
