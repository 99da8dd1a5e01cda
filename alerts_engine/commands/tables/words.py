"""How a cell says a number, a moment or a time."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def duration_text(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"  # noqa: PLR2004 - a second


def moment_text(moment: datetime) -> str:
    """UTC, to the second. A moment without a zone is one already: the application's columns are so (SPEC DB-4)."""
    return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M:%S")


def many(number: int, one: str, several: str | None = None) -> str:
    """``1 alert``, ``1,894 alerts``."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


_HOUR, _DAY = 60, 48 * 60


def age_text(minutes: float) -> str:
    """``7 min``, ``3 h 5 min``, ``4 days``."""
    whole = max(0, round(minutes))
    if whole < _HOUR:
        return f"{whole} min"
    return f"{whole // _HOUR} h {whole % _HOUR} min" if whole < _DAY else many(whole // (24 * _HOUR), "day")
