"""Resend's ``POST /emails``."""

from __future__ import annotations

import hashlib
import re
import uuid
from email.utils import parseaddr
from typing import TYPE_CHECKING, ClassVar

from alerts_engine.sandbox.idempotency import ReplayFirst
from alerts_engine.sandbox.model import Acceptance, Provider, RefusedError, Submission, json_answer
from alerts_engine.sandbox.rules import ProviderRules, filled_text, is_address, json_object
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.sandbox.model import Answer, Call
    from alerts_engine.sandbox.rules import UsualErrors

KEY_SECONDS = 24 * 60 * 60
"""How long an ``Idempotency-Key`` is remembered."""
MAX_KEY = 256
MAX_RECIPIENTS = 50

_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")


class Resend(ProviderRules):
    """A repeat of an idempotency key with the same payload is answered with the first message's id."""

    provider = Provider.RESEND
    usual_errors: ClassVar[UsualErrors] = {
        400: ("validation_error", "We found an error with one or more fields in the request."),
        401: ("missing_api_key", "Missing API key in the authorization header."),
        403: ("invalid_api_key", "API key is invalid."),
        404: ("not_found", "The requested endpoint does not exist."),
        405: ("method_not_allowed", "Method is not allowed for the requested path."),
        409: (
            "concurrent_idempotent_requests",
            "Same idempotency key used while original request is still in progress.",
        ),
        422: ("validation_error", "We found an error with one or more fields in the request."),
        429: ("rate_limit_exceeded", "Too many requests. Please limit the number of requests per second."),
        500: ("application_error", "An unexpected error occurred."),
    }

    def __init__(self, api_key: str) -> None:
        super().__init__(ReplayFirst(KEY_SECONDS, different=_different_payload, twin=lambda: self.usual_error(409)))
        self._api_key = api_key

    def read(self, call: Call) -> Submission:
        payload = json_object(call.body)
        call.idempotency_key = call.headers.get("Idempotency-Key")
        call.destination = ", ".join(_bare(one) for one in _listed((payload or {}).get("to"))) or None
        self.authenticate(call)
        _check_key(call.idempotency_key)
        if payload is None:
            raise RefusedError(400, "validation_error", "The request body is not a valid JSON object.")
        return Submission(
            channel=Channel.EMAIL,
            sender=_sender(payload),
            destination=_recipients(payload),
            subject=_required(payload, "subject"),
            html=filled_text(payload, "html"),
            text=filled_text(payload, "text") or _no_text_needs_html(payload),
            idempotency_key=call.idempotency_key,
            tags=_tags(payload),
            headers=_headers(payload),
            fingerprint=hashlib.sha256(call.body).digest(),
        )

    def accept(self, _submission: Submission, _number: int, /) -> Acceptance:
        message_id = str(uuid.uuid4())
        return Acceptance(message_id, json_answer(200, {"id": message_id}))

    def refuse(self, refused: RefusedError) -> Answer:
        body = {"statusCode": refused.status, "name": refused.code, "message": refused.message}
        after = refused.retry_after
        headers = {} if after is None else {"retry-after": str(after), "ratelimit-remaining": "0"}
        return json_answer(refused.status, body, headers)

    def authenticate(self, call: Call) -> None:
        scheme, _, api_key = call.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not api_key.strip():
            raise self.usual_error(401)
        if api_key.strip() != self._api_key:
            raise self.usual_error(403)


def _different_payload() -> RefusedError:
    message = "Same idempotency key used with a different request payload."
    return RefusedError(409, "invalid_idempotent_request", message)


def _check_key(key: str | None) -> None:
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise RefusedError(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")


def _listed(value: object) -> list[str]:
    """One address or a list of them, as Resend takes both; empty when it is neither."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return []


def _bare(address: str) -> str:
    """The address in ``email@example.com`` or ``Name <email@example.com>``."""
    return parseaddr(address)[1]


def _missing(name: str) -> RefusedError:
    return RefusedError(422, "missing_required_field", f"Missing `{name}` field.")


def _invalid(name: str) -> RefusedError:
    message = (
        f"Invalid `{name}` field. The email address needs to follow the "
        "`email@example.com` or `Name <email@example.com>` format."
    )
    return RefusedError(422, "validation_error", message)


def _sender(payload: Mapping[str, object]) -> str:
    sender = _required(payload, "from")
    if not is_address(_bare(sender)):
        raise _invalid("from")
    return sender


def _recipients(payload: Mapping[str, object]) -> str:
    if not payload.get("to"):
        raise _missing("to")
    recipients = [_bare(one) for one in _listed(payload["to"])]
    if not 1 <= len(recipients) <= MAX_RECIPIENTS or not all(map(is_address, recipients)):
        raise _invalid("to")
    return ", ".join(recipients)


def _tags(payload: Mapping[str, object]) -> tuple[str, ...]:
    tags = payload.get("tags") or []
    if not isinstance(tags, list):
        raise RefusedError(422, "validation_error", "The `tags` field must be an array.")
    return tuple(_tag(tag) for tag in tags)


def _headers(payload: Mapping[str, object]) -> dict[str, str]:
    headers = payload.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise RefusedError(422, "validation_error", "The `headers` field must be an object of strings.")
    return headers


def _tag(tag: object) -> str:
    match tag:
        case {"name": str(name), "value": str(value)} if _TAG.fullmatch(name) and _TAG.fullmatch(value):
            return f"{name}:{value}"
        case _:
            message = "Tags should only contain ASCII letters, numbers, underscores, or dashes."
            raise RefusedError(422, "validation_error", message)


def _required(payload: Mapping[str, object], name: str) -> str:
    text = filled_text(payload, name)
    if text is None:
        raise _missing(name)
    return text


def _no_text_needs_html(payload: Mapping[str, object]) -> str:
    if filled_text(payload, "html") is None:
        raise RefusedError(422, "missing_required_field", "Missing `html` or `text` field.")
    return ""
