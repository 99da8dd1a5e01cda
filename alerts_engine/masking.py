"""What nobody may read in a log line, an error or the run history is masked: the second line of defence (SPEC O-3).

The first is that no text is made of such things. Here is what catches them all the same: known secrets in every form
in which they may turn up, and whatever has the form of a destination.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from structlog.typing import EventDict, WrappedLogger

MASK = "***"
SHORTEST_SECRET = 4
"""A shorter secret is no secret, and masking it would make every text unreadable."""

_A_WORD_OF_ITS_OWN = 12
"""A shorter part of a URL's password may be an ordinary word: it is masked where it stands alone."""
_SHORTEST_BASE64 = 8
_BREAKS_A_URL = r"[/?#@:%&=\s]"

_BY_FORM = tuple(
    (signs, re.compile(pattern))
    for signs, pattern in (
        # User and password of a URL; PostgreSQL's may be malformed, with an @ or a / in them.
        (("postgres",), r"(?:(?<=postgres://)|(?<=postgresql://))\S{1,500}(?=@)"),
        (("://",), r"(?<=://)[^/\s@]{1,500}(?=@)"),
        (("=",), r"(?i:(?<=password=))(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)"),
        (("Basic ", "Bearer "), r"(?<=Basic )[\w+/-]{16,}=*|(?<=Bearer )\S{16,}"),
        # A Telegram bot token, also right behind the word "bot"; a key of Brevo's; an account or a key of Twilio's.
        ((":", "%3"), r"(?<!\d)\d{6,}(?i::|%3A)[\w-]{20,}"),
        (("xkeysib-", "AC", "SK"), r"\bxkeysib-[\w-]{8,}|\b(?:AC|SK)[0-9a-fA-F]{32}\b"),
        # An email address, a phone number.
        (("@",), r"[^\s@<>\"'=:/,;(){}\[\]*]{1,64}@[^\s@<>\"',;(){}\[\]]{1,255}\.[\w-]+"),
        (("%40",), r"[\w.+-]{1,64}%40[\w.-]{1,255}\.[\w-]+"),
        (("+", "%2"), r"(?<![\w.:-])\+\d[\d\s()-]{6,30}\d|(?i:%2B)\d{7,}"),
    )
)
"""What is masked by its form alone, and the signs without which it cannot be there: most texts have none of them."""

_QUOTE = r"(?:[\"»«„“”‚‘]|(?<!\w)'|'(?!\w))"
_A_QUOTE = re.compile(_QUOTE)
_QUOTED_NAME = re.compile(rf"{_QUOTE}\s?(?:[^\W\d][\w.$]{{0,62}}|[^\w\s]{{1,3}}|\$\d+)\s?{_QUOTE}")
_FROM_QUOTE_TO_QUOTE = re.compile(f"{_QUOTE}.*{_QUOTE}", re.DOTALL)
_LONG_NUMBER = re.compile(r"\d{7,}")


class Redaction:
    """A structlog processor that masks every known secret, and whatever has the form of a destination."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._patterns = {form: pattern for secret in secrets for form, pattern in _forms(secret)}

    def text(self, text: str) -> str:
        """``text`` without secrets and destinations."""
        lower = text.lower()
        # Looking is far cheaper than a pattern of all that could be there.
        found = [pattern for form, pattern in self._patterns.items() if form.lower() in lower]
        if found:
            text = re.sub("|".join(sorted(found, key=len, reverse=True)), MASK, text, flags=re.IGNORECASE)
        return without_destinations(text)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: self._value(value) for key, value in event.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._value(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


def without_destinations(text: str) -> str:
    """``text`` without what has the form of an address, a phone number, a token, or a URL's password."""
    for signs, pattern in _BY_FORM:
        if any(sign in text for sign in signs):
            text = pattern.sub(MASK, text)
    return text


def without_values(text: str) -> str:
    """A server's sentence about a statement without the values that it may quote; names stay.

    A value is whatever is quoted and could not be a name. Where there is one, all from the first quote to the last
    goes, since the value may have quotes in it.
    """
    if _A_QUOTE.search(_QUOTED_NAME.sub("", text)):
        text = _FROM_QUOTE_TO_QUOTE.sub(f'"{MASK}"', text)
    return _LONG_NUMBER.sub(MASK, without_destinations(text))


# --- the forms of a secret ------------------------------------------------------------------------------------------


def _forms(secret: str) -> Iterator[tuple[str, str]]:
    """Every text that ``secret`` may be found as, and the pattern of what is then masked."""
    for known in {secret, secret.strip()}:
        yield from _anywhere(known)
        for password in _passwords(known):
            if len(password) >= _A_WORD_OF_ITS_OWN:
                yield from _anywhere(password)
            elif len(password) >= SHORTEST_SECRET:
                for form in _spellings(password):
                    yield form, rf"(?<![\w-]){re.escape(form)}(?![\w-])"


def _anywhere(secret: str) -> Iterator[tuple[str, str]]:
    if len(secret) >= SHORTEST_SECRET:
        for form in _spellings(secret):
            yield form, re.escape(form)
        for form in _in_base64(secret):
            yield form, rf"{re.escape(form)}[\w+/-]*=*"


def _spellings(secret: str) -> set[str]:
    """As it stands, as texts quote it, as URLs carry it; a phone number also without its plus."""
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        re.sub(r"^\+(?=\d{7,}$)", "", secret),
    }


def _in_base64(secret: str) -> Iterator[str]:
    """What of ``secret`` is the same in any Base64 text that has it inside, as in Basic authentication.

    Three bytes become four characters, so there are three ways to fall; the characters at the ends hold bits of the
    neighbours, too.
    """
    for before in range(3):
        raw = bytes(before) + secret.encode(errors="replace")
        whole = len(raw) // 3 * 4
        core = b64encode(raw).decode()[(0, 2, 3)[before] : whole]
        if len(core) >= _SHORTEST_BASE64:
            yield core
            yield core.replace("+", "-").replace("/", "_")


def _passwords(url: str) -> Iterator[str]:
    """Whatever may be the password in ``url``, whole and in the pieces that a parser of a malformed one might see."""
    _, is_url, rest = url.partition("://")
    if not is_url:
        return
    found = [rest.rpartition("@")[0], rest.partition("@")[0] if "@" in rest else ""]
    whole = [info.partition(":")[2] for info in found]
    whole += re.findall(r"[?&](?:ssl)?password=([^&#]*)", rest)
    for password in whole:
        for form in {password, unquote(password)}:
            yield form
            yield from re.split(_BREAKS_A_URL, form)
