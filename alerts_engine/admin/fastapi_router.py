"""Sites in FastAPI: a router to include (extra ``fastapi``, SPEC P-3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.routing import Route

from alerts_engine.admin.exchange import Request, header_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from alerts_engine.admin.exchange import Answer
    from alerts_engine.admin.site import Site


def router_of(*sites: Site) -> APIRouter:
    """A router that serves the sites, each under its prefix, and behind that of ``include_router``."""
    router = APIRouter()
    for site in sites:
        # An ASGI application, not a function: every method goes through the site, which answers what is not allowed.
        for path in (site.prefix, site.prefix + "/{rest:path}"):
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
        query_string=request.url.query,
        headers=header_values(request.headers.items()),
        remote=request.client.host if request.client is not None else "",
        local=str(server[0]) if server else "",
    )


async def _body(request: StarletteRequest) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        return  # the answer is for nobody


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, "Content-Type": answer.content_type})
