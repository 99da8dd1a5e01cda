"""What the tests of the providers' adapters stand on: one message per channel, and servers that answer as told."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from alerts_engine.channels import build_adapters, create_session
from alerts_engine.sandbox import Credentials
from alerts_engine.settings import Settings
from alerts_engine.types import Channel, EmailMessage, Envelope, Message, SendResult, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

KEY = UUID("3f0c5b9e-0000-4000-8000-000000000001")
MESSAGES: dict[Channel, Message] = {
    Channel.EMAIL: EmailMessage(subject="Brent up", html="<p>secret text</p>", text="secret text"),
    Channel.TELEGRAM: TelegramMessage("<b>secret text</b>"),
    Channel.SMS: SmsMessage("secret text €", encoding="UCS-2", segments=1),
}
DESTINATIONS = {Channel.EMAIL: "ada@example.com", Channel.TELEGRAM: "-100200", Channel.SMS: "+31612345678"}
PROVIDERS = [
    ("brevo", Channel.EMAIL),
    ("resend", Channel.EMAIL),
    ("telegram", Channel.TELEGRAM),
    ("twilio", Channel.SMS),
]
SECRETS = ["brevo-key", "resend-key", "42:bot-token", "AC-sid", "twilio-token", "+15005550006"]

KEYS = Credentials(
    brevo_api_key="brevo-key",
    resend_api_key="resend-key",
    telegram_bot_token="42:bot-token",
    twilio_account_sid="AC-sid",
    twilio_auth_token="twilio-token",
)
"""What the sandbox takes from :func:`settings`."""

ACCEPTED = b'{"id": "1", "messageId": "1", "sid": "1", "ok": true, "result": {"message_id": 1}}'
"""A success of every provider at once."""

every_provider = pytest.mark.parametrize(("provider", "channel"), PROVIDERS)


def settings(base_url: str, provider: str = "brevo", **overrides: Any) -> Settings:
    values: dict[str, Any] = {
        "email_provider": provider if provider in {"brevo", "resend"} else "brevo",
        "email_from": '"Risk, Desk" <alerts@example.org>',
        "brevo_api_key": "brevo-key",
        "resend_api_key": "resend-key",
        "telegram_bot_token": "42:bot-token",
        "twilio_account_sid": "AC-sid",
        "twilio_auth_token": "twilio-token",
        "twilio_phone_number": "+15005550006",
        "send_timeout_seconds": 20,
        **{f"{name}_base_url": base_url for name, _ in PROVIDERS},
    }
    return Settings(_env_file=None, **(values | overrides))


def envelope(channel: Channel, destination: str | None = None, *, silent: bool = False) -> Envelope:
    where = DESTINATIONS[channel] if destination is None else destination
    return Envelope(where, MESSAGES[channel], KEY, silent)


async def send(
    base_url: str, provider: str, channel: Channel, destination: str | None = None, **overrides: Any
) -> SendResult:
    """One message by one adapter, as phase C sends it."""
    async with create_session() as session:
        adapter = build_adapters(settings(base_url, provider, **overrides), session)[channel]
        assert (adapter.provider, adapter.channel) == (provider, channel)
        return await adapter.send(envelope(channel, destination))


def refusal(provider: str, status: int, code: str | int | None = None) -> dict[str, object]:
    """A refusal in the provider's own form; without a code, with one that no table has."""
    match provider:
        case "telegram":
            return {"ok": False, "error_code": status, "description": "told by a test"}
        case "resend":
            return {"statusCode": status, "name": code or "brand_new", "message": "told by a test"}
        case "twilio":
            return {"code": code or 29999, "message": "told by a test", "status": status}
        case _:
            return {"code": code or "brand_new", "message": "told by a test"}


def refusal_error(provider: str, status: int) -> str:
    """What stands in ``last_error`` for :func:`refusal` without a code."""
    return {"telegram": f"telegram_{status}", "twilio": "twilio_29999"}.get(provider, f"{provider}_brand_new")


# --- a well-behaved provider that keeps what it got -----------------------------------------------------------------


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        assert self.headers["Content-Type"] == "application/json"
        body: dict[str, object] = json.loads(self.body)
        return body

    @property
    def form(self) -> dict[str, list[str]]:
        assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        return parse_qs(self.body.decode(), strict_parsing=True)


@dataclass
class Provider:
    """Answers ``answers`` in turn, then the last one for ever."""

    answers: list[tuple[int, object, dict[str, str]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def answer(self, status: int, body: object, **headers: str) -> None:
        self.answers.append((status, body, headers))

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(Request(request.raw_path, dict(request.headers), await request.read()))
        status, body, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(body, status=status, headers=headers)

    @classmethod
    @asynccontextmanager
    async def serve(cls) -> AsyncIterator[Provider]:
        """Answer every path and method until the block ends."""
        provider = cls()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", provider.handle)
        async with TestServer(app) as server:
            provider.url = str(server.make_url("")).rstrip("/")
            yield provider


# --- servers that speak nonsense ------------------------------------------------------------------------------------


@asynccontextmanager
async def tcp_server(talk: Talk, **options: Any) -> AsyncIterator[str]:
    """A server that reads the head of one request and then does what ``talk`` does, until the block ends."""
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(asyncio.create_task(converse(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        # A client that leaves in the middle is what many of these tests are about.
        await asyncio.gather(*conversations, return_exceptions=True)
        await server.wait_closed()


def says(answer: bytes) -> Talk:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return talk


def body_of(content: bytes, status: bytes = b"200 OK", *headers: bytes) -> Talk:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(content), *headers, b"Connection: close", b"", b""]
    return says(b"\r\n".join(lines) + content)


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def hang_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id":')
    await hang(reader, writer)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def never_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()
