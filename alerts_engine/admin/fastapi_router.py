"""Sites in FastAPI: a router to include (extra ``fastapi``, SPEC P-3)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.routing import Route

from alerts_engine.admin.admin_site import PREFIX, admin_site
from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.admin.exchange import Request, header_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Receive, Scope, Send

    from alerts_engine.admin.exchange import Answer
    from alerts_engine.admin.site import Site
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.settings import Settings


class _Rest(PathConvertor):
    """Starlette's own one for paths leaves those with a line break in them to somebody else."""

    regex = "(?s:.*)"


register_url_convertor("alerts_engine_rest", _Rest())


def create_router(
    settings: Settings | None = None,
    *,
    engine: AlertsEngine | Callable[[], AlertsEngine] | None = None,
    prefix: str = PREFIX,
    allowed_hosts: Iterable[str] | None = None,
) -> APIRouter:
    """The admin API and the dashboard, under ``prefix``: ``app.include_router(create_router(…))`` (SPEC P-3).

    ``engine``: the application's own, or what returns it once it is made. Without one there is one on ``settings``, or
    on the environment's; it connects when it is first asked, and is closed with the application. ``allowed_hosts``:
    what the Host header may say besides this machine's own names; not checked unless given.
    """
    source = EngineSource(engine, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await source.close()

    return router_of(admin_site(source, prefix, allowed_hosts), lifespan=lifespan)


def router_of(
    *sites: Site, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> APIRouter:
    """A router that serves the sites, each under its prefix, and behind that of ``include_router``."""
    router = APIRouter(lifespan=lifespan)
    for site in sites:
        # An ASGI application, not a function: every method goes through the site, which answers what is not allowed.
        for path in (site.prefix, site.prefix + "/{rest:alerts_engine_rest}"):
            if path:
                router.routes.append(Route(path, endpoint=_SiteApp(site), include_in_schema=False))
    return router


class _SiteApp:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = StarletteRequest(scope, receive)
        answer = await self._site.answer(_request(request), _body(request))
        await _response(answer)(scope, receive, send)


def _request(request: StarletteRequest) -> Request:
    rest = request.path_params.get("rest")
    server = request.scope.get("server")
    return Request(
        method=request.method,
        path="" if rest is None else f"/{rest}",
        url_path=quote(request.url.path),
        query_string=request.url.query,
        headers=header_values((_text(name), _text(value)) for name, value in request.headers.raw),
        remote=request.client.host if request.client is not None else "",
        local=str(server[0]) if server else "",
    )


def _text(raw: bytes) -> str:
    """As aiohttp reads a header, so that a token with an umlaut is the same in both."""
    return raw.decode("utf-8", "surrogateescape")


async def _body(request: StarletteRequest) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        return  # the answer is for nobody


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, "Content-Type": answer.content_type})
