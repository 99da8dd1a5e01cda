"""The one HTTP call that every provider's adapter makes.

Nothing here raises for what a network or a server does, and no URL, header or exception text ever leaves this
module: Telegram's token is a part of its URL.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import aiohttp
from yarl import URL

from alerts_engine.channels.retry_after import wait_from_headers
from alerts_engine.types import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonObject: TypeAlias = "Mapping[str, object]"

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are read. The providers' answers have a few hundred."""

_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timeout"),
    # The connection was never made: the provider knows nothing of the message.
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    (aiohttp.ClientSSLError, "tls_error"),
    (aiohttp.ServerFingerprintMismatch, "tls_error"),
    (aiohttp.ClientConnectorError, "connection_error"),
    # It broke off later: the provider may have accepted the message.
    (aiohttp.ClientConnectionError, "connection_reset"),
    (aiohttp.InvalidURL, "invalid_request"),
    (aiohttp.ClientError, "unreadable_answer"),
    (OSError, "connection_reset"),
    # The HTTP library refused to write it: for example a line break inside a credential.
    (ValueError, "invalid_request"),
)
"""What went wrong, first match wins, and the code that ``last_error`` gets."""

_EXPECTED = tuple(kind for kind, _ in _FAILURES)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said."""

    status: int
    readable: bool = True
    """Whether the body was a JSON object of a sane size."""
    body: JsonObject = field(default_factory=dict, repr=False)
    """Empty when not readable."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the status is one of success."""
        return self.status // 100 == 2  # noqa: PLR2004  the class of the HTTP status

    def wait(self, *, rate_limited: bool) -> float | None:
        """Seconds that the headers ask to wait, if they do (SPEC C-8)."""
        return wait_from_headers(self.headers, now=datetime.now(UTC), rate_limited=rate_limited)


def create_session(*, connections: int = 100) -> aiohttp.ClientSession:
    """The one session that all adapters share; call it in a running loop and close it at the end.

    ``connections`` should not be below the number of sends in flight: a send that waits for a connection does
    so on its own timeout. Certificates are verified, cookies dropped, the environment's proxies ignored.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=300),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "alerts-engine", "Accept": "application/json"},
        trust_env=False,
    )


async def post(
    session: aiohttp.ClientSession,
    url: str,
    *,
    timeout_seconds: float,
    json_body: JsonObject | None = None,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer | Retry:
    """Send one request, once, as JSON or as a form, and read its answer, all within ``timeout_seconds``.

    ``url`` is sent as it stands, so its parts must be quoted. Redirects are not followed: they would carry
    the message and the credentials to somebody else. Whatever keeps an answer from coming is a
    :class:`Retry` (SPEC C-6); only cancellation passes through.
    """
    try:
        # Not aiohttp's own timeout: that one rounds up, and takes zero for "none".
        async with (
            asyncio.timeout(timeout_seconds),
            session.post(
                URL(url, encoded=True),
                json=json_body,
                data=form,
                headers=headers,
                allow_redirects=False,
            ) as response,
        ):
            body = _json_object(await _read(response))
            return Answer(response.status, body is not None, body or {}, response.headers)
    except _EXPECTED as error:
        return Retry(next(code for kind, code in _FAILURES if isinstance(error, kind)))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or nothing when it is longer than :data:`BODY_LIMIT`; the rest is then never read."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            response.close()
            return b""
    return bytes(body)


def _json_object(body: bytes) -> JsonObject | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
