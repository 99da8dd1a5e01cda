"""Sites in aiohttp.web: an application of their own, a sub-application, or part of one (SPEC P-3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import ClientError, web

from alerts_engine.admin.admin_site import PREFIX, admin_site
from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.admin.exchange import Request, header_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from alerts_engine.admin.exchange import Answer
    from alerts_engine.admin.site import Site
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.settings import Settings


def create_app(
    settings: Settings | None = None,
    *,
    engine: AlertsEngine | Callable[[], AlertsEngine] | None = None,
    prefix: str = PREFIX,
    allowed_hosts: Iterable[str] | None = None,
) -> web.Application:
    """The admin API and the dashboard, under ``prefix``; as a sub-application, give the prefix ``""`` (SPEC P-3).

    ``engine``: the application's own, or what returns it once it is made. Without one there is one on ``settings``, or
    on the environment's; it connects when it is first asked, and is closed with the application. ``allowed_hosts``:
    what the Host header may say besides this machine's own names; not checked unless given.
    """
    source = EngineSource(engine, settings)
    app = application_of(admin_site(source, prefix, allowed_hosts))

    async def closing(_: web.Application) -> None:
        await source.close()

    app.on_cleanup.append(closing)
    return app


def application_of(*sites: Site) -> web.Application:
    """An application that serves the sites, each under its prefix."""
    app = web.Application()
    for site in sites:
        add_site(app, site)
    return app


def add_site(app: web.Application, site: Site) -> None:
    """Serve ``site`` in ``app``, under its prefix; with the prefix ``""`` all of ``app`` is the site's."""
    handler = _handler_of(site)
    app.router.add_route("*", site.prefix, handler)
    app.router.add_route("*", site.prefix + "/{rest:(?s:.*)}", handler)


def _handler_of(site: Site) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return _response(await site.answer(_request(request), _body(request)))

    return handle


def _request(request: web.Request) -> Request:
    rest = request.match_info.get("rest")
    local = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return Request(
        method=request.method,
        path="" if rest is None else f"/{rest}",
        url_path=request.rel_url.raw_path,
        query_string=request.rel_url.raw_query_string,
        headers=header_values(request.headers.items()),
        remote=request.remote or "",
        local=str(local[0]) if isinstance(local, tuple) else "",
    )


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except (ConnectionError, ClientError, web.RequestPayloadError):
        return  # the client has gone, or sent what is no body: the answer is for nobody


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body, headers={**answer.headers, "Content-Type": answer.content_type}
    )
