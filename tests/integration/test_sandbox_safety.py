"""The sandbox among web pages and networks that mean it no good, and what it keeps of those who send much."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from alerts_engine.sandbox import Credentials, Fault, FaultError, Sandbox, SandboxKeyError, faults, mailbox
from alerts_engine.sandbox.bounded import Newest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEYS = Credentials()
FAULT = {"status": 500}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as started:
        yield started


def port_of(sandbox: Sandbox) -> int:
    return int(sandbox.url.rpartition(":")[2])


async def raw(sandbox: Sandbox, head: str, *, to: str = "127.0.0.1") -> int:
    """The status of an answer to exactly these lines."""
    reader, writer = await asyncio.open_connection(to, port_of(sandbox))
    writer.write((head.replace("\n", "\r\n") + "\r\nConnection: close\r\n\r\n").encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


async def status(sandbox: Sandbox, method: str, path: str, **options: Any) -> int:
    async with aiohttp.ClientSession() as http, http.request(method, sandbox.url + path, **options) as answer:
        await answer.read()
        return answer.status


async def telegram(sandbox: Sandbox, **options: Any) -> int:
    path = f"/bot{KEYS.telegram_bot_token}/sendMessage"
    return await status(sandbox, "POST", path, **{"json": {"chat_id": 1, "text": "Hello"}, **options})


# --- a name that leads here by a trick --------------------------------------------------------------------------------

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested
OURS = (
    "127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "localhost.", "inbox.localhost",
    "[::1]:{port}", "127.8.8.8", "[::ffff:127.0.0.1]",
)  # fmt: skip
FOREIGN = (
    "evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "evil-localhost",
    "10.0.0.1", EVERYWHERE, "127.0.0.1@evil.example", "evil.example@127.0.0.1", "127.0.0.1/evil.example",
    "127.0.0.1:80:80", "127.0.0.1:x", "[::1", "2130706433", "",
)  # fmt: skip
OWN_PAGES = (
    {},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "{own}"},
    {"Origin": "{own}", "Sec-Fetch-Site": "same-origin"},
)


@pytest.mark.parametrize("path", ["/", "/api/messages", "/healthz", "/nowhere"])
@pytest.mark.parametrize("host", OURS)
async def test_the_machines_own_names_come_in(sandbox: Sandbox, host: str, path: str) -> None:
    """Loopback addresses and names under localhost lead nowhere else."""
    expected = 404 if path == "/nowhere" else 200
    assert await raw(sandbox, f"GET {path} HTTP/1.1\nHost: {host.format(port=port_of(sandbox))}") == expected


@pytest.mark.parametrize("path", ["/", "/api/messages", "/healthz", "/nowhere", "/emails"])
@pytest.mark.parametrize("host", FOREIGN)
async def test_a_foreign_host_is_refused(sandbox: Sandbox, host: str, path: str) -> None:
    """A page whose name was made to lead here reads nothing (DNS rebinding)."""
    assert await raw(sandbox, f"GET {path} HTTP/1.1\nHost: {host.format(port=port_of(sandbox))}") == 421


async def test_no_host_and_two_hosts_are_refused(sandbox: Sandbox) -> None:
    """Nobody can hide a foreign name behind ours."""
    assert await raw(sandbox, "GET / HTTP/1.0\nAccept: */*") == 421
    assert await raw(sandbox, "GET / HTTP/1.1\nHost: localhost\nHost: evil.example") in {400, 421}


async def test_a_foreign_host_can_set_no_fault_and_send_nothing(sandbox: Sandbox) -> None:
    """Nothing of the request is looked at."""
    headers = {"Host": "evil.example"}
    assert await status(sandbox, "POST", "/api/faults", json=FAULT, headers=headers) == 421
    assert await status(sandbox, "DELETE", "/api/messages", headers=headers) == 421
    assert await telegram(sandbox, headers=headers) == 421
    assert (sandbox.faults.list, sandbox.messages, sandbox.requests) == ((), (), 0)


async def test_names_that_are_allowed_come_in() -> None:
    """A proxy or another container may know it by another name."""
    async with Sandbox.start(allowed_hosts=["inbox.example", "Sandbox"]) as sandbox:
        for host in ("inbox.example", "INBOX.example:443", "sandbox:8025"):
            assert await raw(sandbox, f"GET / HTTP/1.1\nHost: {host}") == 200
        assert await raw(sandbox, "GET / HTTP/1.1\nHost: other.example") == 421


def own_address() -> str | None:
    """An address of this machine that is not its loopback's; no packet is sent."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


async def test_on_every_interface_the_address_called_is_ours() -> None:
    """Whoever calls an address of the machine by that address is meant for it; and a warning was given."""
    address = own_address() or "127.0.0.2"
    with capture_logs() as logs:
        async with Sandbox.start(EVERYWHERE) as sandbox:
            assert sandbox.url.startswith("http://127.0.0.1:")
            assert await raw(sandbox, f"GET / HTTP/1.1\nHost: {address}:{port_of(sandbox)}", to=address) == 200
            assert await raw(sandbox, "GET / HTTP/1.1\nHost: 192.0.2.7", to=address) == 421
            assert await raw(sandbox, "GET / HTTP/1.1\nHost: evil.example", to=address) == 421
            assert await telegram(sandbox) == 200
    assert [(line["event"], line["log_level"]) for line in logs] == [("sandbox_is_public", "warning")]
    assert "--host 127.0.0.1" in logs[0]["hint"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
async def test_no_warning_where_only_this_machine_gets(host: str) -> None:
    """The usual case is quiet, and works by its URL."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with capture_logs() as logs:
        async with Sandbox.start(host) as sandbox:
            assert await telegram(sandbox) == 200
    assert logs == []


# --- pages of other sites -------------------------------------------------------------------------------------------

FOREIGN_PAGES = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Origin": "{own}", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
)


@pytest.mark.parametrize("headers", FOREIGN_PAGES)
async def test_a_page_of_another_site_changes_nothing(sandbox: Sandbox, headers: dict[str, str]) -> None:
    """Neither in the control API nor at the providers; its browser says where it comes from."""
    said = {name: value.format(own=sandbox.url) for name, value in headers.items()}
    assert await status(sandbox, "POST", "/api/faults", data=json.dumps(FAULT), headers=said) == 403
    assert await status(sandbox, "DELETE", "/api/faults", headers=said) == 403
    assert await status(sandbox, "DELETE", "/api/messages", headers=said) == 403
    assert await telegram(sandbox, headers=said) == 403
    assert (sandbox.faults.list, sandbox.messages) == ((), ())


@pytest.mark.parametrize("headers", OWN_PAGES)
async def test_its_own_page_and_programs_may(sandbox: Sandbox, headers: dict[str, str]) -> None:
    """The inbox's buttons work, and so does every HTTP client."""
    said = {name: value.format(own=sandbox.url) for name, value in headers.items()}
    assert await status(sandbox, "POST", "/api/faults", json=FAULT, headers=said) == 201
    assert await status(sandbox, "DELETE", "/api/faults", headers=said) == 204
    assert await telegram(sandbox, headers=said) == 200
    assert await status(sandbox, "DELETE", "/api/messages", headers=said) == 204


async def test_no_answer_may_be_embedded_elsewhere(sandbox: Sandbox) -> None:
    """What is read across sites is held back by the browser, as the answers ask for."""
    async with aiohttp.ClientSession() as http:
        for path in ("/", "/api/messages", "/api/attempts", "/api/settings", "/api/faults"):
            async with http.get(sandbox.url + path) as answer:
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "Access-Control-Allow-Origin" not in answer.headers


# --- how much is kept -----------------------------------------------------------------------------------------------


def test_the_newest_are_kept_within_both_bounds() -> None:
    """The oldest make room, one entry that is too large for all included."""
    few: Newest[str] = Newest(3, 1000, len)
    for entry in "abcd":
        few.append(entry)
    assert (list(few), len(few), few.dropped) == (["b", "c", "d"], 3, 1)
    small: Newest[str] = Newest(100, 10, len)
    for entry in ("aaaa", "bbbb", "cccc", "d" * 10, "e" * 11, "f"):
        small.append(entry)
    assert (list(small), small.dropped) == (["f"], 5)
    small.clear()
    assert (list(small), small.dropped) == ([], 0)


async def test_messages_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand large messages must not take all memory; what was dropped is counted."""
    monkeypatch.setattr(mailbox, "KEPT_BYTES", 100_000)
    async with Sandbox.start() as sandbox:
        for number in range(1, 31):
            assert await telegram(sandbox, json={"chat_id": number, "text": "x" * 4000}) == 200
        kept = sandbox.messages
        assert [message.number for message in kept] == list(range(31 - len(kept), 31))
        assert sum(sys.getsizeof(message.text) for message in kept) <= 100_000
        assert len(kept) > 10
        async with aiohttp.ClientSession() as http, http.get(f"{sandbox.url}/api/messages?limit=1") as answer:
            told = await answer.json()
        assert (told["total"], told["dropped"]) == (len(kept), 30 - len(kept))
        await asyncio.wait_for(sandbox.wait_for_messages(30), 30)


async def test_attempts_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are refused can be large, too."""
    monkeypatch.setattr(mailbox, "KEPT_BYTES", 400_000)
    async with Sandbox.start() as sandbox:
        for _ in range(10):
            assert await telegram(sandbox, json={"chat_id": "x" * 30_000, "text": "Hello"}) == 400
        assert 0 < len(sandbox.attempts) < 5
        assert sandbox.requests == 10


async def test_faults_are_bounded(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets too many is told; lifting or using them makes room."""
    monkeypatch.setattr(faults, "MOST_FAULTS", 2)
    for _ in range(2):
        sandbox.faults.add(Fault("1", status=500, times=1))
    with pytest.raises(FaultError, match="too many"):
        sandbox.faults.add(Fault("1", status=500))
    assert await status(sandbox, "POST", "/api/faults", json=FAULT) == 400
    assert await telegram(sandbox) == 500
    assert await status(sandbox, "POST", "/api/faults", json=FAULT) == 201
    sandbox.faults.clear()
    monkeypatch.setattr(faults, "MOST_BYTES", 5000)
    with pytest.raises(FaultError, match="too many"):
        sandbox.faults.add(Fault(body="x" * 5000))
    sandbox.faults.add(Fault(body="x" * 3000, times=1))
    assert await telegram(sandbox) == 200
    sandbox.faults.add(Fault(body="x" * 3000))


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_the_sandbox_says_which_keys_are_right(sandbox: Sandbox) -> None:
    """The settings that it names make the engine's calls come in."""
    async with aiohttp.ClientSession() as http, http.get(f"{sandbox.url}/api/settings") as answer:
        told = (await answer.json())["settings"]
    assert told == sandbox.settings
    assert told["BREVO_API_KEY"] == KEYS.brevo_api_key
    assert {value for name, value in told.items() if name.endswith("_BASE_URL")} == {sandbox.url}


async def test_the_right_keys_can_be_chosen() -> None:
    """Then the usual ones are as wrong as any."""
    chosen = Credentials.of(["TELEGRAM_BOT_TOKEN=77:mine"])
    assert chosen == Credentials(telegram_bot_token="77:mine")
    async with Sandbox.start(credentials=chosen) as sandbox:
        assert sandbox.settings["TELEGRAM_BOT_TOKEN"] == "77:mine"
        assert await telegram(sandbox) == 401
        assert await status(sandbox, "POST", "/bot77:mine/sendMessage", json={"chat_id": 1, "text": "x"}) == 200


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("BREVO=abc", "NAME=value"),
        ("abc", "NAME=value"),
        ("brevo_api_key=abc", "NAME=value"),
        ("BREVO_API_KEY", "BREVO_API_KEY"),
        ("BREVO_API_KEY=two words", "BREVO_API_KEY"),
        ("TELEGRAM_BOT_TOKEN=secret", "TELEGRAM_BOT_TOKEN"),
        ("TELEGRAM_BOT_TOKEN=1:a/b", "TELEGRAM_BOT_TOKEN"),
        ("TWILIO_ACCOUNT_SID=AC/1", "TWILIO_ACCOUNT_SID"),
    ],
)
def test_a_key_that_no_provider_gives_is_refused(assignment: str, named: str) -> None:
    """The error names the key, and never its value."""
    with pytest.raises(SandboxKeyError, match=named) as refused:
        Credentials.of([assignment])
    assert "secret" not in str(refused.value)


def test_keys_are_not_shown() -> None:
    """Somebody may use real ones."""
    assert KEYS.brevo_api_key not in repr(KEYS)
