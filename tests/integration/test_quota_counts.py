"""What the fan-out notes of a day's quotas, and that a note gone stale makes no wrong decision (SPEC B-7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import Phase, PlanQuota
from tests.support.world import NOW, add_event, add_user, prepared, run_phase

if TYPE_CHECKING:
    import psycopg

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CAP = 2
QUOTAS = {"pro": PlanQuota(email=CAP, telegram=0, digests=1, alert_types=("ALL",))}


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


async def made(db: psycopg.Connection, url: str, events: int, *, now: datetime = NOW, zone: str = "Europe/Amsterdam"):
    """How many deliveries the fan-out of these events makes."""
    for _ in range(events):
        add_event(db, now - MINUTE)
    report = await run_phase(url, Phase.B, now=now, fields={"plan_quotas": QUOTAS, "time_zone": zone})
    assert report.error is None
    return report.counts["deliveries_created"]


def noted(db: psycopg.Connection) -> list[tuple]:
    return db.execute(
        "SELECT channel, quota_day::text, made FROM user_alert_quotas ORDER BY user_id, channel"
    ).fetchall()


async def test_a_user_has_one_row_a_channel_however_many_days_pass(db, database_url):
    """It speaks of the newest day, and counts what was made on it."""
    add_user(db, "pro")
    for day in range(3):
        assert await made(db, database_url, 1, now=NOW + day * DAY) == 1
    assert await made(db, database_url, 3, now=NOW + 2 * DAY) == CAP - 1
    assert noted(db) == [("email", str((NOW + 2 * DAY).date()), CAP)]


async def test_digests_and_refusals_are_not_counted(db, database_url):
    """Quotas are for instant messages that were made."""
    add_user(db, "pro", digest_only=True)
    add_user(db, "pro", email="")
    assert await made(db, database_url, 2) == 2
    assert noted(db) == []


@pytest.mark.parametrize("deletion", ["DELETE FROM user_alert_deliveries", "TRUNCATE user_alert_deliveries CASCADE"])
async def test_what_is_deleted_gives_its_place_back(db, database_url, deletion):
    """The note is then too high, which refuses nobody."""
    add_user(db, "pro")
    assert await made(db, database_url, 3) == CAP
    db.execute(deletion)
    assert await made(db, database_url, 3) == CAP
    assert await made(db, database_url, 1) == 0


async def test_a_note_that_is_gone_is_made_anew(db, database_url):
    """Whoever empties the table gives nobody a second quota."""
    add_user(db, "pro")
    assert await made(db, database_url, 1) == 1
    db.execute("DELETE FROM user_alert_quotas")
    assert await made(db, database_url, 3) == CAP - 1
    assert [count for *_, count in noted(db)] == [CAP]


@pytest.mark.parametrize(
    ("first", "second"), [("America/New_York", "Europe/Amsterdam"), ("Europe/Amsterdam", "America/New_York")]
)
async def test_a_change_of_the_time_zone_gives_no_second_quota(db, database_url, first, second):
    """What was made within the day of the new zone counts, whatever day it was in the old one."""
    add_user(db, "pro")
    night = datetime(2025, 11, 10, 1, 30, tzinfo=UTC)  # the 9th in New York, the 10th in Amsterdam
    assert await made(db, database_url, 3, now=night, zone=first) == CAP
    assert await made(db, database_url, 3, now=night + HOUR, zone=second) == 0
    assert await made(db, database_url, 3, now=night + 2 * HOUR, zone=first) == 0


async def test_replaying_an_older_day_changes_nothing_about_today(db, database_url):
    """``--now`` decides by the day it names, and today's quota stays used."""
    add_user(db, "pro")
    assert await made(db, database_url, 3) == CAP
    assert await made(db, database_url, 1, now=NOW - 3 * DAY) == 1
    assert await made(db, database_url, 3) == 0
    assert await made(db, database_url, 2, now=NOW - 3 * DAY) == CAP - 1


async def test_the_note_goes_with_its_user(db, database_url):
    """The application deletes users as it always did (SPEC DB-3)."""
    user = add_user(db, "pro")
    assert await made(db, database_url, 1) == 1
    db.execute("DELETE FROM users WHERE id = %s", [user])
    assert noted(db) == []
