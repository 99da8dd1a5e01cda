"""Which keys the sandbox takes, and the settings that point the engine at it with them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from alerts_engine.errors import AlertsEngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMS: Final = {
    "telegram_bot_token": (r"[0-9]{1,20}:[A-Za-z0-9_-]+", "digits, a colon, then letters, digits, _ and -"),
    "twilio_account_sid": (r"[A-Za-z0-9_-]+", "letters, digits, _ and -"),
}
_USUAL_FORM: Final = (r"[!-~]+", "printable characters without spaces")


class SandboxKeyError(AlertsEngineError):
    """A key that the sandbox is to take has no name, an unknown one, or not the form that its provider gives it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What callers have to show; any other key is refused, as by the real provider. The defaults are made up."""

    brevo_api_key: str = field(default="sandbox-brevo-key", repr=False)
    resend_api_key: str = field(default="sandbox-resend-key", repr=False)
    telegram_bot_token: str = field(default="123456:sandbox-token-abcdefghijklmno", repr=False)
    twilio_account_sid: str = field(default="AC00000000000000000000000000000000", repr=False)
    twilio_auth_token: str = field(default="sandbox-twilio-token", repr=False)

    def __post_init__(self) -> None:
        for one in fields(self):
            form, words = _FORMS.get(one.name, _USUAL_FORM)
            if not re.fullmatch(form, getattr(self, one.name)):
                raise SandboxKeyError(f"{one.name.upper()} of the sandbox must consist of {words}")

    @classmethod
    def of(cls, assignments: Iterable[str]) -> Credentials:
        """The defaults but for ``NAME=value``, by the names of the engine's settings; raises ``SandboxKeyError``."""
        given: dict[str, str] = {}
        known = {one.name.upper(): one.name for one in fields(cls)}
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            if name not in known:
                raise SandboxKeyError(f"a key of the sandbox is NAME=value, with NAME one of {', '.join(known)}")
            given[known[name]] = value
        return cls(**given)

    def settings(self, url: str) -> dict[str, str]:
        """Variables and values for a sandbox at ``url``, all channels configured."""
        return {
            "EMAIL_PROVIDER": "brevo",
            "EMAIL_FROM": "Energy Alerts <alerts@example.com>",
            "BREVO_API_KEY": self.brevo_api_key,
            "BREVO_BASE_URL": url,
            "RESEND_API_KEY": self.resend_api_key,
            "RESEND_BASE_URL": url,
            "TELEGRAM_BOT_TOKEN": self.telegram_bot_token,
            "TELEGRAM_BASE_URL": url,
            "TWILIO_ACCOUNT_SID": self.twilio_account_sid,
            "TWILIO_AUTH_TOKEN": self.twilio_auth_token,
            "TWILIO_PHONE_NUMBER": "+15005550006",
            "TWILIO_BASE_URL": url,
        }
