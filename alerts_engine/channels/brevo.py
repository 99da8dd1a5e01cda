"""Email by Brevo: ``POST /v3/smtp/email``; asked by its events, ``GET /v3/smtp/statistics/events``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from alerts_engine.channels.asking.brevo_events import EventList
from alerts_engine.channels.asking.lists import ListReader, ask_in_groups
from alerts_engine.channels.credential_check import by_status, check_by
from alerts_engine.channels.envelopes import INVALID_DESTINATION, Sender, can_be_addressed, email_headers, message_in
from alerts_engine.channels.http import Answer, JsonObject, post
from alerts_engine.channels.outcomes import ANY, WORDS, Meaning, OutcomeTable, refused, sent
from alerts_engine.types import Channel, DownCause, EmailMessage, Envelope, Outcome, Retry, SendResult, Uncertain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import ClientSession
    from pydantic import SecretStr

    from alerts_engine.channels.credential_check import CredentialCheck
    from alerts_engine.types import AskAnswer, Question

KEY_LIFE: Final = timedelta(minutes=30) - timedelta(minutes=5)
"""Brevo remembers a key for 30 minutes. The margin covers what lies between planning a repeat and its arrival: with the
default settings, no longer than the lease of 5 minutes."""

ASKED_AT_ONCE: Final = 2
"""Reads are slow, and 300 an hour is what to plan on."""

OUTCOMES = OutcomeTable(
    "brevo",
    WORDS,
    {
        (ANY, "duplicate_parameter"): Meaning.ALREADY_ACCEPTED,
        (400, "invalid_parameter"): Meaning.PERMANENT,
        (400, "missing_parameter"): Meaning.PERMANENT,
        (400, "out_of_range"): Meaning.PERMANENT,
        (400, "bad_request"): Meaning.PERMANENT,
        (406, "not_acceptable"): Meaning.PERMANENT,
        (401, ANY): DownCause.AUTH_FAILED,
        (403, ANY): DownCause.AUTH_FAILED,
        (ANY, "unauthorized"): DownCause.AUTH_FAILED,
        (ANY, "permission_denied"): DownCause.AUTH_FAILED,
        # Seen with 400, 402 and 403.
        (ANY, "account_under_validation"): DownCause.AUTH_FAILED,
        (402, ANY): DownCause.OUT_OF_CREDIT,
        (ANY, "not_enough_credits"): DownCause.OUT_OF_CREDIT,
    },
)
"""Brevo's error codes: the body's ``code``."""


class BrevoAdapter:
    """Sends one email to one recipient a call."""

    channel: Final = Channel.EMAIL
    provider: Final = OUTCOMES.provider
    key_life: Final = KEY_LIFE
    can_ask: Final = True

    def __init__(
        self,
        session: ClientSession,
        *,
        base_url: str,
        api_key: SecretStr,
        sender: Sender,
        timeout_seconds: float,
    ) -> None:
        self._session = session
        self._url = f"{base_url}/v3/smtp/email"
        self._account_url = f"{base_url}/v3/account"
        self._events_url = f"{base_url}/v3/smtp/statistics/events"
        self._api_key = api_key
        self._sender = sender
        self._timeout_seconds = timeout_seconds

    async def send(self, envelope: Envelope) -> SendResult:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        message = message_in(envelope, EmailMessage)
        if not can_be_addressed(envelope.destination):
            return INVALID_DESTINATION
        answer = await post(
            self._session,
            self._url,
            json_body=self._body(envelope, message),
            timeout_seconds=self._timeout_seconds,
            headers=self._headers(),
        )
        return SendResult(outcome_of(answer, (self._api_key.get_secret_value(), envelope.destination)))

    async def ask(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        reader = ListReader(self.provider, self._session, self._headers(), self._timeout_seconds)
        events = EventList(reader, self._events_url)
        return await ask_in_groups(
            questions, lambda question: question.idempotency_key, events.answer, at_once=ASKED_AT_ONCE
        )

    async def check_credentials(self) -> CredentialCheck:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        return await check_by(
            self, self._session, self._account_url, headers=self._headers(), timeout_seconds=self._timeout_seconds,
            verdict=by_status("email"), variables=("BREVO_API_KEY",),
        )  # fmt: skip

    def _headers(self) -> dict[str, str]:
        return {"api-key": self._api_key.get_secret_value().strip()}

    def _body(self, envelope: Envelope, message: EmailMessage) -> JsonObject:
        key, sender = str(envelope.idempotency_key), {"email": self._sender.address}
        if self._sender.name is not None:
            sender["name"] = self._sender.name
        return {
            "sender": sender,
            "to": [{"email": envelope.destination}],
            "subject": message.subject,
            "htmlContent": message.html,
            "textContent": message.text,
            # Brevo reads its idempotency key here, not from the request's own headers (SPEC C-12).
            "headers": {"idempotencyKey": key, **email_headers(envelope)},
            "tags": [key],
        }


def outcome_of(answer: Answer | Retry | Uncertain, secrets: Sequence[str] = ()) -> Outcome:
    """What Brevo's answer means."""
    if not isinstance(answer, Answer):
        return answer
    if answer.accepted:
        return sent(OUTCOMES, answer, answer.body.get("messageId"))
    return refused(OUTCOMES, answer, code=answer.body.get("code"), secrets=secrets)
