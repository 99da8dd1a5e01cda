"""The HTTP calls that every provider's adapter makes: one to send, one to ask.

Nothing here raises for what a network or a server does, and no URL, header or exception text ever leaves this
module: Telegram's token is a part of its URL.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias
from urllib.parse import urlencode

import aiohttp
import structlog
from yarl import URL

from alerts_engine.channels.retry_after import wait_from_headers
from alerts_engine.types import Retry, Uncertain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

log = structlog.get_logger("alerts_engine.channels")

JsonObject: TypeAlias = "Mapping[str, object]"

BODY_LIMIT = 64 * 1024
"""Bytes of an answer to a send that are read. The providers' answers have a few hundred."""

_LONG_TEXT = 256
"""Characters from which escaping a text costs more than finding it among those that were."""

_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    (aiohttp.ClientSSLError, "tls_error"),
    (aiohttp.ServerFingerprintMismatch, "tls_error"),
    (aiohttp.ClientConnectorError, "connection_error"),
    (aiohttp.ClientConnectionError, "connection_reset"),
    (aiohttp.InvalidURL, "invalid_request"),
    (aiohttp.ClientError, "unreadable_answer"),
    (OSError, "connection_reset"),
    # The HTTP library refused to write it: for example a line break inside a credential.
    (ValueError, "invalid_request"),
)
"""What went wrong, first match wins, and the code that ``last_error`` gets."""

_EXPECTED = tuple(kind for kind, _ in _FAILURES)

_BEFORE_WRITING = (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch, aiohttp.InvalidURL)
"""Raised before there is a connection: whatever else is known, nothing was written."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said, or somebody in its place."""

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


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """What kept an answer from coming."""

    error: str
    handed_over: bool
    """Whether a body was, or may have been, written."""


class _Body(aiohttp.BytesPayload):
    """A request's body that knows whether it began to be written: before that, nobody can have accepted anything.

    aiohttp's tracing would tell, too, at 20 to 40 µs more a call (measured with aiohttp 3.14).
    """

    is_told: ClassVar[bool] = True
    """Whether the library still writes bodies by these methods; if it once did not, nothing counts as unwritten."""

    begun = False

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.begun = True
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.begun = True
        await super().write_with_length(writer, content_length)

    def answered(self) -> None:
        """Somebody answered, so it must have been written."""
        if not self.begun and _Body.is_told:
            _Body.is_told = False
            log.error("writing_goes_unnoticed", hint="this version of aiohttp needs a newer alerts-engine")

    def may_have_left(self, error: Exception) -> bool:
        """Whether the request failed with ``error`` after its body began to be written, or may have."""
        return not isinstance(error, _BEFORE_WRITING) and (self.begun or not _Body.is_told)


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
) -> Answer | Retry | Uncertain:
    """Send one request, once, as JSON or as a form, and read its answer, all within ``timeout_seconds``.

    ``url`` is sent as it stands, so its parts must be quoted. Redirects are not followed: they would carry
    the message and the credentials to somebody else. Nor is it sent again when a kept connection turns out to
    be dead: aiohttp does that for methods like GET only. Whatever keeps an answer from coming is the outcome of
    the send, :class:`Retry` when it was not handed over and :class:`Uncertain` when it was, or may have been (SPEC
    C-6); only cancellation passes through.
    """
    try:
        body = _body(json_body, form)
    except ValueError:
        return Retry("invalid_request")
    answer = await _call(
        session, "POST", url, timeout_seconds=timeout_seconds, body=body, headers=headers, body_limit=BODY_LIMIT
    )
    if isinstance(answer, Answer):
        return answer
    return Uncertain(answer.error) if answer.handed_over else Retry(answer.error)


async def get(
    session: aiohttp.ClientSession,
    url: str,
    *,
    timeout_seconds: float,
    headers: Mapping[str, str],
    body_limit: int,
) -> Answer | NoAnswer:
    """Read one page of at most ``body_limit`` bytes within ``timeout_seconds``, by the rules of :func:`post`."""
    return await _call(
        session, "GET", url, timeout_seconds=timeout_seconds, body=None, headers=headers, body_limit=body_limit
    )


def _body(json_body: JsonObject | None, form: Mapping[str, str] | None) -> _Body:
    if form is not None:
        return _Body(urlencode(form).encode(), content_type="application/x-www-form-urlencoded")
    return _Body(_json_bytes(json_body or {}), content_type="application/json")


def _json_bytes(fields: JsonObject) -> bytes:
    """JSON, its long texts last. One alert goes to many users, and they are escaped once."""
    texts = {name: text for name, text in fields.items() if isinstance(text, str) and len(text) > _LONG_TEXT}
    others = json.dumps({name: value for name, value in fields.items() if name not in texts} if texts else fields)
    if not texts:
        return others.encode()
    members = ", ".join(f"{json.dumps(name)}: {_json_text(text)}" for name, text in texts.items())
    return f"{others[:-1]}{', ' if len(others) > len('{}') else ''}{members}}}".encode()


@lru_cache(maxsize=32)
def _json_text(text: str) -> str:
    return json.dumps(text)


async def _call(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    timeout_seconds: float,
    body: _Body | None,
    headers: Mapping[str, str] | None,
    body_limit: int,
) -> Answer | NoAnswer:
    if timeout_seconds <= 0:
        return NoAnswer("timeout", handed_over=False)
    try:
        # Not aiohttp's own timeout: that one rounds up, and takes zero for "none".
        async with (
            asyncio.timeout(timeout_seconds),
            session.request(
                method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            if body is not None:
                body.answered()
            content = _json_object(await _read(response, body_limit))
            return Answer(response.status, content is not None, content or {}, response.headers)
    except _EXPECTED as error:
        code = next(code for kind, code in _FAILURES if isinstance(error, kind))
        return NoAnswer(code, handed_over=body is not None and body.may_have_left(error))


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or nothing when it is longer than ``limit``; the rest is then never read."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            response.close()
            return b""
    return bytes(body)


def _json_object(body: bytes) -> JsonObject | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
