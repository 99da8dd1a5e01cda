"""Twilio's ``POST /2010-04-01/Accounts/{Sid}/Messages.json``."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qsl

from alerts_engine.sandbox.gsm7 import segments
from alerts_engine.sandbox.model import Acceptance, Provider, RefusedError, Submission, json_answer
from alerts_engine.sandbox.rules import ProviderRules
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.sandbox.model import Answer, Call
    from alerts_engine.sandbox.rules import UsualErrors

MAX_BODY = 1600
MAX_VALIDITY_SECONDS = 36_000

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SENDER = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 +&_-]{1,11}")
_SECONDS = re.compile(r"[0-9]{1,6}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")


class Twilio(ProviderRules):
    """Twilio has no idempotency keys for messages: every accepted call is one more SMS."""

    provider = Provider.TWILIO
    usual_errors: ClassVar[UsualErrors] = {
        400: (21211, "Invalid 'To' Phone Number"),
        401: (20003, "Authenticate"),
        403: (20003, "Permission Denied"),
        404: (20404, "The requested resource was not found"),
        405: (20004, "Method not allowed"),
        429: (20429, "Too Many Requests"),
        500: (20500, "Internal Server Error"),
        503: (20503, "Service Unavailable"),
    }

    def __init__(self, account_sid: str, auth_token: str) -> None:
        super().__init__()
        self._account = account_sid
        self._auth_token = auth_token

    def read(self, call: Call) -> Submission:
        form = _form(call.body)
        call.destination = form.get("To")
        self.authenticate(call)
        to, sender, body = _recipient(form), _sender(form), _body(form)
        _check_validity(form.get("ValidityPeriod"))
        return Submission(
            channel=Channel.SMS,
            destination=to,
            sender=sender,
            text=body,
            segments=segments(body),
        )

    def accept(self, submission: Submission, _number: int, /) -> Acceptance:
        sid = f"SM{uuid.uuid4().hex}"
        # A messaging service picks the sender later, so its answer says 0 segments (Twilio's API reference).
        by_service = _SERVICE.fullmatch(submission.sender) is not None
        resource = f"/2010-04-01/Accounts/{self._account}/Messages/{sid}"
        answer = {
            "sid": sid,
            "account_sid": self._account,
            "messaging_service_sid": submission.sender if by_service else None,
            "from": None if by_service else submission.sender,
            "to": submission.destination,
            "body": submission.text,
            "status": "accepted" if by_service else "queued",
            "num_segments": "0" if by_service else str(submission.segments),
            "num_media": "0",
            "direction": "outbound-api",
            "api_version": "2010-04-01",
            "date_created": format_datetime(datetime.now(UTC)),
            "date_sent": None,
            "price": None,
            "price_unit": "USD",
            "error_code": None,
            "error_message": None,
            "uri": f"{resource}.json",
        }
        return Acceptance(sid, json_answer(201, answer))

    def refuse(self, refused: RefusedError) -> Answer:
        body = {
            "code": refused.code,
            "message": refused.message,
            "more_info": f"https://www.twilio.com/docs/errors/{refused.code}",
            "status": refused.status,
        }
        headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
        return json_answer(refused.status, body, headers)

    def authenticate(self, call: Call) -> None:
        shown = _basic_credentials(call.headers.get("Authorization", ""))
        if shown != (self._account, self._auth_token) or call.path["sid"] != self._account:
            raise self.usual_error(401)


def _form(body: bytes) -> dict[str, str]:
    """The form's fields; nothing when it is not a form in UTF-8."""
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError:
        return {}


def _basic_credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, token


def _recipient(form: Mapping[str, str]) -> str:
    to = form.get("To", "")
    if not to:
        raise RefusedError(400, 21604, "A 'To' phone number is required.")
    if not _E164.fullmatch(to):
        raise RefusedError(400, 21211, f"Invalid 'To' Phone Number: {to}")
    return to


def _sender(form: Mapping[str, str]) -> str:
    service, sender = form.get("MessagingServiceSid", ""), form.get("From", "")
    if _SERVICE.fullmatch(service):
        return service
    if not sender:
        raise RefusedError(400, 21603, "A 'From' or 'MessagingServiceSid' parameter is required.")
    if not _SENDER.fullmatch(sender):
        raise RefusedError(400, 21212, f"Invalid 'From' Phone Number: {sender}")
    return sender


def _body(form: Mapping[str, str]) -> str:
    body = form.get("Body", "")
    if not body:
        raise RefusedError(400, 21602, "Message body is required.")
    if len(body) > MAX_BODY:
        message = "The concatenated message body exceeds the 1600 character limit"
        raise RefusedError(400, 21617, message)
    return body


def _check_validity(value: str | None) -> None:
    if value is None:
        return
    if not (_SECONDS.fullmatch(value) and 1 <= int(value) <= MAX_VALIDITY_SECONDS):
        raise RefusedError(400, 21624, "Invalid validity period value")
