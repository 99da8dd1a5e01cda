"""What the four providers have in common: how a call is read, refused and accepted."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from alerts_engine.sandbox.idempotency import NoKeys
from alerts_engine.sandbox.model import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.sandbox.model import Acceptance, Answer, Call, Provider, Submission

UsualErrors: TypeAlias = "Mapping[int, tuple[str | int | None, str]]"
"""Status → the provider's code and message that usually come with it; 400 and 500 stand for others."""

FIRST_5XX = 500

_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?=.{4,255}\Z)"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class ProviderRules(ABC):
    """One provider's wire format and rules, read from its public documentation, independent of the engine."""

    provider: ClassVar[Provider]
    usual_errors: ClassVar[UsualErrors]

    def __init__(self, keys: NoKeys | None = None) -> None:
        self.keys = keys or NoKeys()

    @abstractmethod
    def read(self, call: Call) -> Submission:
        """Check a call as the provider does; raises ``RefusedError``.

        Notes destination and idempotency key on the call as soon as they are known.
        """

    @abstractmethod
    def authenticate(self, call: Call) -> None:
        """Check the call's key; raises ``RefusedError``."""

    @abstractmethod
    def accept(self, submission: Submission, number: int, /) -> Acceptance:
        """Give the accepted message its id, and the answer that says so."""

    @abstractmethod
    def refuse(self, refused: RefusedError) -> Answer:
        """The provider's error body and headers."""

    def usual_error(self, status: int, code: str | int | None = None) -> RefusedError:
        """The error that usually comes with a status; a code of one's own replaces the usual one."""
        usual_code, message = self.usual_errors.get(status) or self.usual_errors[400 if status < FIRST_5XX else 500]
        return RefusedError(status, usual_code if code is None else code, message)


def is_address(text: object) -> bool:
    """Whether it is one plain email address."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


def json_object(body: bytes) -> dict[str, object] | None:
    """The JSON object in a body; ``None`` when it is not one, or holds a lone surrogate (no UTF-8 has it)."""
    try:
        payload = json.loads(body.decode())
        if _SURROGATE_ESCAPE.search(body):
            json.dumps(payload, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def filled_text(payload: Mapping[str, object], name: str) -> str | None:
    """A field's text; ``None`` when it is missing, blank or not a text."""
    value = payload.get(name)
    return value if isinstance(value, str) and value.strip() else None
