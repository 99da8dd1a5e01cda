"""What a send came to when no readable answer of the provider came: never handed over, or uncertain (SPEC C-6)."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import ssl
import subprocess
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from alerts_engine.channels import build_adapters, create_session, http
from alerts_engine.channels.http import BODY_LIMIT
from alerts_engine.sandbox import Fault, Sandbox
from alerts_engine.types import Channel, Outcome, Retry, SendResult, Sent, Uncertain
from tests.support.providers import (
    ACCEPTED,
    DESTINATIONS,
    KEYS,
    SECRETS,
    body_of,
    close,
    envelope,
    every_provider,
    hang,
    hang_in_the_middle,
    never_end,
    refusal,
    refusal_error,
    reset,
    says,
    send,
    settings,
    tcp_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.providers import Provider, Talk

MEGABYTES = b'{"id": "1", "messageId": "1", "sid": "1", "padding": "%s"}' % (b"x" * (4 << 20))
JUST_TOO_LONG = b'{"id": "1", "messageId": "1", "sid": "1"}'.ljust(BODY_LIMIT + 1)


@pytest.fixture
def time_runs_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Ends the time of the call under way when it is called, and no call's time before."""
    running: list[asyncio.Timeout] = []

    def timeout(_seconds: float) -> asyncio.Timeout:
        running.append(asyncio.timeout(None))
        return running[-1]

    monkeypatch.setattr(http, "asyncio", SimpleNamespace(timeout=timeout))
    return lambda: running[-1].reschedule(asyncio.get_running_loop().time())


# --- the provider accepts, and its answer is lost -------------------------------------------------------------------

GATEWAY_PAGE = {"body": "<html>told by a gateway</html>", "content_type": "text/html"}
LOST: dict[str, tuple[dict[str, Any], str]] = {
    "reset": ({"reset": True}, "connection_reset"),
    "half an answer": ({"truncate": True}, "unreadable_answer"),
    "html": ({"status": 200, **GATEWAY_PAGE}, "{provider}_unreadable_200"),
    "html refusal": ({"status": 400, **GATEWAY_PAGE}, "{provider}_unreadable_400"),
    "html for a bad key": ({"status": 401, **GATEWAY_PAGE}, "{provider}_unreadable_401"),
    "html for a rate": ({"status": 429, **GATEWAY_PAGE}, "{provider}_unreadable_429"),
    "502 html": ({"status": 502, **GATEWAY_PAGE}, "{provider}_unreadable_502"),
    "503 json of a gateway": ({"status": 503, "body": '{"message": "no server"}'}, "{provider}_unreadable_503"),
    "504 empty": ({"status": 504, "body": ""}, "{provider}_unreadable_504"),
    "redirect": ({"redirect_to": "https://example.com/"}, "{provider}_redirect"),
    "success without an id": ({"status": 201, "body": '{"ok": true}'}, "{provider}_unreadable_201"),
    "oversize": ({"size": BODY_LIMIT + 1}, "{provider}_unreadable_200"),
}


@every_provider
@pytest.mark.parametrize("name", LOST)
async def test_an_accepted_message_whose_answer_is_lost_is_uncertain(
    provider: str, channel: Channel, name: str
) -> None:
    """C-6: the provider has the message, once; the engine says that it does not know."""
    fault, error = LOST[name]
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(accept=True, **fault))
        result = await send(sandbox.url, provider, channel)
        assert result == SendResult(Uncertain(error.format(provider=provider)))
        assert len(sandbox.messages) == len(sandbox.attempts) == 1


@every_provider
async def test_an_accepted_message_without_an_answer_in_time_is_uncertain(
    provider: str, channel: Channel, time_runs_out: Callable[[], None]
) -> None:
    """C-6: the provider takes it and hangs."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(accept=True, hang=True))
        sending = asyncio.create_task(send(sandbox.url, provider, channel))
        await sandbox.wait_for_messages(1)
        time_runs_out()
        assert await sending == SendResult(Uncertain("timeout"))


@every_provider
@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_refusal_in_the_providers_own_form_is_none_of_them(
    provider_server: Provider, provider: str, channel: Channel, status: int
) -> None:
    """C-6: a provider that says no, readably, has not accepted anything."""
    provider_server.answer(status, refusal(provider, status))
    result = await send(provider_server.url, provider, channel)
    assert result == SendResult(Retry(refusal_error(provider, status), rate_limited=status == 429))


@pytest.mark.parametrize("status", [502, 504])
async def test_telegrams_own_gateway_knows_as_little_as_any(provider_server: Provider, status: int) -> None:
    """C-6: its form has no code but the status, and these two say that the server behind it did not answer."""
    provider_server.answer(status, refusal("telegram", status))
    result = await send(provider_server.url, "telegram", Channel.TELEGRAM)
    assert result == SendResult(Uncertain(f"telegram_{status}"))


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("concurrent_idempotent_requests", Retry("resend_concurrent_idempotent_requests", 5.0, spends_attempt=False)),
        ("invalid_idempotent_request", Uncertain("resend_invalid_idempotent_request", key_failed=True)),
        ("resource_locked", Uncertain("resend_resource_locked")),
    ],
)
async def test_none_of_resends_conflicts_says_that_it_was_accepted(
    provider_server: Provider, code: str, outcome: Outcome
) -> None:
    """C-12: a twin in flight decides by itself; other bytes under the key, and anything new, are uncertain."""
    provider_server.answer(409, refusal("resend", 409, code))
    assert await send(provider_server.url, "resend", Channel.EMAIL) == SendResult(outcome)


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
    assert (lost, again) == (SendResult(Uncertain("connection_reset")), SendResult(known[provider]))


# --- servers that speak nonsense ------------------------------------------------------------------------------------

NONSENSE: dict[str, tuple[Talk, str]] = {
    "empty": (body_of(b""), "{provider}_unreadable_200"),
    "empty refusal": (body_of(b"", b"422 No"), "{provider}_unreadable_422"),
    "no content": (says(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), "{provider}_unreadable_204"),
    "cut json": (body_of(b'{"id": "1"'), "{provider}_unreadable_200"),
    "a list": (body_of(b"[1, 2]"), "{provider}_unreadable_200"),
    "a string": (body_of(b'"ok"'), "{provider}_unreadable_200"),
    "no text": (body_of(b"\xff\xfe\x00\xd8{"), "{provider}_unreadable_200"),
    "deep": (body_of(b"[" * 60_000), "{provider}_unreadable_200"),
    "megabytes": (body_of(MEGABYTES), "{provider}_unreadable_200"),
    "one byte too long": (body_of(JUST_TOO_LONG), "{provider}_unreadable_200"),
    "without end": (never_end, "{provider}_unreadable_200"),
    "half an answer": (says(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id": "1"}'), "unreadable_answer"),
    "false gzip": (body_of(ACCEPTED, b"200 OK", b"Content-Encoding: gzip"), "unreadable_answer"),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "unreadable_answer"),
    "an endless header": (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), "unreadable_answer"),
    "reset": (reset, "connection_reset"),
    "closed": (close, "connection_reset"),
}


@every_provider
@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_uncertain(provider: str, channel: Channel, name: str) -> None:
    """C-6: an answer that cannot be read, or breaks off, says nothing about the message."""
    talk, error = NONSENSE[name]
    async with tcp_server(talk) as url:
        assert await send(url, provider, channel) == SendResult(Uncertain(error.format(provider=provider)))


@every_provider
async def test_an_answer_of_just_the_limit_is_read(provider: str, channel: Channel) -> None:
    """C-6: the limit is a limit, not one less."""
    async with tcp_server(body_of(ACCEPTED.ljust(BODY_LIMIT))) as url:
        assert await send(url, provider, channel) == SendResult(Sent("1"))


@every_provider
@pytest.mark.parametrize("talk", [hang, hang_in_the_middle])
async def test_silence_is_a_timeout(
    provider: str, channel: Channel, talk: Talk, time_runs_out: Callable[[], None]
) -> None:
    """C-6: whoever never answers, or stops in the middle, may have taken the message."""
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await talk(reader, writer)

    async with tcp_server(arrive) as url:
        sending = asyncio.create_task(send(url, provider, channel))
        await arrived.wait()
        time_runs_out()
        assert await sending == SendResult(Uncertain("timeout"))


async def test_cancellation_passes_through() -> None:
    """CLI-7: a send that is cancelled is cancelled, not turned into an outcome."""
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hang(reader, writer)

    async with tcp_server(arrive) as url:
        sending = asyncio.create_task(send(url, "brevo", Channel.EMAIL))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


# --- kept connections -----------------------------------------------------------------------------------------------


async def test_a_kept_connection_that_dies_under_a_message_sends_it_once() -> None:
    """C-6: it was written, and nothing came back: uncertain, and not written a second time behind the engine's back."""
    arrived: list[bytes] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the first request's body and answer it, then take all of the second and close."""
        await reader.readuntil(b"}}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ACCEPTED) + ACCEPTED)
        arrived.append(b"first")
        head = await reader.readuntil(b"\r\n\r\n")
        arrived.append(head)

    async with tcp_server(answer_once) as url, create_session() as session:
        adapter = build_adapters(settings(url, "telegram"), session)[Channel.TELEGRAM]
        first = await adapter.send(envelope(Channel.TELEGRAM))
        second = await adapter.send(envelope(Channel.TELEGRAM))
    assert (first, second) == (SendResult(Sent("1")), SendResult(Uncertain("connection_reset")))
    assert len(arrived) == 2


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used() -> None:
    """C-6: nothing is written to it, and the message goes out on a new one."""
    closed = asyncio.Event()

    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ACCEPTED) + ACCEPTED)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with tcp_server(answer_and_close) as url, create_session() as session:
        adapter = build_adapters(settings(url, "telegram"), session)[Channel.TELEGRAM]
        results = []
        for _ in range(2):
            closed.clear()
            results.append(await adapter.send(envelope(Channel.TELEGRAM)))
            await closed.wait()
            # The end of the connection is there to be read: let the client's side of the loop read it.
            for _ in range(10):
                await asyncio.sleep(0)
    assert results == [SendResult(Sent("1"))] * 2


async def test_a_library_that_writes_unnoticed_is_not_trusted(
    provider_server: Provider, monkeypatch: pytest.MonkeyPatch, time_runs_out: Callable[[], None]
) -> None:
    """C-6: should a newer HTTP library not tell any more what it wrote, nothing counts as unwritten from then on."""
    for name in ("write", "write_with_length"):
        monkeypatch.delattr(http._Body, name)
    monkeypatch.setattr(http._Body, "is_told", True)
    provider_server.answer(200, {})
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hang(reader, writer)

    async with tcp_server(arrive) as url, create_session() as session:
        with capture_logs() as logs:
            for _ in range(2):
                await http.post(session, provider_server.url, timeout_seconds=20, json_body={})
        posting = asyncio.create_task(http.post(session, url, timeout_seconds=20, json_body={}))
        await arrived.wait()
        time_runs_out()
        assert await posting == Uncertain("timeout")
    assert [(log["log_level"], log["event"]) for log in logs] == [("error", "writing_goes_unnoticed")]


# --- never handed over ----------------------------------------------------------------------------------------------


@every_provider
async def test_a_refused_connection_is_not_handed_over(provider: str, channel: Channel) -> None:
    """C-6: nothing listens there; nothing has left."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert await send(url, provider, channel) == SendResult(Retry("connection_error"))


@every_provider
async def test_an_unknown_host_is_not_handed_over(provider: str, channel: Channel) -> None:
    """C-6: the name may be known again in a minute."""
    assert await send("https://nonexistent.invalid", provider, channel) == SendResult(Retry("dns_error"))


@every_provider
async def test_a_timeout_while_connecting_is_not_handed_over(provider: str, channel: Channel) -> None:
    """C-6: a listener whose queue is full never takes the connection; however long it lasts, nothing is written."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        where = busy.getsockname()
        with closing(socket.create_connection(where)):
            result = await send(f"http://127.0.0.1:{where[1]}", provider, channel, send_timeout_seconds=0.2)
    assert result == SendResult(Retry("timeout"))


@every_provider
async def test_a_timeout_in_the_tls_handshake_is_not_handed_over(
    provider: str, channel: Channel, time_runs_out: Callable[[], None]
) -> None:
    """C-6: the message follows the handshake."""
    greeted = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(1)
            greeted.set()
            await hang(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sending = asyncio.create_task(send(url, provider, channel))
        await greeted.wait()
        time_runs_out()
        assert await sending == SendResult(Retry("timeout"))


async def test_a_timeout_while_waiting_for_a_connection_is_not_handed_over() -> None:
    """C-6: a send that waits for its turn in the pool has written nothing."""
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hang(reader, writer)

    async with tcp_server(arrive) as url, create_session(connections=1) as session:
        first = asyncio.create_task(http.post(session, url, timeout_seconds=600, json_body={}))
        await arrived.wait()
        waiting = await http.post(session, url, timeout_seconds=0.1, json_body={})
        first.cancel()
    assert waiting == Retry("timeout")


@every_provider
async def test_the_timeout_is_the_one_of_the_settings(
    provider_server: Provider, provider: str, channel: Channel
) -> None:
    """Section 4: a call has ``ALERTS_SEND_TIMEOUT_SECONDS``; with next to none, nothing is handed over."""
    provider_server.answer(200, json.loads(ACCEPTED))
    result = await send(provider_server.url, provider, channel, send_timeout_seconds=1e-9)
    assert result == SendResult(Retry("timeout"))
    assert provider_server.requests == []


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
