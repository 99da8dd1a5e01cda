"""Brevo's ``POST /v3/smtp/email``."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from alerts_engine.sandbox.idempotency import RefuseRepeats
from alerts_engine.sandbox.model import Acceptance, Provider, RefusedError, Submission, json_answer
from alerts_engine.sandbox.rules import ProviderRules, filled_text, is_address, json_object
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.sandbox.model import Answer, Call
    from alerts_engine.sandbox.rules import UsualErrors

KEY_SECONDS = 30 * 60
"""How long an ``idempotencyKey`` is remembered (Brevo's guide "Idempotency for batch emails")."""


class Brevo(ProviderRules):
    """A repeat of an idempotency key is refused as ``duplicate_parameter``: the first one was accepted."""

    provider = Provider.BREVO
    usual_errors: ClassVar[UsualErrors] = {
        400: ("invalid_parameter", "Invalid parameter passed"),
        401: ("unauthorized", "Key not found"),
        402: ("not_enough_credits", "Not enough credits to send the email"),
        403: ("permission_denied", "Permission denied"),
        404: ("document_not_found", "Document not found"),
        405: ("method_not_allowed", "Method not allowed"),
        413: ("invalid_parameter", "Request entity too large"),
        429: ("too_many_requests", "Rate limit exceeded"),
        500: ("internal_server_error", "Internal server error"),
    }

    def __init__(self, api_key: str) -> None:
        super().__init__(RefuseRepeats(KEY_SECONDS, _already_used))
        self._api_key = api_key

    def read(self, call: Call) -> Submission:
        payload = json_object(call.body)
        _note(call, payload or {})
        self.authenticate(call)
        if payload is None:
            raise RefusedError(400, "bad_request", "Input must be a valid JSON object")
        headers = _headers(payload)
        return Submission(
            channel=Channel.EMAIL,
            destination=_recipients(payload),
            sender=_sender(payload),
            subject=_required(payload, "subject"),
            html=_required(payload, "htmlContent"),
            text=filled_text(payload, "textContent") or "",
            idempotency_key=headers.get("idempotencyKey"),
            tags=_tags(payload),
            headers={name: value for name, value in headers.items() if name != "idempotencyKey"},
            dropped=headers.get("X-Sib-Sandbox") == "drop",
        )

    def authenticate(self, call: Call) -> None:
        if call.headers.get("api-key", "").strip() != self._api_key:
            raise self.usual_error(401)

    def accept(self, _submission: Submission, number: int, /) -> Acceptance:
        message_id = f"<{datetime.now(UTC):%Y%m%d%H%M}.{number}@smtp-relay.mailin.fr>"
        return Acceptance(message_id, json_answer(201, {"messageId": message_id}))

    def refuse(self, refused: RefusedError) -> Answer:
        headers = {}
        if refused.retry_after is not None:
            limits = {"limit": "1000", "remaining": "0", "reset": str(refused.retry_after)}
            headers = {f"x-sib-ratelimit-{name}": value for name, value in limits.items()}
        return json_answer(refused.status, {"code": refused.code, "message": refused.message}, headers)


def _already_used() -> RefusedError:
    return RefusedError(400, "duplicate_parameter", "idempotencyKey is already used")


def _note(call: Call, payload: Mapping[str, object]) -> None:
    match payload:
        case {"to": [*people]}:
            emails = (person.get("email") for person in people if isinstance(person, dict))
            call.destination = ", ".join(email for email in emails if isinstance(email, str)) or None
    match payload:
        case {"headers": {"idempotencyKey": str(key)}}:
            call.idempotency_key = key


def _recipients(payload: Mapping[str, object]) -> str:
    if "messageVersions" in payload:
        raise RefusedError(400, "invalid_parameter", "messageVersions are not played by this sandbox")
    match payload.get("to"):
        case [*people] if people:
            return ", ".join(_recipient(person) for person in people)
        case _:
            raise RefusedError(400, "missing_parameter", "to is missing")


def _recipient(person: object) -> str:
    match person:
        case {"email": str(email)} if is_address(email):
            return email
        case {"email": _}:
            raise RefusedError(400, "invalid_parameter", "email is not valid in to")
        case _:
            raise RefusedError(400, "missing_parameter", "email is missing in to")


def _sender(payload: Mapping[str, object]) -> str:
    match payload.get("sender"):
        case {"email": str(email), "name": str(name)} if is_address(email) and name.strip():
            return f"{name} <{email}>"
        case {"email": str(email)} if is_address(email):
            return email
        case {"email": _}:
            raise RefusedError(400, "invalid_parameter", "sender email is not valid")
        case _:
            raise RefusedError(400, "missing_parameter", "sender email is missing")


def _required(payload: Mapping[str, object], name: str) -> str:
    text = filled_text(payload, name)
    if text is None:
        raise RefusedError(400, "missing_parameter", f"{name} is missing")
    return text


def _headers(payload: Mapping[str, object]) -> dict[str, str]:
    """The custom headers, whose values must be ASCII; an idempotency key must be a UUID."""
    headers = payload.get("headers") or {}
    if not isinstance(headers, dict):
        raise RefusedError(400, "invalid_parameter", "headers should be an object")
    for name, value in headers.items():
        if not isinstance(value, str) or not value.isascii():
            raise RefusedError(400, "invalid_parameter", f"header {name} should be an ASCII string")
    if "idempotencyKey" in headers and not _is_uuid(headers["idempotencyKey"]):
        raise RefusedError(400, "invalid_parameter", "idempotencyKey should be a valid UUID")
    return headers


def _tags(payload: Mapping[str, object]) -> tuple[str, ...]:
    match payload.get("tags"):
        case None:
            return ()
        case [*tags] if tags and all(isinstance(tag, str) and tag.strip() for tag in tags):
            return tuple(map(str, tags))
        case _:
            raise RefusedError(400, "invalid_parameter", "tags should be an array of strings")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
