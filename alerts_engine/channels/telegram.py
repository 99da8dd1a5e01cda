"""Telegram by its Bot API: ``POST /bot<token>/sendMessage``; the token makes the URL a secret."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from alerts_engine.channels.credential_check import Verdict, by_status, check_by
from alerts_engine.channels.envelopes import INVALID_DESTINATION, can_be_addressed, message_in
from alerts_engine.channels.http import Answer, JsonObject, post
from alerts_engine.channels.outcomes import ANY, Meaning, OutcomeTable, refused, sent, unreadable
from alerts_engine.channels.retry_after import wait_from_seconds
from alerts_engine.types import (
    CannotTell,
    Channel,
    DownCause,
    Envelope,
    Outcome,
    Retry,
    SendResult,
    TelegramMessage,
    Uncertain,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import ClientSession
    from pydantic import SecretStr

    from alerts_engine.channels.credential_check import CredentialCheck
    from alerts_engine.types import AskAnswer, Question

OUTCOMES = OutcomeTable(
    "telegram",
    None,
    {
        (400, ANY): Meaning.PERMANENT,
        (401, ANY): DownCause.AUTH_FAILED,
        (403, ANY): Meaning.PERMANENT,
        # The bot itself does not exist; an unknown chat is a 400.
        (404, ANY): DownCause.AUTH_FAILED,
        (429, ANY): Meaning.RATE_LIMITED,
        # "Bad Gateway" and "Gateway Timeout", though in Telegram's own form: the server behind it may have sent the
        # message, and repeats after them were seen to arrive twice.
        (502, ANY): Meaning.UNCERTAIN,
        (504, ANY): Meaning.UNCERTAIN,
    },
)
"""Telegram has no error codes but its ``error_code``, which is the status."""

_CHAT_ID_LIMIT = 2**63


class TelegramAdapter:
    """Sends one message to one chat a call. Telegram has no idempotency keys, and no history that could be read."""

    channel: Final = Channel.TELEGRAM
    provider: Final = OUTCOMES.provider
    key_life: Final = None
    can_ask: Final = False

    def __init__(self, session: ClientSession, *, base_url: str, bot_token: SecretStr, timeout_seconds: float) -> None:
        self._session = session
        self._base_url = base_url
        self._bot_token = bot_token
        self._timeout_seconds = timeout_seconds

    async def send(self, envelope: Envelope) -> SendResult:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`.

        A group that became a supergroup has a new id: the message goes there at once, within the same time
        limit and only one step far, and the result names the new id whatever comes of it (SPEC C-7).
        """
        message = message_in(envelope, TelegramMessage)
        if not can_be_addressed(envelope.destination):
            return INVALID_DESTINATION
        started = time.monotonic()
        body = _body(message, silent=envelope.silent)
        answer = await self._post(envelope.destination, body, self._timeout_seconds)
        new_chat = _migrated_to(answer)
        if new_chat is None or new_chat == envelope.destination:
            return SendResult(outcome_of(answer))
        left = self._timeout_seconds - (time.monotonic() - started)
        return SendResult(outcome_of(await self._post(new_chat, body, left)), destination_moved_to=new_chat)

    async def ask(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        return [CannotTell(f"{self.provider}_cannot_be_asked", refused=True)] * len(questions)

    async def check_credentials(self) -> CredentialCheck:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        return await check_by(
            self, self._session, self._method("getMe"), headers={}, timeout_seconds=self._timeout_seconds,
            verdict=_of_token, variables=("TELEGRAM_BOT_TOKEN",),
        )  # fmt: skip

    def _method(self, name: str) -> str:
        token = quote(self._bot_token.get_secret_value().strip(), safe=":")
        return f"{self._base_url}/bot{token}/{name}"

    async def _post(self, chat_id: str, body: JsonObject, timeout_seconds: float) -> Answer | Retry | Uncertain:
        url = self._method("sendMessage")
        return await post(self._session, url, json_body={"chat_id": chat_id, **body}, timeout_seconds=timeout_seconds)


def outcome_of(answer: Answer | Retry | Uncertain) -> Outcome:
    """What Telegram's answer means; it is a success only with ``ok``."""
    if not isinstance(answer, Answer):
        return answer
    if answer.accepted and answer.body.get("ok") is True:
        return sent(OUTCOMES, answer, _object(answer.body.get("result")).get("message_id"))
    status = _own_status(answer)
    if status is None:
        return unreadable(OUTCOMES, answer)
    wait = wait_from_seconds(_object(answer.body.get("parameters")).get("retry_after"))
    return refused(OUTCOMES, replace(answer, status=status), wait=wait)


def _body(message: TelegramMessage, *, silent: bool) -> JsonObject:
    body: dict[str, object] = {
        "text": message.text,
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    if silent:
        body["disable_notification"] = True
    return body


def _own_status(answer: Answer) -> int | None:
    """``error_code`` of a refusal in Telegram's own form: its word, while the HTTP status may be a gateway's."""
    match answer.body:
        case {"ok": False, "error_code": int(code)} if code // 100 in {4, 5}:
            return code
        case _:
            return None


def _migrated_to(answer: Answer | Retry | Uncertain) -> str | None:
    """The chat's new id, when the answer is the refusal that tells it."""
    if not isinstance(answer, Answer) or _own_status(answer) != 400:  # noqa: PLR2004  HTTP
        return None
    match _object(answer.body.get("parameters")).get("migrate_to_chat_id"):
        case bool():
            return None
        case int(chat_id) if 0 < abs(chat_id) < _CHAT_ID_LIMIT:
            return str(chat_id)
        case _:
            return None


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _of_token(status: int, body: JsonObject) -> Verdict:
    # To Telegram a token that is none is a path that is not there.
    if status == 404 and body.get("ok") is False:  # noqa: PLR2004  HTTP
        return Verdict.BAD
    return by_status("result")(status, body)
