"""Routes that belong together, and the way of every request through them: match, guard, read, handle, log (SPEC P-3).

The admin API is one site, the pages for readers are another; either binding serves any of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from alerts_engine.admin.bodies import read_body
from alerts_engine.admin.exchange import Answer, HttpError, Request, error_answer
from alerts_engine.errors import (
    AlertsEngineError,
    AmbiguousError,
    DatabaseUnreachableError,
    LockTimeoutError,
    NotFoundError,
    NotOpenError,
    StatementTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    Handler = Callable[[Request], Awaitable[Answer]]

log = structlog.get_logger("alerts_engine.admin")

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
"""What every answer has, unless it says otherwise itself: a page has a policy of its own."""
_STATUSES: tuple[tuple[type[AlertsEngineError], HTTPStatus], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (AmbiguousError, HTTPStatus.CONFLICT),
    (DatabaseUnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (NotOpenError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StatementTimeoutError, HTTPStatus.SERVICE_UNAVAILABLE),
    (LockTimeoutError, HTTPStatus.SERVICE_UNAVAILABLE),
)


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` begins behind the prefix; ``{name}`` in it is one segment, found in :attr:`Request.path_values`.

    A GET route answers HEAD as well.
    """

    method: str
    path: str
    handler: Handler
    open: bool = False
    """For the guard: it holds nothing that needs a token."""
    bearer: bool = False
    """For the guard: the token may come as a bearer as well."""

    def values_of(self, path: str) -> dict[str, str] | None:
        """The values in ``path``, if it is this route's."""
        wanted, given = self.path.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        values: dict[str, str] = {}
        for pattern, segment in zip(wanted, given, strict=True):
            if pattern.startswith("{"):
                if not segment:
                    return None
                values[pattern.strip("{}")] = segment
            elif pattern != segment:
                return None
        return values


async def admit(request: Request, route: Route | None) -> None:
    """The guard of a site that is open to everybody."""


def unexplained(error: AlertsEngineError) -> str:  # noqa: ARG001
    """What strangers are told of an error."""
    return "something went wrong; try again later"


@dataclass(frozen=True, slots=True)
class Site:
    """Routes under one prefix, where whatever has no route is answered by the site as well.

    ``guard`` comes before everything else, also before the body is read and before a path is known to be missing; it
    raises :class:`HttpError`. ``explain`` says in words what went wrong in the engine, and ``error`` makes an answer
    of a status and words: JSON, unless the site is for people.
    """

    name: str
    prefix: str
    routes: tuple[Route, ...]
    guard: Callable[[Request, Route | None], Awaitable[None]] = admit
    explain: Callable[[AlertsEngineError], str] = unexplained
    error: Callable[[int, str, Mapping[str, str]], Answer] = error_answer
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)
    largest_body: int = 64 * 1024
    body_seconds: float = 10.0

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        """Answer one request; nothing that goes wrong leaves this but as an answer."""
        began = time.monotonic()
        route, values = self._match(request)
        try:
            found = await self._handle(replace(request, path_values=values), route, body)
        except HttpError as error:
            found = self.error(error.status, error.message, error.headers)
        except AlertsEngineError as error:
            found = self.error(_status_of(error), self.explain(error), {})
        except Exception as error:  # its text may hold what must not be shown
            log.error("request_broke", site=self.name, error=type(error).__name__)
            log.debug("request_broke_at", exc_info=True)
            found = self.error(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected error, which is a bug: the log has it", {})
        self._log(request, route, found, began)
        return found.having(self.headers)

    async def _handle(self, request: Request, route: Route | None, body: AsyncIterator[bytes]) -> Answer:
        await self.guard(request, route)
        if route is None:
            raise self._missing(request)
        length = request.headers.get("content-length")
        read = await read_body(body, length, most=self.largest_body, seconds=self.body_seconds)
        return await route.handler(replace(request, body=read))

    def _match(self, request: Request) -> tuple[Route | None, dict[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method
        for route in self.routes:
            values = route.values_of(request.path) if route.method == method else None
            if values is not None:
                return route, values
        return None, {}

    def _missing(self, request: Request) -> HttpError:
        methods = sorted({route.method for route in self.routes if route.values_of(request.path) is not None})
        if not methods:
            return HttpError(HTTPStatus.NOT_FOUND, "there is nothing here")
        allowed = ", ".join(methods)
        return HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allowed} is allowed here", {"Allow": allowed})

    def _log(self, request: Request, route: Route | None, answer: Answer, began: float) -> None:
        """The route, not the path; neither parameters nor headers: an address or a token may be among them."""
        log.info(
            "request",
            site=self.name,
            method=request.method if route is not None else "?",
            route=route.path if route is not None else "unknown",
            status=int(answer.status),
            milliseconds=round(1000 * (time.monotonic() - began), 1),
        )


def _status_of(error: AlertsEngineError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
