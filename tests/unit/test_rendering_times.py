"""Times and windows as readers see them (SPEC D-2, M-3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts_engine.rendering.local_times import LocalTimes
from alerts_engine.types import DigestContent, Period

AMSTERDAM = "Europe/Amsterdam"
TO = "\N{EN DASH}"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def window(period: Period, start: datetime, hours: float) -> DigestContent:
    return DigestContent(period, start, start + timedelta(hours=hours), ())


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        (AMSTERDAM, "2 Sep 2022, 18:04 CEST (UTC+2)"),
        ("UTC", "2 Sep 2022, 16:04 UTC"),
        ("America/New_York", "2 Sep 2022, 12:04 EDT (UTC-4)"),
        ("Asia/Kolkata", "2 Sep 2022, 21:34 IST (UTC+5:30)"),
        ("America/St_Johns", "2 Sep 2022, 13:34 NDT (UTC-2:30)"),
        ("Asia/Tashkent", "2 Sep 2022, 21:04 UTC+5"),
        ("Africa/Accra", "2 Sep 2022, 16:04 GMT"),
    ],
)
def test_a_moment_names_its_zone_and_offset(zone: str, said: str) -> None:
    """A reader can tell which clock is meant (SPEC M-3)."""
    assert LocalTimes(zone).moment(utc(2022, 9, 2, 16, 4)) == said


@pytest.mark.parametrize(
    ("content", "hours"),
    [
        (window(Period.DAILY, utc(2022, 9, 1, 22), 24), f"00:00{TO}24:00 CEST (UTC+2)"),
        (
            window(Period.DAILY, utc(2022, 10, 29, 22), 25),
            f"00:00 CEST (UTC+2) {TO} 24:00 CET (UTC+1), 25 hours",
        ),
        (
            window(Period.DAILY, utc(2022, 3, 26, 23), 23),
            f"00:00 CET (UTC+1) {TO} 24:00 CEST (UTC+2), 23 hours",
        ),
        (window(Period.HOURLY, utc(2022, 9, 2, 16), 1), f"18:00{TO}19:00 CEST (UTC+2)"),
        (window(Period.HOURLY, utc(2022, 9, 2, 16, 4), 1 / 3600), "18:04 CEST (UTC+2)"),
        (window(Period.HOURLY, utc(2022, 9, 2, 21), 1), f"23:00{TO}24:00 CEST (UTC+2)"),
        (window(Period.HOURLY, utc(2022, 10, 29, 23), 1), f"01:00{TO}02:00 CEST (UTC+2)"),
        (window(Period.HOURLY, utc(2022, 10, 30, 0), 1), f"02:00 CEST (UTC+2) {TO} 02:00 CET (UTC+1)"),
        (window(Period.HOURLY, utc(2022, 10, 30, 1), 1), f"02:00{TO}03:00 CET (UTC+1)"),
        (window(Period.HOURLY, utc(2022, 3, 27, 0), 1), f"01:00 CET (UTC+1) {TO} 03:00 CEST (UTC+2)"),
    ],
)
def test_a_window_says_its_hours_also_when_clocks_change(content: DigestContent, hours: str) -> None:
    """Days of 23 and 25 hours and the repeated hour read right (SPEC D-2)."""
    assert LocalTimes(AMSTERDAM).hours(content) == hours


def test_a_time_on_another_day_shows_its_date() -> None:
    """An item that joined a later digest keeps its own day (SPEC D-5)."""
    times, at = LocalTimes(AMSTERDAM), utc(2022, 9, 1, 21, 50)
    assert times.time_of_day(at, times.local(at).date()) == "23:50 CEST"
    assert times.time_of_day(at, times.local(utc(2022, 9, 2, 10)).date()) == "1 Sep, 23:50 CEST"


def test_a_day_is_the_day_of_the_zone() -> None:
    """The digest's day is the product's, not UTC's (SPEC D-2)."""
    assert LocalTimes(AMSTERDAM).day(utc(2022, 9, 1, 22)) == "Friday 2 September 2022"


@pytest.mark.parametrize("at", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
@pytest.mark.parametrize("zone", [AMSTERDAM, "America/New_York"])
def test_the_ends_of_the_calendar_can_be_said(zone: str, at: datetime) -> None:
    """PostgreSQL's infinity does not stop a message (SPEC M-1)."""
    assert str(at.year) in LocalTimes(zone).moment(at)
