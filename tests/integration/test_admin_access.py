"""Who may use the admin API, tried as somebody would who may not (SPEC P-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from alerts_engine.admin.access import WrongTokens
from alerts_engine.admin.admin_site import PREFIX, admin_site
from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.admin.site import HEADERS as STRICT
from tests.support.admin import HEADERS, TOKEN, client_of, made
from tests.support.serving import BINDINGS, raw_answer
from tests.support.world import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.admin import Client

pytestmark = pytest.mark.parametrize("binding", BINDINGS)
UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
"""Who is refused, is refused without a database."""
ROUTES = [
    (route.method, route.path, route.open) for route in admin_site(EngineSource(settings=settings(UNREACHABLE))).routes
]
CLOSED = [(method, path.replace("{", "").replace("}", "")) for method, path, is_open in ROUTES if not is_open]
OPEN = [path.replace("{name}", "style.css") for _, path, is_open in ROUTES if is_open]


@pytest.fixture
async def client(binding: str) -> AsyncIterator[Client]:
    async with client_of(made(binding, UNREACHABLE)) as opened:
        yield opened


async def test_without_a_token_on_the_server_everything_is_closed(binding):
    """The page and what does not exist as well (P-2)."""
    async with client_of(made(binding, UNREACHABLE, token=None)) as client:
        for method, path in [*CLOSED, *(("GET", path) for path in OPEN), ("GET", "/nowhere"), ("OPTIONS", "/runs")]:
            status, said = await client(method, path)
            assert (status, "INTERNAL_RUNNER_TOKEN is not set" in said["error"]) == (503, True), path


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"x-internal-token": ""}, {"x-internal-token": TOKEN + "x"}, {"x-internal-token": TOKEN[:-1]},
        {"x-internal-token": TOKEN.upper()}, {"x-internal-token": f"{TOKEN}, {TOKEN}"}, {"token": TOKEN},
        {"x_internal_token": TOKEN}, {"authorization": f"Bearer {TOKEN}"}, {"cookie": f"x-internal-token={TOKEN}"},
    ],
    ids=lambda headers: "&".join(f"{name}={len(value)}" for name, value in headers.items()) or "none",
)  # fmt: skip
async def test_only_the_token_itself_opens(client, headers):
    """Not part of it, not in other letters, not elsewhere (P-2)."""
    status, said = await client("GET", "/runs", headers=headers)
    assert status == 401
    assert set(said) == {"error"}
    assert TOKEN not in said["error"]


async def test_every_route_needs_it(binding):
    """Also a new one that somebody adds (P-2)."""
    async with client_of(made(binding, UNREACHABLE)) as client:
        for method, path in [
            *CLOSED,
            ("GET", "/nowhere"),
            ("DELETE", "/runs"),
            ("OPTIONS", "/runs"),
            ("HEAD", "/runs"),
        ]:
            assert (await client(method, path, headers={}))[0] == 401, path
            status, _ = await client(method, f"{path}?token={TOKEN}&x-internal-token={TOKEN}", headers={})
            assert status == 401, path


async def test_two_tokens_are_none(client):
    """A right one smuggled in beside another (P-2)."""
    head = f"GET {PREFIX}/openapi.json HTTP/1.1\r\nHost: x\r\nx-internal-token: {{}}\r\nX-Internal-Token: {{}}\r\n\r\n"
    url = client.url.removesuffix(PREFIX)
    for tokens in ((TOKEN, "wrong"), ("wrong", TOKEN), (TOKEN, TOKEN)):
        assert b"HTTP/1.1 401 " in await raw_answer(url, head.format(*tokens).encode())


@pytest.mark.parametrize(
    "head",
    [
        b"GET {} HTTP/1.1\r\nHost: x\r\nx-internal-token : {}\r\n\r\n",
        b"GET {} HTTP/1.1\r\nHost: x\r\nfoo: a\rx-internal-token: {}\r\n\r\n",
        b"GET {} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    ],
    ids=["blank before colon", "bare CR", "two lengths", "two content lengths"],
)
async def test_smuggled_headers_are_refused(client, head):
    """None of the tricks gets an answer that a plain request would not get (P-2)."""
    path = f"{PREFIX}/openapi.json".encode()
    url = client.url.removesuffix(PREFIX)
    answer = await raw_answer(url, head.replace(b"{}", path, 1).replace(b"{}", TOKEN.encode()))
    assert answer[9:12] in {b"400", b"401"}, answer


async def test_who_guesses_has_to_wait(client):
    """Ten wrong tokens, then none, not even the right one; a missing one is no guess (P-2)."""
    for _ in range(20):
        assert (await client("GET", "/openapi.json", headers={}))[0] == 401
    assert (await client("GET", "/openapi.json"))[0] == 200
    for number in range(10):
        assert (await client("GET", "/openapi.json", headers={"x-internal-token": f"guess {number}"}))[0] == 401
    async with client.session.get(f"{client.url}/openapi.json", headers=HEADERS) as response:
        assert response.status == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 7


def test_wrong_tokens_are_forgiven_one_by_one(binding):
    """A try every six seconds; every address has its own, and a network of IPv6 addresses has one."""
    now = [1000.0]
    wrong = WrongTokens(burst=2, seconds=6, clock=lambda: now[0])
    wrong.add("10.0.0.1")
    assert wrong.wait("10.0.0.1") == 0
    wrong.add("10.0.0.1")
    assert (wrong.wait("10.0.0.1"), wrong.wait("10.0.0.2")) == (6, 0)
    now[0] += 6
    assert wrong.wait("10.0.0.1") == 0
    for _ in range(2):
        wrong.add("2001:db8::1")
    assert wrong.wait("2001:db8::ffff") == 6
    assert wrong.wait("2001:db8:0:1::1") == 0


def test_wrong_tokens_take_little_memory(binding):
    wrong = WrongTokens(most=100)
    for number in range(1000):
        wrong.add(f"10.0.{number // 256}.{number % 256}")
    assert len(wrong._spent) == 100


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=str,
)  # fmt: skip
async def test_pages_of_other_sites_get_nothing(client, headers):
    """Not even with the token, and no leave to ask (P-2)."""
    for method in ("GET", "POST", "OPTIONS"):
        async with client.session.request(method, f"{client.url}/explain", headers=HEADERS | headers) as response:
            assert response.status == 403
            assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_its_own_page_may_ask(client):
    """As browsers say it, also behind a proxy that has another name (P-2)."""
    behind_a_proxy = {"Sec-Fetch-Site": "same-origin", "Origin": "https://ops.example", "Host": "localhost:8026"}
    assert (await client("GET", "/openapi.json", headers=HEADERS | behind_a_proxy))[0] == 200
    origin = client.url.removesuffix(PREFIX)
    assert (await client("GET", "/openapi.json", headers=HEADERS | {"Sec-Fetch-Site": "same-origin"}))[0] == 200
    assert (await client("GET", "/openapi.json", headers=HEADERS | {"Origin": origin}))[0] == 200


async def test_another_name_of_this_machine_is_refused(binding):
    """DNS rebinding: a page's own name that leads here; the page itself is refused as well (P-2)."""
    app = made(binding, UNREACHABLE, allowed_hosts=["ops.example"])
    async with client_of(app) as client:
        for path in ["/openapi.json", *OPEN]:
            for host, status in (
                ("evil.example", 421), ("ops.example.evil.example", 421), ("ops.example@evil.example", 421), ("", 421),
                ("localhost:80", 200), ("ops.example", 200), ("OPS.example.:8443", 200), ("127.0.0.1", 200),
            ):  # fmt: skip
                found, _ = await client("GET", path, headers=HEADERS | {"Host": host}, allow_redirects=False)
                assert found == (308 if status == 200 and path == "" else status), (path, host)


async def test_no_answer_is_kept_or_framed(client):
    """Errors as well (P-2)."""
    for path, headers in (("/openapi.json", HEADERS), ("/runs", {}), ("/nowhere", HEADERS)):
        async with client.session.get(client.url + path, headers=headers) as response:
            assert {name: response.headers[name] for name in STRICT} == STRICT


async def test_the_log_has_no_token(client):
    """Wrong ones neither: it may be the right one of another server (O-3)."""
    with capture_logs() as lines:
        await client("GET", f"/explain?user={TOKEN}")
        await client("GET", "/runs", headers={"x-internal-token": "another-token"})
    assert [line["status"] for line in lines] == [503, 401]
    assert TOKEN not in str(lines)
    assert "another-token" not in str(lines)


async def test_a_token_may_have_any_letters(binding):
    """The same in both bindings, which read headers differently."""
    async with client_of(made(binding, UNREACHABLE, token="schlüssel-für-drei")) as client:
        url = client.url.removesuffix(PREFIX)
        head = f"GET {PREFIX}/openapi.json HTTP/1.1\r\nHost: x\r\nx-internal-token: schlüssel-für-drei\r\n\r\n"
        assert b"HTTP/1.1 200 " in await raw_answer(url, head.encode())
