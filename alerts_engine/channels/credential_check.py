"""Whether a provider takes our credentials: a question that sends nothing and changes nothing (SPEC R-1)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

from alerts_engine.channels.http import NoAnswer, get
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import ClientSession
    from pydantic import SecretStr

    from alerts_engine.settings import Settings

_LARGEST_ANSWER = 1024 * 1024
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404


class Verdict(StrEnum):
    """What the provider says of the credentials."""

    GOOD = "good"
    BAD = "bad"
    NOT_ALLOWED = "not_allowed"
    """They are known, but may not ask this: a key that may only send, for example."""
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class CredentialCheck:
    """What became of the question to one provider."""

    channel: str
    provider: str
    verdict: Verdict
    variables: tuple[str, ...]
    """Those to look at."""
    detail: str
    """What happened, in a word that holds nothing secret: the status, or why there was no answer."""


@dataclass(frozen=True, slots=True)
class _Question:
    channel: Channel
    provider: str
    variables: tuple[str, ...]
    url: str
    verdict: Callable[[int, Mapping[str, object]], Verdict]
    headers: Mapping[str, str]


async def check_credentials(settings: Settings, session: ClientSession) -> list[CredentialCheck]:
    """Ask each provider that is configured, side by side. Never raises for what a network or a server does."""
    questions = [question for ask in _QUESTIONS if (question := ask(settings)) is not None]
    return await asyncio.gather(*(_answer(one, session, settings.send_timeout_seconds) for one in questions))


async def _answer(question: _Question, session: ClientSession, timeout_seconds: float) -> CredentialCheck:
    found = await get(
        session,
        question.url,
        timeout_seconds=timeout_seconds,
        headers=question.headers,
        body_limit=_LARGEST_ANSWER,
    )
    if isinstance(found, NoAnswer):
        verdict, detail = Verdict.NO_ANSWER, found.error
    else:
        verdict, detail = question.verdict(found.status, found.body), f"HTTP {found.status}"
    return CredentialCheck(question.channel, question.provider, verdict, question.variables, detail)


# --- the providers ------------------------------------------------------------------------------------------------


def _brevo(settings: Settings) -> _Question | None:
    if settings.email_provider != "brevo" or settings.brevo_api_key is None:
        return None
    headers = {"api-key": _clear(settings.brevo_api_key)}
    url = f"{settings.brevo_base_url}/v3/account"
    return _Question(Channel.EMAIL, "brevo", ("BREVO_API_KEY",), url, _by_status("email"), headers)


def _resend(settings: Settings) -> _Question | None:
    if settings.email_provider != "resend" or settings.resend_api_key is None:
        return None
    headers = {"Authorization": f"Bearer {_clear(settings.resend_api_key)}"}
    url = f"{settings.resend_base_url}/domains"
    return _Question(Channel.EMAIL, "resend", ("RESEND_API_KEY",), url, _of_resend, headers)


def _of_resend(status: int, body: Mapping[str, object]) -> Verdict:
    # A key that may only send says so by this name, with the status of a bad one; and a bad one has the status 403.
    if status in {_UNAUTHORIZED, _FORBIDDEN} and body.get("name"):
        return Verdict.NOT_ALLOWED if body["name"] == "restricted_api_key" else Verdict.BAD
    return _by_status("data")(status, body)


def _telegram(settings: Settings) -> _Question | None:
    if settings.telegram_bot_token is None:
        return None
    url = f"{settings.telegram_base_url}/bot{quote(_clear(settings.telegram_bot_token), safe=':')}/getMe"
    return _Question(Channel.TELEGRAM, "telegram", ("TELEGRAM_BOT_TOKEN",), url, _of_telegram, {})


def _of_telegram(status: int, body: Mapping[str, object]) -> Verdict:
    # To Telegram a token that is none is a path that is not there.
    if status == _NOT_FOUND and body.get("ok") is False:
        return Verdict.BAD
    return _by_status("result")(status, body)


def _twilio(settings: Settings) -> _Question | None:
    sid, token = settings.twilio_account_sid, settings.twilio_auth_token
    if sid is None or token is None:
        return None
    url = f"{settings.twilio_base_url}/2010-04-01/Accounts/{quote(_clear(sid), safe='')}.json"
    headers = {"Authorization": f"Basic {b64encode(f'{_clear(sid)}:{_clear(token)}'.encode()).decode()}"}
    return _Question(Channel.SMS, "twilio", ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"), url, _of_twilio, headers)


def _of_twilio(status: int, body: Mapping[str, object]) -> Verdict:
    if status == _NOT_FOUND and "code" in body:
        return Verdict.BAD
    # The account answers also when it is suspended or closed, and then sends nothing.
    if status == _OK and body.get("status") in {"suspended", "closed"}:
        return Verdict.BAD
    return _by_status("sid")(status, body)


def _by_status(member: str) -> Callable[[int, Mapping[str, object]], Verdict]:
    """``member``: what the provider's own success has. What is not its own, such as a proxy's page, is no answer."""

    def verdict(status: int, body: Mapping[str, object]) -> Verdict:
        if not body:
            return Verdict.NO_ANSWER
        match status:
            case 200 if member in body:
                return Verdict.GOOD
            case 401:
                return Verdict.BAD
            case 403:
                return Verdict.NOT_ALLOWED
            case _:
                return Verdict.NO_ANSWER

    return verdict


def _clear(secret: SecretStr) -> str:
    return secret.get_secret_value()


_QUESTIONS: tuple[Callable[[Settings], _Question | None], ...] = (_brevo, _resend, _telegram, _twilio)
