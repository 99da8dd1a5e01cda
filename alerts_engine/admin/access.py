"""Who may use the admin API: whoever has the token, by no page but its own (SPEC P-2)."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING

from alerts_engine.admin.exchange import HttpError
from alerts_engine.same_site import bare_name, is_meant_for, is_of_another_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.exchange import Request
    from alerts_engine.admin.site import Route

TOKEN_HEADER = "x-internal-token"  # noqa: S105 - the header's name
_BEARER = "bearer "


class WrongTokens:
    """Counts wrong tokens by address: after ``burst`` of them one more try every ``seconds``.

    While an address has no try left it is refused whatever its token, since an answer would tell a right one from a
    wrong one. A missing token is no guess and does not count.
    """

    def __init__(
        self, burst: int = 10, seconds: float = 6.0, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._spent: OrderedDict[str, float] = OrderedDict()
        """By address, when all its tries will be there again."""

    def wait(self, address: str) -> float:
        """Seconds until the address may try again; 0: now."""
        until = self._spent.get(_network(address), 0.0) - self._clock()
        return max(0.0, until - (self._burst - 1) * self._seconds)

    def add(self, address: str) -> None:
        """It was wrong."""
        key, now = _network(address), self._clock()
        self._spent[key] = max(now, self._spent.pop(key, now)) + self._seconds
        while len(self._spent) > self._most:
            self._spent.popitem(last=False)


class AdminGuard:
    """Before every request of the admin site; raises :class:`HttpError`.

    ``names``: what the Host header may say besides this machine's own names and addresses; ``None``: anything, where
    the application around it takes care of that.
    """

    def __init__(
        self, source: EngineSource, names: Iterable[str] | None = None, wrong: WrongTokens | None = None
    ) -> None:
        self._source = source
        self._names = None if names is None else frozenset(map(bare_name, names))
        self._wrong = wrong or WrongTokens()

    async def __call__(self, request: Request, route: Route | None) -> None:
        secret = self._source.settings.internal_runner_token
        if secret is None:
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE, "the admin API is closed: INTERNAL_RUNNER_TOKEN is not set here"
            )
        self._check_site(request, route)
        if route is None or not route.open:
            self._check_token(request, route, secret.get_secret_value())

    def _check_site(self, request: Request, route: Route | None) -> None:
        host = request.headers.get("host", "")
        if self._names is not None and not is_meant_for(host, self._names, request.local):
            raise HttpError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "the Host header names somebody else: --allow-host admits another name of this machine",
            )
        if route is not None and route.open:
            return  # a link from elsewhere may lead to the page
        fetch_site = request.headers.get("sec-fetch-site")
        origin = request.headers.get("origin") if fetch_site is None else None
        if is_of_another_site(host, fetch_site, origin):
            raise HttpError(HTTPStatus.FORBIDDEN, "a page of another site may not ask for anything here")

    def _check_token(self, request: Request, route: Route | None, secret: str) -> None:
        wait = self._wrong.wait(request.remote)
        if wait > 0:
            raise HttpError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many wrong tokens came from this address; try again later",
                {"Retry-After": str(int(wait) + 1)},
            )
        given = _token_in(request, bearer=route is not None and route.bearer)
        if given is None:
            raise HttpError(HTTPStatus.UNAUTHORIZED, f"the header {TOKEN_HEADER} is missing")
        if not _equal(given, secret):
            self._wrong.add(request.remote)
            raise HttpError(HTTPStatus.UNAUTHORIZED, f"the token in {TOKEN_HEADER} is wrong")


def _token_in(request: Request, *, bearer: bool) -> str | None:
    given = request.headers.get(TOKEN_HEADER)
    if given is None and bearer:
        authorization = request.headers.get("authorization", "")
        if authorization.lower().startswith(_BEARER):
            return authorization[len(_BEARER) :].strip()
    return given


def _equal(given: str, secret: str) -> bool:
    """In a time that tells nothing, of their lengths neither."""
    return hmac.compare_digest(*(sha256(one.encode("utf-8", "surrogateescape")).digest() for one in (given, secret)))


def _network(address: str) -> str:
    """Whoever has one IPv6 address has 2^64 of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address  # noqa: PLR2004
