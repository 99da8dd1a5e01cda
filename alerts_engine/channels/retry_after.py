"""Reads every form of "come back later" that the providers use (SPEC C-8, providers' 429 answers)."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WAIT_SECONDS = 24 * 60 * 60.0
"""No answer makes a message wait longer: waits of days have been seen, and are a provider's mistake."""

RESET_HEADERS = ("ratelimit-reset", "x-sib-ratelimit-reset")
"""Seconds until the rate window ends: Resend's header and Brevo's."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


def wait_from_headers(headers: Mapping[str, str], *, now: datetime, rate_limited: bool) -> float | None:
    """Seconds that an answer's headers ask to wait, or ``None`` when they ask for nothing that can be read.

    ``Retry-After`` comes first. The reset headers stand on every answer, so they count only on one that
    refuses for the rate. A date is compared with the answer's own ``Date``, and with ``now`` (aware) only
    when there is none: a wrong clock on this host must not make anybody wait (SPEC C-14).
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    reference = _http_date(by_name.get("date")) or now
    asked = by_name.get("retry-after")
    wait = wait_from_seconds(asked)
    if wait is None:
        wait = _wait_until(_http_date(asked), reference)
    if wait is None and rate_limited:
        resets = (wait_from_seconds(by_name.get(name)) for name in RESET_HEADERS)
        wait = next((reset for reset in resets if reset is not None), None)
    return wait


def wait_from_seconds(value: object) -> float | None:
    """``value`` in seconds, at most :data:`MAX_WAIT_SECONDS`; ``None`` for what is negative or no number.

    Takes a header's text and also a JSON number, such as Telegram's ``parameters.retry_after``.
    """
    match value:
        case bool():
            return None
        case int():
            return float(min(value, MAX_WAIT_SECONDS)) if value >= 0 else None
        case float():
            return min(value, MAX_WAIT_SECONDS) if math.isfinite(value) and value >= 0 else None
        case str() if _NUMBER.fullmatch(value.strip()):
            return min(float(value), MAX_WAIT_SECONDS)
        case _:
            return None


def _wait_until(moment: datetime | None, reference: datetime) -> float | None:
    """Seconds from ``reference`` to ``moment``; zero when it has passed: the provider is ready already."""
    if moment is None:
        return None
    return min(max((moment - reference).total_seconds(), 0.0), MAX_WAIT_SECONDS)


def _http_date(text: str | None) -> datetime | None:
    """An HTTP date as an aware time, or ``None``."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
