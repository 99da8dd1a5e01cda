"""The Telegram Bot API's ``POST /bot{token}/sendMessage``."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qsl

from alerts_engine.sandbox.model import Acceptance, Provider, RefusedError, Submission, json_answer
from alerts_engine.sandbox.rules import ProviderRules, json_object
from alerts_engine.sandbox.telegram_html import MarkupError, length, plain_text
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.sandbox.model import Answer, Call
    from alerts_engine.sandbox.rules import UsualErrors

MAX_LENGTH = 4096
"""Of a text after parsing, in UTF-16 code units."""

_TOKEN = re.compile(r"[0-9]{1,20}:[\w-]+", re.ASCII)
_CHAT = re.compile(r"-?[1-9][0-9]{0,15}|@[A-Za-z]\w{3,31}", re.ASCII)
_PARSE_MODES = frozenset({"", "html", "markdown", "markdownv2"})


class Telegram(ProviderRules):
    """Telegram has no idempotency keys: every accepted call is one more message in the chat.

    Only ``parse_mode=HTML`` is parsed; a text in one of the Markdown modes is kept as it was sent.
    """

    provider = Provider.TELEGRAM
    usual_errors: ClassVar[UsualErrors] = {
        400: (None, "Bad Request: chat not found"),
        401: (None, "Unauthorized"),
        403: (None, "Forbidden: bot was blocked by the user"),
        404: (None, "Not Found"),
        409: (None, "Conflict: terminated by other getUpdates request"),
        413: (None, "Request Entity Too Large"),
        429: (None, "Too Many Requests"),
        500: (None, "Internal Server Error"),
        502: (None, "Bad Gateway"),
        504: (None, "Gateway Timeout"),
    }

    def __init__(self, bot_token: str) -> None:
        super().__init__()
        self._bot_token = bot_token
        self._bot = bot_token.partition(":")[0]

    def read(self, call: Call) -> Submission:
        fields = _fields(call)
        chat = str((fields or {}).get("chat_id") or "")
        call.destination = chat or None
        self.authenticate(call)
        if fields is None:
            raise _bad_request("strings must be encoded in UTF-8, objects in JSON")
        if not chat:
            raise _bad_request("chat_id is empty")
        if not _CHAT.fullmatch(chat):
            raise _bad_request("chat not found")
        text = fields.get("text")
        if not isinstance(text, str) or not text:
            raise _bad_request("message text is empty")
        is_html = _parse_mode(fields) == "html"
        return Submission(
            channel=Channel.TELEGRAM,
            destination=chat,
            sender=f"bot{self._bot}",
            html=text if is_html else None,
            text=_readable(text, is_html=is_html),
            silent=fields.get("disable_notification") in (True, "true", "True"),
        )

    def accept(self, submission: Submission, number: int, /) -> Acceptance:
        result = {
            "message_id": number,
            "from": {"id": int(self._bot), "is_bot": True, "first_name": "Sandbox"},
            "chat": _chat(submission.destination),
            "date": int(time.time()),
            "text": submission.text,
        }
        return Acceptance(str(number), json_answer(200, {"ok": True, "result": result}))

    def refuse(self, refused: RefusedError) -> Answer:
        body: dict[str, object] = {
            "ok": False,
            "error_code": refused.status,
            "description": refused.message,
        }
        headers, parameters = {}, {}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(refused.retry_after)
            parameters["retry_after"] = refused.retry_after
        if refused.migrate_to_chat_id is not None:
            parameters["migrate_to_chat_id"] = refused.migrate_to_chat_id
        if parameters:
            body["parameters"] = parameters
        return json_answer(refused.status, body, headers)

    def usual_error(self, status: int, code: str | int | None = None) -> RefusedError:
        """Telegram has no codes beside the status: ``code`` is the description."""
        usual = super().usual_error(status)
        return usual if code is None else RefusedError(status, None, str(code))

    def authenticate(self, call: Call) -> None:
        token = call.path["token"]
        if not _TOKEN.fullmatch(token):
            raise self.usual_error(404)
        if token != self._bot_token:
            raise self.usual_error(401)
        if call.path["method"].lower() != "sendmessage":
            raise self.usual_error(404)


def _fields(call: Call) -> Mapping[str, object] | None:
    """The parameters, sent as JSON or as a form; ``None`` when they cannot be read."""
    if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json":
        return json_object(call.body)
    try:
        return dict(parse_qsl(call.body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError:
        return None


def _bad_request(reason: str) -> RefusedError:
    return RefusedError(400, None, f"Bad Request: {reason}")


def _parse_mode(fields: Mapping[str, object]) -> str:
    mode = str(fields.get("parse_mode") or "").lower()
    if mode not in _PARSE_MODES:
        raise _bad_request("unsupported parse_mode")
    return mode


def _readable(text: str, *, is_html: bool) -> str:
    """The text after parsing, within Telegram's limits."""
    try:
        parsed = plain_text(text) if is_html else text
    except MarkupError as error:
        raise _bad_request(f"can't parse entities: {error}") from error
    if not parsed.strip():
        raise _bad_request("text must be non-empty")
    if length(parsed) > MAX_LENGTH:
        raise _bad_request("message is too long")
    return parsed


def _chat(destination: str) -> dict[str, object]:
    if destination.startswith("@"):
        return {"id": -1001000000000, "type": "channel", "username": destination[1:]}
    kind = "private" if int(destination) > 0 else "group"
    return {"id": int(destination), "type": "supergroup" if destination.startswith("-100") else kind}
