"""From answer to outcome, by tables: status and error code decide, never a text (SPEC C-6, C-7)."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

import structlog

from alerts_engine.masking import SHORTEST_SECRET
from alerts_engine.types import ChannelDown, DownCause, Failed, Retry, Sent, Uncertain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alerts_engine.channels.http import Answer
    from alerts_engine.types import Outcome

log = structlog.get_logger("alerts_engine.channels")


class Meaning(StrEnum):
    """What a refusal says about the message; about the whole channel, a :class:`DownCause` says it."""

    ALREADY_ACCEPTED = "already_accepted"
    """The idempotency key was used before: an earlier attempt was accepted (SPEC C-12)."""
    TWIN_IN_FLIGHT = "twin_in_flight"
    """The same call is being answered at this moment: its answer decides (SPEC C-12)."""
    BYTES_CHANGED = "bytes_changed"
    """The idempotency key was used for other bytes; what became of those is not said (SPEC C-12)."""
    UNCERTAIN = "uncertain"
    """Somebody on the way says so who cannot know what the provider did."""
    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    PERMANENT = "permanent"


ANY = None
"""Stands in a row for any status, or for any error code."""

Rows: TypeAlias = "Mapping[tuple[int | None, str | None], Meaning | DownCause]"

WORDS: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Error codes that are words, such as ``invalid_parameter``."""
LONG_NUMBERS: Final = re.compile(r"[1-9][0-9]{4,5}")
"""Error codes that are numbers of five or six digits, such as 21211: an HTTP status is none of them."""

TWIN_WAIT_SECONDS: Final = 5.0
"""How long to leave a twin alone when the provider does not say: most calls are answered by then."""

BY_STATUS: Mapping[int, Meaning] = {
    408: Meaning.TRANSIENT,
    425: Meaning.TRANSIENT,
    429: Meaning.RATE_LIMITED,
}
"""For every provider, where its own rows say nothing (SPEC C-6)."""

BY_STATUS_CLASS: Mapping[int, Meaning] = {4: Meaning.PERMANENT, 5: Meaning.TRANSIENT}
"""The last resort, by the status's first digit; anything else is no refusal at all."""

_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}|[0-9]{1,6}")
_LONG_NUMBER = re.compile(r"[0-9]{7}")
_SHORTEST_PART = 6
"""Characters that a code may have in common with a secret: any less is chance."""
_CODE_NUMBERS_END = 1_000_000
_LONGEST_MESSAGE_ID = 255
_MESSAGE_NUMBERS_END = 2**63


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """What the refusals of one provider mean."""

    provider: str
    codes: re.Pattern[str] | None
    """The form of its error codes, by which its own refusals are told from a gateway's; ``None``: it has no codes."""
    rows: Rows

    def meaning(self, status: int, code: str | None) -> Meaning | DownCause:
        """The most telling row: status and code, the code, the status, then the rules for every provider."""
        own = ((status, code), (ANY, code), (status, ANY)) if code is not None else ((status, ANY),)
        for key in own:
            if key in self.rows:
                return self.rows[key]
        return BY_STATUS.get(status) or BY_STATUS_CLASS.get(status // 100, Meaning.UNCERTAIN)

    def knows(self, code: str) -> bool:
        """Whether any row is about ``code``."""
        return any(code == known for _, known in self.rows)

    def own_code(self, code: object) -> str | None:
        """``code`` where it has the form of the provider's error codes, else ``None``."""
        name = error_code(code)
        return name if name is not None and self.codes is not None and self.codes.fullmatch(name) else None


def sent(table: OutcomeTable, answer: Answer, message_id: object) -> Outcome:
    """Accepted under ``message_id``; a success without a usable id is not the provider's own: uncertain."""
    known = usable_id(message_id)
    return unreadable(table, answer) if known is None else Sent(known)


def usable_id(message_id: object) -> str | None:
    """A provider's message id that can be stored: a number, or a short printable text."""
    match message_id:
        case bool():
            return None
        case int() if 0 < message_id < _MESSAGE_NUMBERS_END:
            return str(message_id)
        case str() if 0 < len(message_id) <= _LONGEST_MESSAGE_ID and message_id.isprintable():
            return message_id
        case _:
            return None


def unreadable(table: OutcomeTable, answer: Answer) -> Uncertain:
    """The outcome of an answer that is not in the provider's own form: something in between may have written it."""
    redirected = answer.status // 100 == 3  # noqa: PLR2004  the class of the HTTP status
    return Uncertain(f"{table.provider}_{'redirect' if redirected else f'unreadable_{answer.status}'}")


def refused(
    table: OutcomeTable,
    answer: Answer,
    *,
    code: object = None,
    wait: float | None = None,
    secrets: Sequence[str] = (),
) -> Outcome:
    """The outcome of an answer that is no success.

    ``code`` is the provider's error code as its body has it; ``wait`` the seconds that the body asks for,
    which come before a header's. Only a refusal in the provider's own form refuses anything; of a provider
    without codes, the caller has checked that. ``secrets`` are what the request had, and its answer must not
    bring into ``last_error``: credentials and destination.
    """
    name = table.own_code(code)
    if table.codes is not None and name is None:
        return unreadable(table, answer)
    if name is not None and not table.knows(name) and _is_part_of(name, secrets):
        name = None
    if name is not None and not table.knows(name):
        _report_unknown(table.provider, answer.status, name)
    meaning = table.meaning(answer.status, name)
    if wait is None:
        wait = answer.wait(rate_limited=meaning is Meaning.RATE_LIMITED)
    return _outcome(meaning, f"{table.provider}_{name or answer.status}", wait)


def error_code(code: object) -> str | None:
    """A provider's error code, fit for ``last_error``; ``None`` for what might be free text or data.

    Words become lower case. Numbers, also within words, have at most six digits: a phone number or a chat id is not a
    code.
    """
    match code:
        case bool():
            return None
        case int() if 0 < code < _CODE_NUMBERS_END:
            return str(code)
        case str() if _CODE.fullmatch(code.lower()) and _LONG_NUMBER.search(code) is None:
            return code.lower()
        case _:
            return None


def _is_part_of(code: str, secrets: Sequence[str]) -> bool:
    """Whether ``code`` holds a secret, or one holds it; in any letter case, and whatever stands between the letters."""
    plain = _letters(code)
    known = [_letters(secret) for secret in secrets]
    return any(
        (len(secret) >= SHORTEST_SECRET and secret in plain) or (len(plain) >= _SHORTEST_PART and plain in secret)
        for secret in known
    )


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _outcome(meaning: Meaning | DownCause, error: str, wait: float | None) -> Outcome:
    match meaning:
        case Meaning.ALREADY_ACCEPTED:
            return Sent(None, already_accepted=True)
        case Meaning.TWIN_IN_FLIGHT:
            return Retry(error, retry_after=TWIN_WAIT_SECONDS if wait is None else wait, spends_attempt=False)
        case Meaning.BYTES_CHANGED | Meaning.UNCERTAIN:
            return _uncertain(error, key_failed=meaning is Meaning.BYTES_CHANGED)
        case Meaning.TRANSIENT | Meaning.RATE_LIMITED:
            return Retry(error, retry_after=wait, rate_limited=meaning is Meaning.RATE_LIMITED)
        case Meaning.PERMANENT:
            return Failed(error)
        case DownCause():
            return ChannelDown(meaning, error)
        case _:
            assert_never(meaning)


def _uncertain(error: str, *, key_failed: bool) -> Uncertain:
    if key_failed:
        log.error("repeat_had_other_bytes", error=error)
    return Uncertain(error, key_failed=key_failed)


@functools.lru_cache(maxsize=1024)
def _report_unknown(provider: str, status: int, code: str) -> None:
    """Report that a provider has a code that its table lacks; the cache makes it once per process."""
    log.warning("unknown_provider_code", provider=provider, status=status, code=code)
