"""Phase D against a plain Python account of its windows, whatever the zone, the events and the schedule (SPEC 7).

A schedule is a list of ticks. Before each, deliveries arrive; at each, phase D runs; after it, digests that are due
begin, as phase C would begin them. The account below plays the same schedule one delivery at a time.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alerts_engine import AlertsEngine, Phase
from tests.support.world import add_digest_delivery, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLES = int(os.environ.get("DIGEST_EXAMPLES", "35"))
MICROSECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("microseconds", "minutes", "hours", "days"))
GRACE = 10 * MINUTE

ZONES = {
    "Europe/Amsterdam": [datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC)],
    "America/St_Johns": [datetime(2025, 3, 9, 5, 30, tzinfo=UTC), datetime(2025, 11, 2, 4, 30, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2025, 4, 5, 15, tzinfo=UTC), datetime(2025, 10, 4, 15, 30, tzinfo=UTC)],
    "America/Santiago": [datetime(2025, 4, 6, 3, tzinfo=UTC), datetime(2025, 9, 7, 4, tzinfo=UTC)],
    "Asia/Kathmandu": [datetime(2025, 6, 1, 18, 15, tzinfo=UTC)],
    "UTC": [datetime(2025, 12, 31, tzinfo=UTC)],
}
"""Each with the moments when its clocks change; Santiago's do so at midnight. Where they do not, a moment like any."""


# --- windows, from the definition -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    start: datetime
    end: datetime
    label: str


def window_of(moment: datetime, period: str, zone: ZoneInfo) -> Window:
    """The window of ``period`` that ``moment`` lies in (SPEC D-2, D-3)."""
    return daily_window(moment, zone) if period == "daily" else hourly_window(moment, zone)


def daily_window(moment: datetime, zone: ZoneInfo) -> Window:
    day = moment.astimezone(zone).date()
    start, end = (datetime.combine(each, datetime.min.time(), zone).astimezone(UTC) for each in (day, day + DAY))
    return Window(start, end, f"{day}")


def hourly_window(moment: datetime, zone: ZoneInfo) -> Window:
    """The minutes around ``moment`` with the same local hour and the same offset."""
    minute = moment.replace(second=0, microsecond=0)

    def hour_of(each: datetime) -> tuple[object, ...]:
        local = each.astimezone(zone)
        return local.date(), local.hour, local.utcoffset()

    start = end = minute
    while hour_of(start - MINUTE) == hour_of(minute):
        start -= MINUTE
    while hour_of(end) == hour_of(minute):
        end += MINUTE
    local = start.astimezone(zone)
    return Window(start, end, f"{local:%Y-%m-%dT%H}{local.isoformat()[-6:]}")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", ["daily", "hourly"])
def test_the_windows_of_this_account_leave_no_gap(zone, period):
    """They follow each other, each with a label of its own, through every change of the clocks (SPEC D-2)."""
    for change in ZONES[zone]:
        windows = [window_of(change - 2 * DAY, period, ZoneInfo(zone))]
        while windows[-1].end < change + 2 * DAY:
            windows.append(window_of(windows[-1].end, period, ZoneInfo(zone)))
        assert all(before.end == after.start for before, after in pairwise(windows))
        assert len({window.label for window in windows}) == len(windows)


# --- a schedule -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """A queued digest delivery: whose, when its event happened, and before which tick it appears."""

    user: int
    channel: str
    happened_at: datetime
    tick: int


@dataclass(frozen=True, slots=True)
class Schedule:
    zone: str
    periods: tuple[str, ...]
    """Of each user."""
    ticks: tuple[datetime, ...]
    arrivals: tuple[Arrival, ...]
    beginnings: tuple[str, ...]
    """What becomes of the digests that are due at each tick."""


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    zone = draw(st.sampled_from(list(ZONES)))
    change = draw(st.sampled_from(ZONES[zone]))
    periods = draw(st.tuples(*[st.sampled_from(["daily", "hourly"])] * 2))
    start = change - draw(st.integers(0, 30)) * HOUR
    # Every ten minutes, twice at once, or late: by an hour, by three, by a day or two.
    gaps = draw(st.lists(st.sampled_from([10, 0, 60, 180, 1440, 2880]), min_size=1, max_size=7))
    ticks = [start + sum(gaps[:number]) * MINUTE for number in range(len(gaps) + 1)]
    # Few moments, so that deliveries meet: on the quarters, where windows begin and end, or anywhere.
    minutes = st.integers(-120, 120).map(lambda quarters: quarters * 15) | st.integers(-1800, 1800)
    shifts = st.sampled_from([timedelta(0), -MICROSECOND, MICROSECOND])
    moment = st.builds(lambda minute, shift: change + minute * MINUTE + shift, minutes, shifts)
    moments = draw(st.lists(moment, min_size=1, max_size=4))
    arrivals = st.builds(
        Arrival,
        user=st.integers(0, 1),
        channel=st.sampled_from(["email", "telegram"]),
        happened_at=st.sampled_from(moments),
        tick=st.integers(0, len(gaps)),
    )
    return Schedule(
        zone=zone,
        periods=periods,
        ticks=tuple(ticks),
        arrivals=tuple(draw(st.lists(arrivals, min_size=1, max_size=12))),
        beginnings=tuple(draw(st.tuples(*[st.sampled_from(list(BEGINNINGS))] * len(ticks)))),
    )


BEGINNINGS = {
    "sent": "status = 'sent', sent_at = %(now)s",
    "sending": "status = 'sending', claimed_by = 'a run', lease_expires_at = %(now)s",
    "failed": "status = 'failed', attempts = 5, failure_kind = 'permanent', last_error = 'some_code'",
    "tried": "attempts = 1, next_retry_at = %(now)s + interval '1 minute', last_error = 'some_code'",
    "nothing": "last_error = last_error",
}
"""What phase C may leave a due digest in; ``nothing``: it did not run, or put the digest back."""


# --- the account ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Digest:
    window: Window
    begun: bool = False
    items: set[int] = field(default_factory=set)


def account(schedule: Schedule) -> tuple[dict[tuple[int, str, str], set[int]], set[int]]:
    """The items of each digest by user, channel and label, and which of them came late; items are arrivals' numbers."""
    zone = ZoneInfo(schedule.zone)
    digests: dict[tuple[int, str, str], Digest] = {}
    late = set()
    for tick, (now, beginning) in enumerate(zip(schedule.ticks, schedule.beginnings, strict=True)):
        for number, arrival in enumerate(schedule.arrivals):
            if arrival.tick != tick:
                continue
            period = schedule.periods[arrival.user]
            window = window_of(arrival.happened_at, period, zone)
            while (own := digests.get((arrival.user, arrival.channel, window.label))) is not None and own.begun:
                late.add(number)
                window = window_of(window.end, period, zone)
            key = (arrival.user, arrival.channel, window.label)
            digests.setdefault(key, Digest(window)).items.add(number)
        if beginning != "nothing":
            for digest in digests.values():
                digest.begun = digest.begun or digest.window.end + GRACE <= now
    return {key: digest.items for key, digest in digests.items()}, late


# --- the same in the database ---------------------------------------------------------------------------------------


@hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    # One database serves all examples: each starts by emptying it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schedule=schedules())
def test_digests_are_what_their_windows_say(database_url: str, schedule: Schedule):
    """Each delivery is in one digest, none is stranded or moved, only late ones are in another (SPEC D-1, D-5)."""
    with psycopg.connect(database_url) as connection:
        db = prepared(connection)
        db.execute("TRUNCATE users, alert_events CASCADE")
        users = [add_user(db, "pro", digest_period=period) for period in schedule.periods]
        deliveries = asyncio.run(_play(db, database_url, schedule, users))
        expected, late = account(schedule)
        event(f"late deliveries: {bool(late)}")
        numbers = {delivery: number for number, delivery in deliveries.items()}
        found = {key: {numbers[delivery] for delivery in row.items} for key, row in _digests(db, users).items()}
        assert found == expected
        _check_each_window(db, schedule, users)
        _check_own_windows(schedule, found, late)
        assert db.execute("SELECT FROM user_alert_deliveries WHERE last_error <> 'batched_into_digest'").rowcount == 0
        assert db.execute("SELECT FROM user_alert_deliveries WHERE status <> 'skipped'").rowcount == 0


async def _play(db: psycopg.Connection, url: str, schedule: Schedule, users: list[int]) -> dict[int, int]:
    """The deliveries' ids by the number of their arrival."""
    deliveries = {}
    fields = {"time_zone": schedule.zone, "digest_grace_minutes": GRACE / MINUTE}
    async with AlertsEngine(settings(url, **fields)) as engine:
        for tick, (now, beginning) in enumerate(zip(schedule.ticks, schedule.beginnings, strict=True)):
            for number, arrival in enumerate(schedule.arrivals):
                if arrival.tick == tick:
                    user = users[arrival.user]
                    deliveries[number] = add_digest_delivery(db, user, arrival.happened_at, arrival.channel)
            frozen = _begun(db)
            (report,) = (await engine.run(Phase.D, now=now)).phases
            assert report.error is None
            assert {key: items for key, items in _begun(db).items() if key in frozen} == frozen
            due = f"UPDATE user_alert_digests SET {BEGINNINGS[beginning]} WHERE status = 'queued' AND"
            db.execute(f"{due} next_retry_at <= %(now)s", {"now": now})
    return deliveries


def _begun(db: psycopg.Connection) -> dict[str, list[int]]:
    rows = db.execute(
        "SELECT g.digest_key, array_agg(i.delivery_id ORDER BY i.delivery_id) AS items FROM user_alert_digests AS g"
        " JOIN user_alert_digest_items AS i ON i.digest_id = g.id WHERE g.status <> 'queued' OR g.attempts > 0"
        " GROUP BY g.digest_key"
    )
    return {row.digest_key: row.items for row in rows}


def _digests(db: psycopg.Connection, users: list[int]) -> dict[tuple[int, str, str], tuple]:
    rows = db.execute(
        "SELECT g.*, array(SELECT i.delivery_id FROM user_alert_digest_items AS i WHERE i.digest_id = g.id) AS items"
        " FROM user_alert_digests AS g"
    ).fetchall()
    assert all(row.digest_key.startswith(f"{row.user_id}:{row.channel}:{row.period}:") for row in rows)
    return {(users.index(row.user_id), row.channel, row.digest_key.split(":", 3)[3]): row for row in rows}


def _check_each_window(db: psycopg.Connection, schedule: Schedule, users: list[int]) -> None:
    for (user, _, label), row in _digests(db, users).items():
        period = schedule.periods[user]
        window = window_of(row.window_start, period, ZoneInfo(schedule.zone))
        assert (row.period, window) == (period, Window(row.window_start, row.window_end, label))
        assert row.attempts > 0 or row.next_retry_at == window.end + GRACE


def _check_own_windows(schedule: Schedule, found: dict[tuple[int, str, str], set[int]], late: Iterable[int]) -> None:
    """What a perfect schedule would have made of the deliveries that came in time."""
    perfect: dict[tuple[int, str, str], set[int]] = {}
    for number, arrival in enumerate(schedule.arrivals):
        window = window_of(arrival.happened_at, schedule.periods[arrival.user], ZoneInfo(schedule.zone))
        perfect.setdefault((arrival.user, arrival.channel, window.label), set()).add(number)
    in_time = {key: items - set(late) for key, items in found.items()}
    assert {key: items for key, items in in_time.items() if items} == {
        key: rest for key, items in perfect.items() if (rest := items - set(late))
    }
