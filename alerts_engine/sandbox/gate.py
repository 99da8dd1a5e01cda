"""Which requests come in: those that are meant for the sandbox, and no web page's but its own.

A web page that the user happens to visit can make the browser call this machine. It can do so under a name of its own
that leads here (DNS rebinding), and then read everything; or across sites, and then change something unread.
"""

from __future__ import annotations

import ipaddress
import json
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_CHANGES_NOTHING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
_OWN_PAGE = frozenset({"same-origin", "none"})


class Gate:
    """Refuses with 421 what is addressed to somebody else, with 403 what another site's page would change."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(map(_bare, names))

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
        if len(hosts) != 1 or not self._is_ours(hosts[0], _local_address(request)):
            return _refuse(421, "the Host header names somebody else: --allow-host admits another name of this machine")
        if request.method not in _CHANGES_NOTHING and _is_of_another_site(request, hosts[0]):
            return _refuse(403, "a page of another site may not change anything here")
        return None

    def _is_ours(self, host: str, local: str) -> bool:
        name = _name_in(host)
        return name in self._names or _is_this_machine(name) or name == local


def is_loopback(name: str) -> bool:
    """Whether it is an address that only this machine reaches."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@lru_cache(maxsize=256)
def _is_this_machine(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def _local_address(request: web.Request) -> str:
    """Where the connection arrived, of the addresses that this machine has."""
    if request.transport is None:
        return ""
    address = str(request.transport.get_extra_info("sockname")[0])
    return address.removeprefix("::ffff:")


@lru_cache(maxsize=256)
def _name_in(host: str) -> str:
    """The name in ``name:port``; empty when it is neither."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port
    except ValueError:
        return ""
    return "" if found.netloc != host or "@" in host else _bare(found.hostname or "")


def _bare(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")


def _is_of_another_site(request: web.Request, host: str) -> bool:
    """Browsers say where a request comes from; nobody else does, and pages cannot keep them from it."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
    own = (f"http://{host}".lower(), f"https://{host}".lower())
    return (site is not None and site not in _OWN_PAGE) or (origin is not None and origin.lower() not in own)


def _refuse(status: int, problem: str) -> web.Response:
    return web.Response(status=status, body=json.dumps({"error": problem}).encode(), content_type="application/json")
