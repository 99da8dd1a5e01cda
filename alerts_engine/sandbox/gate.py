"""Which requests come in: those that are meant for the sandbox, and no web page's but its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from alerts_engine.same_site import bare_name, is_loopback, is_meant_for, is_of_another_site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Gate", "is_loopback"]

_CHANGES_NOTHING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})


class Gate:
    """Refuses with 421 what is addressed to somebody else, with 403 what another site's page would change."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(map(bare_name, names))

    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """What stands before every handler."""

        @web.middleware
        async def look(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return self._refusal(request) or await handler(request)

        return look

    def _refusal(self, request: web.Request) -> web.Response | None:
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 or not is_meant_for(hosts[0], self._names, _local_address(request)):
            return _refuse(421, "the Host header names somebody else: --allow-host admits another name of this machine")
        if request.method not in _CHANGES_NOTHING and is_of_another_site(
            hosts[0], request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
        ):
            return _refuse(403, "a page of another site may not change anything here")
        return None


def _local_address(request: web.Request) -> str:
    """Where the connection arrived, of the addresses that this machine has."""
    return "" if request.transport is None else str(request.transport.get_extra_info("sockname")[0])


def _refuse(status: int, problem: str) -> web.Response:
    return web.Response(status=status, body=json.dumps({"error": problem}).encode(), content_type="application/json")
