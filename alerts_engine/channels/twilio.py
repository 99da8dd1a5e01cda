"""SMS by Twilio: ``POST /2010-04-01/Accounts/<SID>/Messages.json``, a form; asked by a ``GET`` of the same."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from alerts_engine.channels.asking.lists import ListReader, ask_in_groups
from alerts_engine.channels.asking.twilio_messages import MessageList, e164
from alerts_engine.channels.credential_check import Verdict, by_status, check_by
from alerts_engine.channels.envelopes import INVALID_DESTINATION, can_be_addressed, message_in
from alerts_engine.channels.http import Answer, post
from alerts_engine.channels.outcomes import ANY, LONG_NUMBERS, Meaning, OutcomeTable, refused, sent
from alerts_engine.types import Channel, DownCause, Envelope, Outcome, Retry, SendResult, SmsMessage, Uncertain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import ClientSession
    from pydantic import SecretStr

    from alerts_engine.channels.credential_check import CredentialCheck
    from alerts_engine.types import AskAnswer, Question

NUMBERS_AT_ONCE: Final = 4
"""Lists of messages that are read at a time; sends go on beside them."""

OUTCOMES = OutcomeTable(
    "twilio",
    LONG_NUMBERS,
    {
        (400, "21211"): Meaning.PERMANENT,  # To is no phone number
        (400, "21408"): Meaning.PERMANENT,  # that country is not enabled
        (403, "21408"): Meaning.PERMANENT,
        (400, "21602"): Meaning.PERMANENT,  # no body
        (400, "21604"): Meaning.PERMANENT,  # no To
        (400, "21606"): Meaning.PERMANENT,  # this From cannot reach this To
        (400, "21608"): Meaning.PERMANENT,  # a trial account, and an unverified To
        (400, "21610"): Meaning.PERMANENT,  # the recipient sent STOP
        (400, "21612"): Meaning.PERMANENT,  # no route from this From to this To
        (400, "21614"): Meaning.PERMANENT,  # To is not a mobile number
        (400, "21617"): Meaning.PERMANENT,  # the body is too long
        (400, "30005"): Meaning.PERMANENT,  # unknown handset
        (400, "30006"): Meaning.PERMANENT,  # landline or unreachable carrier
        (401, ANY): DownCause.AUTH_FAILED,
        (ANY, "20003"): DownCause.AUTH_FAILED,  # wrong credentials or a suspended account
        (ANY, "20005"): DownCause.AUTH_FAILED,  # the account is not active
        (ANY, "20403"): DownCause.AUTH_FAILED,  # the account may not use the API
        (ANY, "20404"): DownCause.AUTH_FAILED,  # no such account: the URL names nothing else
        (ANY, "30002"): DownCause.AUTH_FAILED,  # the account is suspended
        (ANY, "21212"): DownCause.AUTH_FAILED,  # From is no phone number
        (ANY, "21660"): DownCause.AUTH_FAILED,  # From belongs to another account
        (ANY, "21611"): DownCause.QUEUE_FULL,
        (ANY, "30001"): DownCause.QUEUE_FULL,
        (ANY, "63038"): DownCause.QUOTA_EXHAUSTED,  # the account's messages of the day are used up
        (ANY, "20429"): Meaning.RATE_LIMITED,
    },
)
"""Twilio's error codes: the body's ``code``, a number."""


class TwilioAdapter:
    """Sends one SMS to one number a call. Twilio has no idempotency key for messages."""

    channel: Final = Channel.SMS
    provider: Final = OUTCOMES.provider
    key_life: Final = None
    can_ask: Final = True

    def __init__(
        self,
        session: ClientSession,
        *,
        base_url: str,
        account_sid: SecretStr,
        auth_token: SecretStr,
        phone_number: SecretStr,
        validity_seconds: int,
        timeout_seconds: float,
    ) -> None:
        """``validity_seconds``: after this long Twilio drops an SMS that it could not deliver, 1 to 36000."""
        self._session = session
        self._base_url = base_url
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._phone_number = phone_number
        self._validity_seconds = validity_seconds
        self._timeout_seconds = timeout_seconds

    async def send(self, envelope: Envelope) -> SendResult:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        message = message_in(envelope, SmsMessage)
        if not can_be_addressed(envelope.destination):
            return INVALID_DESTINATION
        answer = await post(
            self._session,
            f"{self._base_url}{self._path()}",
            form=self._form(envelope, message),
            timeout_seconds=self._timeout_seconds,
            headers=self._headers(),
        )
        credentials = (self._account_sid, self._auth_token, self._phone_number)
        secrets = [credential.get_secret_value() for credential in credentials]
        return SendResult(outcome_of(answer, [*secrets, envelope.destination]))

    async def ask(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        reader = ListReader(self.provider, self._session, self._headers(), self._timeout_seconds)
        messages = MessageList(reader, self._base_url, self._path())
        return await ask_in_groups(
            questions, lambda question: e164(question.destination), messages.answer, at_once=NUMBERS_AT_ONCE
        )

    async def check_credentials(self) -> CredentialCheck:
        """See :class:`~alerts_engine.channels.base.ChannelAdapter`."""
        return await check_by(
            self, self._session, f"{self._base_url}{self._account()}.json", headers=self._headers(),
            timeout_seconds=self._timeout_seconds, verdict=_of_account,
            variables=("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
        )  # fmt: skip

    def _account(self) -> str:
        return f"/2010-04-01/Accounts/{quote(self._account_sid.get_secret_value().strip(), safe='')}"

    def _path(self) -> str:
        return f"{self._account()}/Messages.json"

    def _headers(self) -> dict[str, str]:
        user = self._account_sid.get_secret_value().strip()
        return {"Authorization": _basic(user, self._auth_token.get_secret_value().strip())}

    def _form(self, envelope: Envelope, message: SmsMessage) -> Mapping[str, str]:
        return {
            "To": envelope.destination,
            "From": self._phone_number.get_secret_value().strip(),
            "Body": message.body,
            "ValidityPeriod": str(self._validity_seconds),
            # Twilio would exchange characters for others, and its list would then not show the body that was sent.
            "SmartEncoded": "false",
        }


def outcome_of(answer: Answer | Retry | Uncertain, secrets: Sequence[str] = ()) -> Outcome:
    """What Twilio's answer means."""
    if not isinstance(answer, Answer):
        return answer
    if answer.accepted:
        return sent(OUTCOMES, answer, answer.body.get("sid"))
    return refused(OUTCOMES, answer, code=answer.body.get("code"), secrets=secrets)


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _of_account(status: int, body: Mapping[str, object]) -> Verdict:
    match status:
        case 404 if "code" in body:
            return Verdict.BAD
        # The account answers also when it is suspended or closed, and then sends nothing.
        case 200 if body.get("status") in {"suspended", "closed"}:
            return Verdict.BAD
        case _:
            return by_status("sid")(status, body)
