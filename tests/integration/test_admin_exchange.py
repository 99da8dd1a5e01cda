"""Any list of routes, served by both bindings over real HTTP: the same paths, the same answers (SPEC P-3)."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yarl
from aiohttp import web
from fastapi import APIRouter
from structlog.testing import capture_logs

from alerts_engine.admin import aiohttp_app, fastapi_router
from alerts_engine.admin.exchange import Answer, HttpError, Request, html_answer, json_answer
from alerts_engine.admin.site import HEADERS, Route, Site
from alerts_engine.errors import DatabaseUnreachableError, NotFoundError
from tests.support.serving import BINDINGS, raw_answer, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def echo(request: Request) -> Answer:
    return json_answer({
        "method": request.method, "path": request.path, "values": dict(request.path_values),
        "query": request.query, "form": request.form, "remote": request.remote, "local": request.local,
        "header": request.headers.get("x-mark"),
    })  # fmt: skip


async def page(request: Request) -> Answer:
    return html_answer("<p>hello", headers={"X-Frame-Options": "SAMEORIGIN"})


async def breaks(request: Request) -> Answer:
    raise {
        "mine": HttpError(418, "no tea", {"X-Why": "pot"}), "none": NotFoundError("no such thing in table users"),
        "away": DatabaseUnreachableError("no connection to db.internal"), "bug": ValueError("secret words"),
    }[request.path_values["how"]]  # fmt: skip


ROUTES = (
    Route("GET", "", page),
    Route("GET", "/", page),
    Route("GET", "/echo/{name}", echo),
    Route("POST", "/echo/{name}", echo),
    Route("GET", "/breaks/{how}", breaks),
)
SITE = Site("test", "/some/where", ROUTES, largest_body=1000, body_seconds=0.3)


def bound(binding: str, *sites: Site) -> web.Application | APIRouter:
    return aiohttp_app.application_of(*sites) if binding == "aiohttp" else fastapi_router.router_of(*sites)


@asynccontextmanager
async def client_of(app: web.Application | APIRouter) -> AsyncIterator[aiohttp.ClientSession]:
    async with served(app) as url, aiohttp.ClientSession(url) as client:
        yield client


@pytest.fixture(params=BINDINGS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(bound(request.param, SITE)) as opened:
        yield opened


async def answer_to(client: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, Any]:
    async with client.request(method, path, **more) as response:
        text = await response.text()
        assert "content-length" in {name.lower() for name in response.headers}
        return response.status, json.loads(text) if response.content_type == "application/json" and text else text


def exactly(client: aiohttp.ClientSession, path: str) -> yarl.URL:
    """The path as it stands, which a client would tidy up."""
    return yarl.URL(f"{client._base_url.origin()}{path}", encoded=True)


async def test_a_handler_gets_everything_and_nothing_else(client):
    """Decoded path values, every value of a parameter, a header in whatever letters."""
    status, said = await answer_to(
        client, "GET", "/some/where/echo/a%20b?x=1&x=2&e=%C3%A9&empty=", headers={"X-MARK": "m"}
    )
    assert status == 200
    assert said == {
        "method": "GET", "path": "/echo/a b", "values": {"name": "a b"}, "form": {}, "remote": "127.0.0.1",
        "query": {"x": ["1", "2"], "e": ["é"], "empty": [""]}, "local": "127.0.0.1", "header": "m",
    }  # fmt: skip


async def test_a_form_is_read(client):
    _, said = await answer_to(client, "POST", "/some/where/echo/a", data={"address": "a@b.c"})
    assert said["form"] == {"address": ["a@b.c"]}


def url_of(client: aiohttp.ClientSession) -> str:
    return str(exactly(client, ""))


async def test_two_headers_of_one_name_are_neither(client):
    """Whoever smuggles a second token beside a proxy's has none (SPEC P-2)."""
    head = b"GET /some/where/echo/a HTTP/1.1\r\nHost: x\r\nx-mark: a\r\nX-Mark: b\r\n\r\n"
    assert b'"header":"a, b"' in await raw_answer(url_of(client), head)


@pytest.mark.parametrize("path", ["", "/"])
async def test_the_prefix_itself_is_a_path(client, path):
    assert await answer_to(client, "GET", f"/some/where{path}") == (200, "<p>hello")


async def test_every_answer_has_the_strict_headers(client):
    """Errors too; a handler's own come first (P-2)."""
    for path in ("/some/where/echo/a", "/some/where/nowhere", "/some/where/breaks/bug"):
        async with client.get(path) as response:
            assert {name: response.headers[name] for name in HEADERS} == HEADERS, path
    async with client.get("/some/where") as response:
        assert response.headers["X-Frame-Options"] == "SAMEORIGIN"


async def test_head_is_get_without_a_body(client):
    assert await answer_to(client, "HEAD", "/some/where/echo/a") == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404), ("GET", "/echo/", 404), ("GET", "/echo/a/", 404), ("GET", "//echo/a", 404),
        ("GET", "/echo/..%2fa", 404), ("GET", "/echo/a%2Fb", 404), ("GET", "/ECHO/a", 404), ("GET", "/%00", 404),
        ("GET", "/x%0Ay", 404), ("GET", "/%0A", 404), ("GET", "/%ff", 404),
        ("POST", "/nowhere", 404), ("DELETE", "/echo/a", 405), ("OPTIONS", "/echo/a", 405), ("PUT", "/breaks/bug", 405),
    ],
)  # fmt: skip
async def test_what_has_no_route_is_json(client, method, path, status):
    """Whatever the method and however the path is written."""
    async with client.request(method, exactly(client, f"/some/where{path}")) as response:
        assert response.status == status
        assert set(await response.json()) == {"error"}
        assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [("mine", 418, "no tea"), ("none", 404, "try again"), ("away", 503, "try again"), ("bug", 500, "a bug")],
)
async def test_errors_say_what_strangers_may_know(client, how, status, words):
    """No stack trace, no server's name, no table's."""
    found, said = await answer_to(client, "GET", f"/some/where/breaks/{how}")
    assert found == status
    assert words in said["error"]
    for secret in ("users", "internal", "secret", "Traceback"):
        assert secret not in said["error"]


@pytest.mark.parametrize(
    "query", ["?" + "&".join(f"a{n}=1" for n in range(51)), "?a=%ff"], ids=["too many", "not UTF-8"]
)
async def test_parameters_that_cannot_be_read_are_400(client, query):
    status, said = await answer_to(client, "GET", exactly(client, f"/some/where/echo/a{query}"))
    assert status == 400
    assert "parameters" in said["error"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [(b"a" * 1001, None, 413), (b"\xff", None, 400), (b"{}", "application/json", 415), (b"a" * 1000, None, 200)],
)
async def test_a_body_is_bounded(client, body, kind, status):
    headers = {"Content-Type": kind or "application/x-www-form-urlencoded"}
    found, _ = await answer_to(client, "POST", "/some/where/echo/a", data=body, headers=headers)
    assert found == status


POST = b"POST /some/where/echo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_an_endless_body_is_bounded(client):
    """One that does not say how long it is."""
    answer = await raw_answer(url_of(client), POST, endless=b"258\r\n" + b"a" * 600 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_slow_body_is_broken_off(client):
    """A byte now and then holds nothing up."""
    assert (await raw_answer(url_of(client), POST, pause=0.05, endless=b"1\r\na\r\n")).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_guard_comes_first(binding):
    """Before a path is known to be missing, and before a body is read."""

    async def closed(request: Request, route: Route | None) -> None:
        if route is None or not route.open:
            raise HttpError(401, "who are you?")

    routes = (Route("GET", "/open", page, open=True), Route("POST", "/closed", page))
    site = Site("guarded", "/g", routes, guard=closed)

    async with client_of(bound(binding, site)) as client:
        assert (await answer_to(client, "GET", "/g/open"))[0] == 200
        assert (await answer_to(client, "GET", "/g/missing"))[0] == 401
        begun = b"POST /g/closed HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        assert (await raw_answer(url_of(client), begun)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_several_sites_have_their_own_prefixes(binding):
    """The admin API and the readers' pages: two guards, one application."""

    async def nobody(request: Request, route: Route | None) -> None:
        raise HttpError(401, "no")

    sites = Site("a", "/a", (Route("GET", "/x", page),), guard=nobody), Site("b", "/b", (Route("GET", "/x", page),))
    async with client_of(bound(binding, *sites)) as client:
        assert (await answer_to(client, "GET", "/a/x"))[0] == 401
        assert (await answer_to(client, "GET", "/b/x"))[0] == 200


async def test_it_can_be_a_sub_application():
    """Under whatever prefix the application has for it (SPEC P-3)."""
    app = web.Application()
    app.add_subapp("/deep/down", aiohttp_app.application_of(Site("sub", "", ROUTES)))
    async with client_of(app) as client:
        assert await answer_to(client, "GET", "/deep/down") == (200, "<p>hello")
        assert (await answer_to(client, "GET", "/deep/down/echo/a"))[1]["path"] == "/echo/a"
        assert (await answer_to(client, "GET", "/deep/down/nowhere"))[1] == {"error": "there is nothing here"}


async def test_it_can_be_a_router_within_a_router():
    """Behind the prefix of ``include_router`` (SPEC P-3)."""
    outer = APIRouter()
    outer.include_router(fastapi_router.router_of(SITE), prefix="/deep")
    async with client_of(outer) as client:
        assert (await answer_to(client, "GET", "/deep/some/where/echo/a"))[1]["path"] == "/echo/a"


async def test_the_log_has_the_route_and_nothing_of_the_caller(client):
    """Neither path values, nor parameters, nor headers: an address or a token may be in them (SPEC O-3)."""
    with capture_logs() as lines:
        await answer_to(client, "GET", "/some/where/echo/a@b.c?user=a@b.c", headers={"x-mark": "token"})
        await answer_to(client, "GET", "/some/where/tok/en")
    assert [(line["event"], line["route"], line["status"]) for line in lines] == [
        ("request", "/echo/{name}", 200), ("request", "unknown", 404),
    ]  # fmt: skip
    assert not any(word in str(lines) for word in ("a@b.c", "token", "tok/en"))
