"""Email by Resend: ``POST /emails``; asked by the list of emails, ``GET /emails``, and each one's tags."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from alerts_engine.channels.asking.lists import CannotTellError, ListReader, ask_in_groups
from alerts_engine.channels.asking.resend_emails import TAG_NAME, EmailList
from alerts_engine.channels.credential_check import Verdict, by_status, check_by
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

KEY_LIFE: Final = timedelta(hours=24) - timedelta(hours=1)
"""Resend remembers a key for 24 hours. The margin covers any lease between planning a repeat and its arrival."""

OUTCOMES = OutcomeTable(
    "resend",
    WORDS,
    {
        (409, "concurrent_idempotent_requests"): Meaning.TWIN_IN_FLIGHT,
        (409, "invalid_idempotent_request"): Meaning.BYTES_CHANGED,
        # Whatever else is in conflict with it: neither says that anything was accepted, nor that it was not.
        (409, ANY): Meaning.UNCERTAIN,
        (400, "validation_error"): Meaning.PERMANENT,
        (400, "invalid_idempotency_key"): Meaning.PERMANENT,
        (422, "validation_error"): Meaning.PERMANENT,
        (422, "missing_required_field"): Meaning.PERMANENT,
        (422, "invalid_parameter"): Meaning.PERMANENT,
        (451, "security_error"): Meaning.PERMANENT,
        (401, ANY): DownCause.AUTH_FAILED,
        # Also ``validation_error``: the sender's domain is not verified, so nothing can be sent to anybody.
        (403, ANY): DownCause.AUTH_FAILED,
        (ANY, "missing_api_key"): DownCause.AUTH_FAILED,
        (ANY, "invalid_api_key"): DownCause.AUTH_FAILED,
        (ANY, "restricted_api_key"): DownCause.AUTH_FAILED,
        (ANY, "suspended_api_key"): DownCause.AUTH_FAILED,
        (ANY, "invalid_from_address"): DownCause.AUTH_FAILED,
        (429, "rate_limit_exceeded"): Meaning.RATE_LIMITED,
        (429, "daily_quota_exceeded"): DownCause.QUOTA_EXHAUSTED,
        (429, "monthly_quota_exceeded"): DownCause.QUOTA_EXHAUSTED,
        (500, "application_error"): Meaning.TRANSIENT,
        (500, "internal_server_error"): Meaning.TRANSIENT,
    },
)
"""Resend's error codes: the body's ``name``."""


class ResendAdapter:
    """Sends one email to one recipient a call: with more, their status events cannot be told apart."""

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
        self._url = f"{base_url}/emails"
        self._domains_url = f"{base_url}/domains"
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
            headers={**self._headers(), "Idempotency-Key": str(envelope.idempotency_key)},
        )
        return SendResult(outcome_of(answer, (self._api_key.get_secret_value(), envelope.destination)))

    async def ask(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`. One reading of the list serves all questions."""
        if not questions:
            return []
        reader = ListReader(self.provider, self._session, self._headers(), self._timeout_seconds)
        try:
            emails = await EmailList.read(reader, self._url, min(question.sent_after for question in questions))
        except CannotTellError as error:
            return [error.answer] * len(questions)
        # One after the other: Resend takes few requests a second, and sends need them more.
        return await ask_in_groups(questions, lambda question: question.idempotency_key, emails.answer, at_once=1)

    async def check_credentials(self) -> CredentialCheck:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        return await check_by(
            self, self._session, self._domains_url, headers=self._headers(), timeout_seconds=self._timeout_seconds,
            verdict=_of_key, variables=("RESEND_API_KEY",),
        )  # fmt: skip

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key.get_secret_value().strip()}"}

    def _body(self, envelope: Envelope, message: EmailMessage) -> JsonObject:
        return {
            "from": str(self._sender),
            "to": [envelope.destination],
            "subject": message.subject,
            "html": message.html,
            "text": message.text,
            "headers": email_headers(envelope),
            "tags": [{"name": TAG_NAME, "value": str(envelope.idempotency_key)}],
        }


def outcome_of(answer: Answer | Retry | Uncertain, secrets: Sequence[str] = ()) -> Outcome:
    """What Resend's answer means."""
    if not isinstance(answer, Answer):
        return answer
    if answer.accepted:
        return sent(OUTCOMES, answer, answer.body.get("id"))
    return refused(OUTCOMES, answer, code=answer.body.get("name"), secrets=secrets)


def _of_key(status: int, body: JsonObject) -> Verdict:
    # A key that may only send says so by this name, with the status of a bad one; and a bad one has the status 403.
    if status in {401, 403} and body.get("name"):
        return Verdict.NOT_ALLOWED if body["name"] == "restricted_api_key" else Verdict.BAD
    return by_status("data")(status, body)
