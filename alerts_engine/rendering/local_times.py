"""Times as a reader in one time zone says them; the host's locale changes nothing in them (SPEC C-12)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from alerts_engine.types import Period

if TYPE_CHECKING:
    from alerts_engine.types import DigestContent

_TO = "\N{EN DASH}"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


class LocalTimes:
    """Writes aware datetimes in ``time_zone``, an IANA name (:class:`ZoneInfoNotFoundError` if unknown)."""

    def __init__(self, time_zone: str) -> None:
        self.zone = time_zone
        self._info = ZoneInfo(time_zone)

    def moment(self, at: datetime) -> str:
        """``2 Sep 2022, 18:04 CEST (UTC+2)``."""
        local = self.local(at)
        return f"{_short_day(local)} {local.year}, {_clock(local)} {_zone(local)}"

    def short_moment(self, at: datetime) -> str:
        """``2 Sep, 18:04 CEST``."""
        local = self.local(at)
        return f"{_short_day(local)}, {_clock(local)} {_abbreviation(local)}"

    def time_of_day(self, at: datetime, day: date) -> str:
        """``18:04 CEST``; with the date in front when that is not ``day``."""
        local = self.local(at)
        said = f"{_clock(local)} {_abbreviation(local)}"
        return said if local.date() == day else f"{_short_day(local)}, {said}"

    def day(self, at: datetime) -> str:
        """``Friday 2 September 2022``."""
        local = self.local(at)
        return f"{_DAYS[local.weekday()]} {local.day} {_MONTHS[local.month - 1]} {local.year}"

    def when(self, window: DigestContent) -> str | None:
        """``2 Sep``, with its hours when it is a part of a day; ``None`` for a bundle, which is told at once."""
        start, end = self.local(window.window_start), self.local(window.window_end)
        day = _short_day(start)
        said = {"daily": day, "hourly": f"{day} {_clock(start)}{_TO}{_end_clock(start, end)}"}
        return said.get(window.period.value)

    def hours(self, window: DigestContent) -> str:
        """Begin, end and zone; both zones, and a day's real length, when the clocks change inside (SPEC D-2)."""
        start, end = self.local(window.window_start), self.local(window.window_end)
        if start.utcoffset() == end.utcoffset():
            alone = _clock(start) == _end_clock(start, end)  # a bundle of what happened in one minute
            return f"{_clock(start)}{'' if alone else _TO + _end_clock(start, end)} {_zone(start)}"
        said = f"{_clock(start)} {_zone(start)} {_TO} {_end_clock(start, end)} {_zone(end)}"
        return f"{said}, {_length(window)}" if window.period is Period.DAILY else said

    def local(self, at: datetime) -> datetime:
        """``at`` in the zone; in UTC at the calendar's ends (PostgreSQL's ``infinity``), where zones overflow."""
        try:
            return at.astimezone(self._info)
        except OverflowError:
            return at.astimezone(UTC)


def _length(window: DigestContent) -> str:
    return f"{(window.window_end - window.window_start) / timedelta(hours=1):g} hours"


def _short_day(local: datetime) -> str:
    return f"{local.day} {_MONTHS[local.month - 1][:3]}"


def _clock(local: datetime) -> str:
    return f"{local.hour:02}:{local.minute:02}"


def _end_clock(start: datetime, end: datetime) -> str:
    """A window that ends at midnight ends at 24:00 of its own day."""
    if end.date() == start.date():
        return _clock(end)
    next_midnight = end.date() - start.date() == timedelta(days=1) and (end.hour, end.minute) == (0, 0)
    return "24:00" if next_midnight else f"{_short_day(end)} {_clock(end)}"


def _zone(local: datetime) -> str:
    offset, abbreviation = _offset(local), _abbreviation(local)
    return abbreviation if offset in (abbreviation, "UTC") else f"{abbreviation} ({offset})"


def _abbreviation(local: datetime) -> str:
    """``CEST``; the offset for the many zones whose abbreviation is a bare number such as ``+03``."""
    name = local.tzname() or ""
    return name if name.isalpha() else _offset(local)


def _offset(local: datetime) -> str:
    minutes = (local.utcoffset() or timedelta()) // timedelta(minutes=1)
    if minutes == 0:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours}" + (f":{rest:02}" if rest else "")
