"""The sandbox's own pages: the inbox, and the API by which other processes read and steer it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from alerts_engine.sandbox.faults import Fault, FaultError
from alerts_engine.sandbox.inbox import inbox_page
from alerts_engine.sandbox.model import Attempt, SandboxMessage
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from alerts_engine.sandbox.faults import Faults
    from alerts_engine.sandbox.mailbox import Mailbox

_A_YEAR = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Advance:
    seconds: Annotated[float, Field(ge=0, le=_A_YEAR, allow_inf_nan=False)]


_ADVANCE = TypeAdapter(_Advance)
_MESSAGE_FIELDS = tuple(field.name for field in fields(SandboxMessage))
_ATTEMPT_FIELDS = tuple(field.name for field in fields(Attempt))
_MESSAGE_FILTERS = frozenset({"channel", "destination", "since", "before", "limit"})
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Control:
    """``/``, ``/healthz`` and ``/api``; nothing here counts as a provider's call."""

    def __init__(
        self, mailbox: Mailbox, faults: Faults, clear: Callable[[], None], settings: Callable[[], Mapping[str, str]]
    ) -> None:
        self._mailbox = mailbox
        self._faults = faults
        self._clear = clear
        self._settings = settings
        self._page = inbox_page()
        self._page_headers = {**_SAFE_HEADERS, **_page_policy(self._page)}

    def routes(self) -> list[web.RouteDef]:
        """All paths that are not a provider's."""
        return [
            web.get("/", self._inbox),
            web.get("/healthz", self._healthz),
            web.get("/api/settings", self._show_settings),
            web.get("/api/messages", self._list_messages),
            web.delete("/api/messages", self._clear_messages),
            web.get("/api/attempts", self._list_attempts),
            web.get("/api/faults", self._list_faults),
            web.post("/api/faults", self._add_fault),
            web.delete("/api/faults", self._clear_faults),
            web.post("/api/clock", self._advance_clock),
        ]

    async def _inbox(self, _: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html", headers=self._page_headers)

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _show_settings(self, _: web.Request) -> web.Response:
        """What points the engine here, made-up keys and all."""
        return _json({"settings": self._settings()})

    async def _list_messages(self, request: web.Request) -> web.Response:
        """``channel``, ``destination``, ``since`` and ``before`` (messages' numbers); ``limit``: how many.

        The newest come. ``total`` and ``channels`` count what is kept, ``dropped`` what made room for it.
        """
        query = request.query
        unknown = sorted(query.keys() - _MESSAGE_FILTERS)
        if unknown:
            return _bad_request(f"{unknown[0]}: unknown parameter")
        channel = query.get("channel")
        if channel is not None and channel not in set(Channel):
            return _bad_request(f"channel: one of {', '.join(Channel)}")
        try:
            since, before, limit = (_number(query.get(name), name) for name in ("since", "before", "limit"))
        except ValueError as error:
            return _bad_request(str(error))
        messages = self._mailbox.newest(
            channel=channel, destination=query.get("destination"), since=since or 0, before=before, limit=limit
        )
        kept = self._mailbox.messages
        return _json(
            {
                "total": len(kept),
                "oldest": next((message.number for message in kept), None),
                "dropped": kept.dropped,
                "channels": Counter(message.channel for message in kept),
                "messages": [_fields_of(message, _MESSAGE_FIELDS) for message in messages],
            }
        )

    async def _clear_messages(self, _: web.Request) -> web.Response:
        self._clear()
        return web.Response(status=204)

    async def _list_attempts(self, request: web.Request) -> web.Response:
        """``limit``: how many of the newest."""
        try:
            limit = _number(request.query.get("limit"), "limit")
        except ValueError as error:
            return _bad_request(str(error))
        newest = list(islice(reversed(self._mailbox.attempts), limit))[::-1]
        attempts = [_fields_of(attempt, _ATTEMPT_FIELDS) for attempt in newest]
        return _json({"requests": self._mailbox.requests, "attempts": attempts})

    async def _list_faults(self, _: web.Request) -> web.Response:
        return _json({"faults": [fault.as_json() for fault in self._faults.list]})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = Fault.from_json(await request.read())
            self._faults.add(fault)
        except FaultError as error:
            return _bad_request(str(error))
        return _json(fault.as_json(), status=201)

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def _advance_clock(self, request: web.Request) -> web.Response:
        """``seconds``: idempotency keys and messages are older by so much."""
        try:
            seconds = _ADVANCE.validate_json(await request.read()).seconds
        except ValidationError:
            return _bad_request("seconds: a number from 0 to a year's")
        self._mailbox.clock.advance(seconds)
        return _json({"now": self._mailbox.clock.now().isoformat()})


def _json(payload: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(payload).encode(),
        content_type="application/json",
        headers=_SAFE_HEADERS,
    )


def _bad_request(problem: str) -> web.Response:
    return _json({"error": problem}, status=400)


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"{name}: a whole number, 0 or more")
    return int(text)


def _fields_of(record: SandboxMessage | Attempt, names: tuple[str, ...]) -> dict[str, object]:
    values = ((name, getattr(record, name)) for name in names)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values}


def _page_policy(page: str) -> dict[str, str]:
    """Only the page's own script may run, and nothing may be loaded from elsewhere.

    Inline styles are allowed because an email's HTML lives by them, and its frame inherits the policy.
    """
    scripts = (script.encode() for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    hashes = (f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
    policy = (
        "default-src 'none'",
        f"script-src {' '.join(hashes)}",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
