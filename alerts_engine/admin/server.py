"""The admin site on a port of its own: what ``alerts-engine serve`` runs (SPEC section 11)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from alerts_engine.admin.access import AdminGuard
from alerts_engine.admin.admin_site import PREFIX, admin_site
from alerts_engine.admin.aiohttp_app import add_site
from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.admin.exchange import Answer
from alerts_engine.admin.site import Route, Site
from alerts_engine.errors import AlertsEngineError
from alerts_engine.same_site import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from alerts_engine.admin.exchange import Request
    from alerts_engine.engine import AlertsEngine

log = structlog.get_logger("alerts_engine.admin")
_CLOSE_SECONDS = 2.0
_IDLE_SECONDS = 30.0
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound to
_PUBLIC = "the token crosses the network in clear: put a proxy with TLS before it, or use --host 127.0.0.1 and a tunnel"


class ServeAddressError(AlertsEngineError):
    """The server cannot listen there: the port is taken, or the host is not this machine's."""


@asynccontextmanager
async def serve_admin(
    engine: AlertsEngine,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    allowed_hosts: Iterable[str] = (),
    also: Iterable[Site] = (),
) -> AsyncIterator[str]:
    """Serve until the block ends, and yield the page's address; port 0 takes a free one.

    Besides ``host`` and the names and addresses of the machine itself, clients may call it by ``allowed_hosts``.
    ``also``: more sites, such as the readers' page, with guards of their own. Raises :class:`ServeAddressError`.
    """
    source = EngineSource(engine)
    names = (*(() if host in _EVERY_INTERFACE else (host,)), *allowed_hosts)
    app = web.Application()
    add_site(app, admin_site(source, allowed_hosts=names))
    for site in also:
        add_site(app, site)
    roots = tuple(Route("GET", path, _to_the_page, open=True) for path in ("", "/"))
    add_site(app, Site("root", "", roots, guard=AdminGuard(source, names)))
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=_CLOSE_SECONDS,
        keepalive_timeout=_IDLE_SECONDS,
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        yield await _listen(runner, host, port)
    finally:
        await runner.cleanup()


async def _to_the_page(_: Request) -> Answer:
    return Answer(HTTPStatus.TEMPORARY_REDIRECT, headers={"Location": f"{PREFIX}/"})


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeAddressError(
            f"cannot listen on {host}:{port} ({reason}): choose another --port or --host"
        ) from error
    addresses = [str(address[0]) for address in runner.addresses]
    if not all(map(is_loopback, addresses)):
        log.warning("serve_is_public", listens_on=addresses, hint=_PUBLIC)
    name = _EVERY_INTERFACE.get(host, host).strip("[]")
    return f"http://{f'[{name}]' if ':' in name else name}:{runner.addresses[0][1]}{PREFIX}/"
