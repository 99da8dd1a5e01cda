"""The four adapters against real servers: what goes over the wire, and every way in which an answer can go wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import ssl
import subprocess
from base64 import b64decode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from structlog.testing import capture_logs

from alerts_engine.channels import build_adapters, channels, create_session, telegram
from alerts_engine.channels.http import BODY_LIMIT
from alerts_engine.sandbox import Credentials, Fault, Sandbox
from alerts_engine.settings import Settings
from alerts_engine.types import (
    Channel,
    ChannelDown,
    DownCause,
    EmailMessage,
    Envelope,
    Failed,
    Message,
    Retry,
    SendResult,
    Sent,
    SmsMessage,
    TelegramMessage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

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

every_provider = pytest.mark.parametrize(("provider", "channel"), PROVIDERS)


def settings(base_url: str, provider: str = "brevo", **overrides: object) -> Settings:
    values: dict[str, object] = {
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


def envelope(channel: Channel, destination: str | None = None) -> Envelope:
    return Envelope(DESTINATIONS[channel] if destination is None else destination, MESSAGES[channel], KEY)


async def send(
    base_url: str, provider: str, channel: Channel, destination: str | None = None, **overrides: object
) -> SendResult:
    """One message by one adapter, as phase C sends it."""
    async with create_session() as session:
        adapter = build_adapters(settings(base_url, provider, **overrides), session)[channel]
        assert (adapter.provider, adapter.channel) == (provider, channel)
        return await adapter.send(envelope(channel, destination))


# --- a well-behaved provider that keeps what it got -----------------------------------------------------------------


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

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


@pytest.fixture
async def provider_server() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.handle)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("")).rstrip("/")
        yield provider


async def test_brevo_gets_one_email_with_its_idempotency_key(provider_server: Provider) -> None:
    """C-12: Brevo's key is a UUID under ``headers`` in the JSON body; both bodies and one recipient go along."""
    provider_server.answer(201, {"messageId": "<1@relay>"})
    assert await send(provider_server.url, "brevo", Channel.EMAIL) == SendResult(Sent("<1@relay>"))
    (request,) = provider_server.requests
    assert request.path == "/v3/smtp/email"
    assert request.headers["api-key"] == "brevo-key"
    assert request.json == {
        "sender": {"name": "Risk, Desk", "email": "alerts@example.org"},
        "to": [{"email": "ada@example.com"}],
        "subject": "Brent up",
        "htmlContent": "<p>secret text</p>",
        "textContent": "secret text",
        "headers": {"idempotencyKey": str(KEY)},
    }


async def test_resend_gets_one_email_with_its_idempotency_key(provider_server: Provider) -> None:
    """C-12: Resend's key is a header of the request."""
    provider_server.answer(200, {"id": "49a3"})
    assert await send(provider_server.url, "resend", Channel.EMAIL) == SendResult(Sent("49a3"))
    (request,) = provider_server.requests
    assert request.path == "/emails"
    assert request.headers["Authorization"] == "Bearer resend-key"
    assert request.headers["Idempotency-Key"] == str(KEY)
    assert request.json == {
        "from": '"Risk, Desk" <alerts@example.org>',
        "to": ["ada@example.com"],
        "subject": "Brent up",
        "html": "<p>secret text</p>",
        "text": "secret text",
    }


async def test_telegram_gets_html_without_link_previews(provider_server: Provider) -> None:
    """M-2: the text is Telegram's HTML."""
    provider_server.answer(200, {"ok": True, "result": {"message_id": 7}})
    assert await send(provider_server.url, "telegram", Channel.TELEGRAM) == SendResult(Sent("7"))
    (request,) = provider_server.requests
    assert request.path == "/bot42:bot-token/sendMessage"
    assert request.json == {
        "chat_id": "-100200",
        "text": "<b>secret text</b>",
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }


async def test_twilio_gets_a_form_with_a_validity_period(provider_server: Provider) -> None:
    """Section 4: an SMS that cannot be delivered is dropped after ``ALERTS_SMS_VALIDITY_SECONDS``."""
    provider_server.answer(201, {"sid": "SM1", "status": "queued"})
    result = await send(provider_server.url, "twilio", Channel.SMS, sms_validity_seconds=600)
    assert result == SendResult(Sent("SM1"))
    (request,) = provider_server.requests
    assert request.path == "/2010-04-01/Accounts/AC-sid/Messages.json"
    scheme, credentials = request.headers["Authorization"].split()
    assert (scheme, b64decode(credentials)) == ("Basic", b"AC-sid:twilio-token")
    assert request.form == {
        "To": ["+31612345678"],
        "From": ["+15005550006"],
        "Body": ["secret text €"],
        "ValidityPeriod": ["600"],
    }


@pytest.mark.parametrize(
    ("email_from", "brevo_sender", "resend_from"),
    [
        ("a@b.example", {"email": "a@b.example"}, "a@b.example"),
        ("Risk Desk <a@b.example>", {"email": "a@b.example", "name": "Risk Desk"}, "Risk Desk <a@b.example>"),
        ("Énergie <a@b.example>", {"email": "a@b.example", "name": "Énergie"}, "Énergie <a@b.example>"),
        ('"R \\"D\\"" <a@b.example>', {"email": "a@b.example", "name": 'R "D"'}, '"R \\"D\\"" <a@b.example>'),
        ("R\tD <a@b.example>", {"email": "a@b.example", "name": "R D"}, "R D <a@b.example>"),
        ("R\u2028D <a@b.example>", {"email": "a@b.example", "name": "R D"}, "R D <a@b.example>"),
    ],
)
async def test_the_sender_is_taken_apart_once(
    provider_server: Provider, email_from: str, brevo_sender: dict[str, str], resend_from: str
) -> None:
    """M-4: ``EMAIL_FROM`` becomes a name and an address, with nothing in it that could break a header."""
    provider_server.answer(200, {"id": "1", "messageId": "1"})
    for provider in ("brevo", "resend"):
        await send(provider_server.url, provider, Channel.EMAIL, email_from=email_from)
    brevo, resend = provider_server.requests
    assert brevo.json["sender"] == brevo_sender
    assert resend.json["from"] == resend_from


@every_provider
@pytest.mark.parametrize(
    "destination", ["a@b.example\r\nBcc: x@y.example", "\n-100200", "+316\x00", "a@b\u2028c", "\ud800", "", " "]
)
async def test_a_destination_with_control_characters_is_never_sent(
    provider_server: Provider, provider: str, channel: Channel, destination: str
) -> None:
    """M-4: CR/LF never reach an address; the provider is not even asked."""
    provider_server.answer(200, {})
    result = await send(provider_server.url, provider, channel, destination)
    assert result == SendResult(Failed("invalid_destination"))
    assert provider_server.requests == []


@every_provider
@pytest.mark.parametrize("destination", ["no at sign", "ädä@example.com", "a@b@c", "💥", "x" * 10_000])
async def test_an_impossible_destination_is_the_providers_to_refuse(
    provider_server: Provider, provider: str, channel: Channel, destination: str
) -> None:
    """C-6: whatever stands in the users table, it costs one refused call and no crash."""
    provider_server.answer(400, {"message": f"bad {destination}", "description": destination})
    result = await send(provider_server.url, provider, channel, destination)
    assert result == SendResult(Failed(f"{provider}_400"))
    assert len(provider_server.requests) == 1


@every_provider
async def test_a_refused_rate_asks_to_wait(provider_server: Provider, provider: str, channel: Channel) -> None:
    """C-8: the Retry-After of a 429 comes through, as a date too, by the server's own clock."""
    provider_server.answer(
        429,
        {"code": 20429} if provider == "twilio" else {},
        **{"Date": "Sun, 01 Mar 2026 12:00:00 GMT", "Retry-After": "Sun, 01 Mar 2026 12:01:30 GMT"},
    )
    result = await send(provider_server.url, provider, channel)
    assert isinstance(result.outcome, Retry)
    assert (result.outcome.retry_after, result.outcome.rate_limited) == (90.0, True)


@every_provider
async def test_wrong_credentials_put_the_channel_down(
    provider_server: Provider, provider: str, channel: Channel
) -> None:
    """C-7: a 401 is not the message's fault."""
    provider_server.answer(401, {})
    result = await send(provider_server.url, provider, channel)
    assert result == SendResult(ChannelDown(DownCause.AUTH_FAILED, f"{provider}_401"))


@every_provider
async def test_a_redirect_is_not_followed(provider_server: Provider, provider: str, channel: Channel) -> None:
    """C-6: message and credentials go to the provider and to nobody it points at."""
    provider_server.answer(307, {}, Location=f"{provider_server.url}/elsewhere")
    result = await send(provider_server.url, provider, channel)
    assert result == SendResult(Retry(f"{provider}_redirect"))
    assert len(provider_server.requests) == 1


async def test_proxies_of_the_environment_are_ignored(
    provider_server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O-3: credentials go to nobody but the provider."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    provider_server.answer(200, {"id": "1"})
    assert await send(provider_server.url, "resend", Channel.EMAIL) == SendResult(Sent("1"))


async def test_cookies_are_not_kept(provider_server: Provider) -> None:
    """C-12: a repeat has the same bytes, whatever the provider wanted us to remember."""
    provider_server.answer(200, {"id": "1"}, **{"Set-Cookie": "a=b"})
    async with create_session() as session:
        adapter = build_adapters(settings(provider_server.url, "resend"), session)[Channel.EMAIL]
        await adapter.send(envelope(Channel.EMAIL))
        await adapter.send(envelope(Channel.EMAIL))
    first, second = provider_server.requests
    assert "Cookie" not in second.headers
    assert (first.headers, first.body) == (second.headers, second.body)


async def test_a_credential_is_free_of_the_line_break_it_was_pasted_with(provider_server: Provider) -> None:
    """Section 4: a secret read from a file often ends with a line break."""
    provider_server.answer(200, {"id": "1"})
    result = await send(provider_server.url, "resend", Channel.EMAIL, resend_api_key=" resend-key\n")
    assert result == SendResult(Sent("1"))
    assert provider_server.requests[0].headers["Authorization"] == "Bearer resend-key"


@pytest.mark.parametrize("provider", ["brevo", "resend"])
async def test_a_credential_that_no_header_can_carry_is_not_sent(provider_server: Provider, provider: str) -> None:
    """M-4: a line break inside a credential, which the settings refuse, is no way into the headers, and no crash."""
    provider_server.answer(200, {})
    broken = {f"{provider}_api_key": SecretStr("a\r\nb")}
    async with create_session() as session:
        configured = settings(provider_server.url, provider).model_copy(update=broken)
        result = await build_adapters(configured, session)[Channel.EMAIL].send(envelope(Channel.EMAIL))
    assert result == SendResult(Retry("invalid_request"))
    assert provider_server.requests == []


async def test_a_token_cannot_change_the_path_of_the_call(provider_server: Provider) -> None:
    """M-4: whatever the token holds, it stays one piece of the URL."""
    provider_server.answer(404, {"ok": False, "error_code": 404})
    await send(provider_server.url, "telegram", Channel.TELEGRAM, telegram_bot_token="1:a/../../x?y#z")
    assert provider_server.requests[0].path == "/bot1:a%2F..%2F..%2Fx%3Fy%23z/sendMessage"


async def test_an_adapter_takes_only_its_own_kind_of_message(provider_server: Provider) -> None:
    """C-6: a mistake of ours is an error, not an outcome, and its text has no destination in it."""
    async with create_session() as session:
        adapter = build_adapters(settings(provider_server.url), session)[Channel.SMS]
        with pytest.raises(TypeError, match=r"^this channel carries SmsMessage, not EmailMessage$"):
            await adapter.send(envelope(Channel.EMAIL))


# --- Telegram's groups that moved -----------------------------------------------------------------------------------

MOVED = {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": -1001234567890}}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"ok": True, "result": {"message_id": 8}}, Sent("8")),
        (403, {"ok": False, "error_code": 403}, Failed("telegram_403")),
        (500, {"ok": False, "error_code": 500}, Retry("telegram_500")),
        (400, MOVED | {"parameters": {"migrate_to_chat_id": -5}}, Failed("telegram_400")),
    ],
)
async def test_a_message_follows_its_group_to_the_new_id(
    provider_server: Provider, status: int, body: dict[str, object], outcome: Sent | Failed | Retry
) -> None:
    """C-7: the new chat gets it at once, one step far, and its id is kept whatever comes of it."""
    provider_server.answer(400, MOVED)
    provider_server.answer(status, body)
    result = await send(provider_server.url, "telegram", Channel.TELEGRAM)
    assert result == SendResult(outcome, destination_moved_to="-1001234567890")
    assert [request.json["chat_id"] for request in provider_server.requests] == ["-100200", "-1001234567890"]


async def test_a_second_step_gets_only_the_time_that_is_left(
    provider_server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-7: following a group to its new id does not outlast the timeout, on which the lease is built."""
    provider_server.answer(400, MOVED)
    provider_server.answer(200, {"ok": True, "result": {"message_id": 8}})
    clock = SimpleNamespace(monotonic=iter([100.0, 120.0]).__next__)
    monkeypatch.setattr(telegram, "time", clock)
    result = await send(provider_server.url, "telegram", Channel.TELEGRAM, send_timeout_seconds=20)
    assert result == SendResult(Retry("timeout"), destination_moved_to="-1001234567890")


async def test_only_a_bad_request_tells_of_a_move(provider_server: Provider) -> None:
    """C-7: a bot that was put out of the group does not follow it."""
    provider_server.answer(403, MOVED | {"error_code": 403})
    assert await send(provider_server.url, "telegram", Channel.TELEGRAM) == SendResult(Failed("telegram_403"))
    assert len(provider_server.requests) == 1


@pytest.mark.parametrize("new_id", [-100200, 0, True, "-1001234567890", None, 2**63, 1.5, {}])
async def test_a_move_to_nowhere_is_an_ordinary_refusal(provider_server: Provider, new_id: object) -> None:
    """C-7: only another chat id is a place to go to."""
    provider_server.answer(400, {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": new_id}})
    assert await send(provider_server.url, "telegram", Channel.TELEGRAM) == SendResult(Failed("telegram_400"))
    assert len(provider_server.requests) == 1


# --- servers that speak nonsense ------------------------------------------------------------------------------------


@asynccontextmanager
async def tcp_server(talk: Talk, **options: object) -> AsyncIterator[str]:
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


MEGABYTES = b'{"id": "1", "messageId": "1", "sid": "1", "padding": "%s"}' % (b"x" * (4 << 20))
JUST_TOO_LONG = b'{"id": "1", "messageId": "1", "sid": "1"}'.ljust(BODY_LIMIT + 1)
ACCEPTED = b'{"id": "1", "messageId": "1", "sid": "1", "ok": true, "result": {"message_id": 1}}'

NONSENSE: dict[str, tuple[Talk, str]] = {
    "html": (body_of(b"<html><h1>It works!</h1></html>"), "unreadable_answer"),
    "html refusal": (body_of(b"<html>chat not found</html>", b"400 Bad Request"), "unreadable_answer"),
    "empty": (body_of(b""), "unreadable_answer"),
    "empty refusal": (body_of(b"", b"422 No"), "unreadable_answer"),
    "no content": (says(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), "unreadable_answer"),
    "cut json": (body_of(b'{"id": "1"'), "unreadable_answer"),
    "a list": (body_of(b"[1, 2]"), "unreadable_answer"),
    "a string": (body_of(b'"ok"'), "unreadable_answer"),
    "no text": (body_of(b"\xff\xfe\x00\xd8{"), "unreadable_answer"),
    "deep": (body_of(b"[" * 60_000), "unreadable_answer"),
    "megabytes": (body_of(MEGABYTES), "unreadable_answer"),
    "one byte too long": (body_of(JUST_TOO_LONG), "unreadable_answer"),
    "without end": (never_end, "unreadable_answer"),
    "half an answer": (says(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id": "1"}'), "unreadable_answer"),
    "false gzip": (body_of(ACCEPTED, b"200 OK", b"Content-Encoding: gzip"), "unreadable_answer"),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "unreadable_answer"),
    "an endless header": (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), "unreadable_answer"),
    "reset": (reset, "connection_reset"),
    "closed": (close, "connection_reset"),
}


@every_provider
@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_transient(provider: str, channel: Channel, name: str) -> None:
    """C-6: an answer that cannot be read, or breaks off, says nothing about the message."""
    talk, error = NONSENSE[name]
    async with tcp_server(talk) as url:
        assert await send(url, provider, channel) == SendResult(Retry(error))


@every_provider
async def test_a_gateways_error_page_is_a_server_error(provider: str, channel: Channel) -> None:
    """C-6: 502 with HTML is known by its status."""
    async with tcp_server(body_of(b"<html>Bad gateway</html>", b"502 Bad Gateway")) as url:
        assert await send(url, provider, channel) == SendResult(Retry(f"{provider}_502"))


@every_provider
async def test_an_answer_of_just_the_limit_is_read(provider: str, channel: Channel) -> None:
    """C-6: the limit is a limit, not one less."""
    async with tcp_server(body_of(ACCEPTED.ljust(BODY_LIMIT))) as url:
        assert await send(url, provider, channel) == SendResult(Sent("1"))


@every_provider
@pytest.mark.parametrize("talk", [hang, hang_in_the_middle])
async def test_silence_is_a_timeout(provider: str, channel: Channel, talk: Talk) -> None:
    """C-6: whoever never answers, or stops in the middle, is waited for just so long."""
    async with tcp_server(talk) as url:
        assert await send(url, provider, channel, send_timeout_seconds=0.2) == SendResult(Retry("timeout"))


@every_provider
async def test_the_timeout_is_the_one_of_the_settings(
    provider_server: Provider, provider: str, channel: Channel
) -> None:
    """Section 4: a call has ``ALERTS_SEND_TIMEOUT_SECONDS``; with next to none, even a good answer is late."""
    provider_server.answer(200, json.loads(ACCEPTED))
    result = await send(provider_server.url, provider, channel, send_timeout_seconds=1e-9)
    assert result == SendResult(Retry("timeout"))


async def test_cancellation_passes_through() -> None:
    """CLI-7: a send that is cancelled is cancelled, not turned into an outcome."""
    arrived = asyncio.Event()

    async def tell_and_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hang(reader, writer)

    async with tcp_server(tell_and_hang) as url:
        sending = asyncio.create_task(send(url, "brevo", Channel.EMAIL))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


# --- servers that are not there -------------------------------------------------------------------------------------


@every_provider
async def test_a_refused_connection_is_transient(provider: str, channel: Channel) -> None:
    """C-6: nothing listens there; nothing has left."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert await send(url, provider, channel) == SendResult(Retry("connection_error"))


@every_provider
async def test_an_unknown_host_is_transient(provider: str, channel: Channel) -> None:
    """C-6: the name may be known again in a minute."""
    assert await send("https://nonexistent.invalid", provider, channel) == SendResult(Retry("dns_error"))


@every_provider
async def test_a_server_without_tls_gets_nothing(provider_server: Provider, provider: str, channel: Channel) -> None:
    """C-6: https to a server that speaks plain HTTP never gets as far as the message."""
    provider_server.answer(200, json.loads(ACCEPTED))
    result = await send(provider_server.url.replace("http:", "https:"), provider, channel)
    assert result == SendResult(Retry("tls_error"))
    assert provider_server.requests == []


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder: Path = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@every_provider
async def test_a_certificate_that_nobody_vouches_for_gets_nothing(
    provider: str, channel: Channel, self_signed: ssl.SSLContext
) -> None:
    """O-3: certificates are verified; credentials and message stay here."""
    reached: list[bool] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(True)
        await body_of(ACCEPTED)(reader, writer)

    async with tcp_server(answer, ssl=self_signed) as url:
        result = await send(url.replace("http:", "https:"), provider, channel)
    assert result == SendResult(Retry("tls_error"))
    assert reached == []


# --- nothing leaks --------------------------------------------------------------------------------------------------


@every_provider
async def test_nothing_secret_is_logged_or_kept_when_things_go_wrong(
    provider: str, channel: Channel, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """O-3: no secret, no destination, no body and no URL in outcomes, logs or output, whatever goes wrong."""
    echo = json.dumps({"code": "ada@example.com", "name": "+31612345678", "message": "-100200 secret text"})
    talks = [talk for talk, _ in NONSENSE.values()] + [body_of(echo.encode(), b"400 Bad Request")]
    caplog.set_level(logging.DEBUG)
    urls, results = ["https://nonexistent.invalid"], []
    with capture_logs() as events:
        for talk in talks:
            async with tcp_server(talk) as url:
                urls.append(url)
                results.append(await send(url, provider, channel))
        results.append(await send(urls[0], provider, channel))
    everything = f"{results} {events} {caplog.text} {capfd.readouterr()}"
    hidden = [*SECRETS, *DESTINATIONS.values(), *urls, "secret text"]
    assert [piece for piece in hidden if piece in everything] == []


# --- which adapters there are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "provider", "expected"),
    [
        ([], "brevo", {"email": "brevo", "telegram": "telegram", "sms": "twilio"}),
        ([], "resend", {"email": "resend", "telegram": "telegram", "sms": "twilio"}),
        (["email_from"], "brevo", {"telegram": "telegram", "sms": "twilio"}),
        (["brevo_api_key"], "brevo", {"telegram": "telegram", "sms": "twilio"}),
        (["brevo_api_key"], "resend", {"email": "resend", "telegram": "telegram", "sms": "twilio"}),
        (["telegram_bot_token"], "brevo", {"email": "brevo", "sms": "twilio"}),
        (["twilio_account_sid"], "brevo", {"email": "brevo", "telegram": "telegram"}),
        (["twilio_auth_token"], "brevo", {"email": "brevo", "telegram": "telegram"}),
        (["twilio_phone_number"], "brevo", {"email": "brevo", "telegram": "telegram"}),
    ],
)
async def test_there_are_adapters_for_configured_channels_only(
    missing: list[str], provider: str, expected: dict[str, str]
) -> None:
    """C-10: a channel with half its credentials is not configured; ``EMAIL_PROVIDER`` picks who carries email."""
    configured = settings("http://localhost", provider, **dict.fromkeys(missing))
    async with create_session() as session:
        adapters = build_adapters(configured, session)
    assert {name: adapter.provider for name, adapter in adapters.items()} == expected
    assert set(adapters) == {name for name, spec in channels().items() if spec.is_configured(configured)}


# --- the sandbox speaks as the providers do -------------------------------------------------------------------------


@every_provider
async def test_the_sandbox_takes_the_message_as_it_was_sent(provider: str, channel: Channel) -> None:
    """C-5: what is sent is what the user gets."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        result = await send(sandbox.url, provider, channel)
        (message,) = sandbox.messages
    assert result == SendResult(Sent(message.provider_message_id))
    assert (message.provider, message.channel) == (provider, channel)
    assert message.destination == DESTINATIONS[channel]
    assert "secret text" in message.text


@every_provider
async def test_any_other_key_puts_the_channel_down(provider: str, channel: Channel) -> None:
    """C-7: a key that was revoked or mistyped is the channel's fault, whatever the message is."""
    async with Sandbox.start() as sandbox:
        result = await send(sandbox.url, provider, channel)
        assert sandbox.messages == ()
    assert isinstance(result.outcome, ChannelDown)
    assert result.outcome.cause is DownCause.AUTH_FAILED


@pytest.mark.parametrize("provider", ["brevo", "resend"])
async def test_a_repeat_after_a_lost_answer_makes_no_second_email(provider: str) -> None:
    """C-12: the provider took it and its answer got lost; the same key again ends as sent, with one email."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(reset=True, accept=True, times=1))
        lost = await send(sandbox.url, provider, Channel.EMAIL)
        again = await send(sandbox.url, provider, Channel.EMAIL)
        (message,) = sandbox.messages
    # Brevo refuses the key and gives no id; Resend gives its first answer once more.
    known = {"brevo": Sent(None, already_accepted=True), "resend": Sent(message.provider_message_id)}
    assert (lost, again) == (SendResult(Retry("connection_reset")), SendResult(known[provider]))


async def test_the_sandbox_group_moves_and_the_message_follows() -> None:
    """C-7: the message goes to the new chat at once."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(DESTINATIONS[Channel.TELEGRAM], migrate_to_chat_id=-1001234567890))
        result = await send(sandbox.url, "telegram", Channel.TELEGRAM)
        (message,) = sandbox.messages
    assert result == SendResult(Sent(message.provider_message_id), destination_moved_to="-1001234567890")
    assert message.destination == "-1001234567890"


@every_provider
async def test_the_sandbox_refuses_the_rate_in_each_providers_own_way(provider: str, channel: Channel) -> None:
    """C-8: every provider's way to say for how long is understood."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(retry_after=7))
        result = await send(sandbox.url, provider, channel)
    assert isinstance(result.outcome, Retry)
    assert (result.outcome.retry_after, result.outcome.rate_limited) == (7.0, True)
