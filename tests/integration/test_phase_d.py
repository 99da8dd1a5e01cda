"""Phase D in a real database: grouping, windows on the days when the clocks change, late deliveries, races with C."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import Phase
from alerts_engine.database import connect
from alerts_engine.phases.build_digests import DigestCounts, build_digests
from alerts_engine.phases.context import PhaseContext
from tests.support.world import (
    DAY,
    HOUR,
    NOT_STOPPED,
    NOW,
    add_delivery,
    add_digest_delivery,
    add_event,
    add_plan_settings,
    add_user,
    prepared,
    run,
    run_phase,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from alerts_engine import PhaseReport


def made(digests: int, items: int) -> dict[str, object]:
    """The counts of a run that made ``digests`` digests and put ``items`` items into them."""
    counts = {"digests_created": digests, "digest_items_attached": items, "deliveries_marked_batched": items}
    counts |= {"bundles_created": 0, "deliveries_bundled": 0}
    return counts | NOT_STOPPED


NOTHING = made(0, 0)


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


async def build(url: str, now: datetime = NOW, **fields: object) -> PhaseReport:
    return await run_phase(url, Phase.D, now=now, fields=fields)


def digests(db: psycopg.Connection) -> dict[str, set[int]]:
    """The deliveries in each digest, by its key."""
    rows = db.execute(
        "SELECT g.digest_key, array_remove(array_agg(i.delivery_id), NULL) AS items FROM user_alert_digests AS g"
        " LEFT JOIN user_alert_digest_items AS i ON i.digest_id = g.id GROUP BY g.digest_key"
    )
    return {row.digest_key: set(row.items) for row in rows}


def windows(db: psycopg.Connection) -> dict[str, tuple[datetime, datetime, datetime]]:
    """Start, end and due time of each digest, by its key without the user."""
    rows = db.execute("SELECT * FROM user_alert_digests")
    return {row.digest_key.split(":", 1)[1]: (row.window_start, row.window_end, row.next_retry_at) for row in rows}


def queued(db: psycopg.Connection) -> set[int]:
    return {row.id for row in db.execute("SELECT id FROM user_alert_deliveries WHERE status = 'queued'")}


def begin(db: psycopg.Connection, state: str, key: str = "%") -> None:
    """Bring digests to a state that phase C leaves them in."""
    assignments = {
        "sending": "status = 'sending', claimed_by = 'a run', lease_expires_at = now() + interval '5 minutes'",
        "sent": "status = 'sent', sent_at = now(), next_retry_at = NULL",
        "failed": "status = 'failed', attempts = 5, next_retry_at = NULL",
        "skipped": "status = 'skipped', next_retry_at = NULL",
        "tried": "attempts = 1, next_retry_at = now() + interval '1 minute', last_error = 'a_code'",
        "to be tried afresh": "attempts = 0, next_retry_at = NULL, last_error = 'a_code'",
    }
    db.execute(f"UPDATE user_alert_digests SET {assignments[state]} WHERE digest_key LIKE %s", [key])


# --- grouping -------------------------------------------------------------------------------------------------------


async def test_a_digest_for_each_user_channel_and_window(db, database_url):
    """And the deliveries are marked, all with their counts (SPEC D-1, D-3, D-6)."""
    ada, bob = add_user(db), add_user(db)
    first, second = add_digest_delivery(db, ada, NOW - HOUR), add_digest_delivery(db, ada, NOW - 2 * HOUR)
    telegram = add_digest_delivery(db, ada, NOW - HOUR, "telegram")
    yesterday = add_digest_delivery(db, ada, NOW - DAY)
    other = add_digest_delivery(db, bob, NOW - HOUR)
    report = await build(database_url)
    assert digests(db) == {
        f"{ada}:email:daily:2025-11-10": {first, second},
        f"{ada}:telegram:daily:2025-11-10": {telegram},
        f"{ada}:email:daily:2025-11-09": {yesterday},
        f"{bob}:email:daily:2025-11-10": {other},
    }
    assert report.counts == made(4, 5)
    assert [
        tuple(row) for row in db.execute("SELECT DISTINCT status, last_error, attempts FROM user_alert_deliveries")
    ] == [("skipped", "batched_into_digest", 0)]
    assert [tuple(row) for row in db.execute("SELECT DISTINCT status, attempts FROM user_alert_digests")] == [
        ("queued", 0)
    ]


async def test_what_is_not_a_queued_digest_delivery_is_left_alone(db, database_url):
    """Instant ones, ended ones, the application's feed (SPEC D-1)."""
    user = add_user(db)
    add_delivery(db, user, add_event(db), kind="instant")
    add_delivery(db, user, add_event(db), channel="account", kind="instant", status="sent")
    for status in ("sending", "sent", "failed", "skipped"):
        add_delivery(db, user, add_event(db), kind="digest", status=status)
    before = db.execute("SELECT * FROM user_alert_deliveries ORDER BY id").fetchall()
    report = await build(database_url)
    assert report.counts == NOTHING
    assert db.execute("SELECT * FROM user_alert_deliveries ORDER BY id").fetchall() == before
    assert digests(db) == {}


async def test_nothing_to_batch_is_a_clean_no_op(db, database_url):
    """Zero items (SPEC D-6)."""
    report = await build(database_url)
    assert (report.status, report.counts) == ("success", NOTHING)


async def test_running_it_twice_changes_nothing(db, database_url):
    """Not a row (SPEC D-6)."""
    user = add_user(db)
    add_digest_delivery(db, user)
    await build(database_url)
    tables = (
        "SELECT g::text AS digest, i::text AS item, d::text AS delivery"
        " FROM user_alert_digests AS g, user_alert_digest_items AS i, user_alert_deliveries AS d"
    )
    before = db.execute(tables).fetchall()
    report = await build(database_url, NOW + HOUR)
    assert report.counts == NOTHING
    assert db.execute(tables).fetchall() == before


async def test_a_digest_is_all_or_nothing(db, database_url):
    """When marking fails, no digest and no item is left behind (SPEC D-1)."""
    user = add_user(db)
    delivery = add_digest_delivery(db, user)
    db.execute("ALTER TABLE user_alert_deliveries ADD CONSTRAINT refuses CHECK (last_error IS NULL)")
    report = await build(database_url)
    assert report.status == "failed"
    assert "refuses" in report.error
    assert (digests(db), queued(db)) == ({}, {delivery})


async def test_more_than_one_batch_is_taken_in_one_run(db, database_url, monkeypatch):
    """Two batches may meet in one digest (SPEC D-1, D-6)."""
    monkeypatch.setattr("alerts_engine.phases.build_digests.BATCH", 2)
    user = add_user(db)
    items = {add_digest_delivery(db, user) for _ in range(5)}
    report = await build(database_url)
    assert report.counts == made(1, 5)
    assert digests(db) == {f"{user}:email:daily:2025-11-10": items}


# --- periods --------------------------------------------------------------------------------------------------------


async def test_the_period_is_the_users_then_the_settings_where_the_plan_allows_it(db, database_url):
    """Hourly needs 24 digests a day (SPEC D-2, B-5)."""
    add_plan_settings(db, "trader", {"email": {"max_per_day": 96}})
    add_plan_settings(db, "pro", {"email": {"max_per_day": 95}})
    periods = {
        ("enterprise", "hourly"): "hourly",
        ("enterprise", "daily"): "daily",
        ("enterprise", None): "hourly",
        ("trader", "hourly"): "hourly",
        ("pro", "hourly"): "daily",
        ("personal", "hourly"): "daily",
        ("unknown", "hourly"): "daily",
        (None, None): "daily",
    }
    wanted = {}
    for (plan, period), expected in periods.items():
        user = add_user(db, plan, digest_period=period)
        add_digest_delivery(db, user)
        wanted[user] = expected
    await build(database_url, digest_period="hourly")
    rows = db.execute("SELECT user_id, period FROM user_alert_digests")
    assert {row.user_id: row.period for row in rows} == wanted


async def test_without_a_wish_a_digest_is_daily(db, database_url):
    """ALERTS_DIGEST_PERIOD's default (SPEC D-2)."""
    add_digest_delivery(db, add_user(db, "enterprise"))
    await build(database_url)
    assert list(windows(db)) == ["email:daily:2025-11-10"]


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "starts", "hours"),
    [
        (date(2025, 11, 10), datetime(2025, 11, 9, 23, tzinfo=UTC), 24),
        (date(2025, 3, 30), datetime(2025, 3, 29, 23, tzinfo=UTC), 23),
        (date(2025, 10, 26), datetime(2025, 10, 25, 22, tzinfo=UTC), 25),
    ],
)
async def test_a_daily_window_is_the_local_day(db, database_url, day, starts, hours):
    """Half-open, also of 23 and 25 hours; due when it has ended, and the grace (SPEC D-2, D-4)."""
    ends, tick = starts + hours * HOUR, timedelta(microseconds=1)
    user = add_user(db)
    before, first, last, after = (
        add_digest_delivery(db, user, moment) for moment in (starts - tick, starts, ends - tick, ends)
    )
    await build(database_url, ends + HOUR, digest_grace_minutes=7.5)
    assert digests(db) == {
        f"{user}:email:daily:{day - DAY}": {before},
        f"{user}:email:daily:{day}": {first, last},
        f"{user}:email:daily:{day + DAY}": {after},
    }
    assert windows(db)[f"email:daily:{day}"] == (starts, ends, ends + timedelta(minutes=7.5))


async def test_the_hour_that_comes_twice_has_two_digests(db, database_url):
    """Each with a key of its own; and the hour that is left out has none (SPEC D-2, D-3)."""
    user = add_user(db, "pro", digest_period="hourly")
    autumn, spring = datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2025, 3, 30, 0, 30, tzinfo=UTC)
    for first in (autumn, spring):
        for hour in range(3):
            add_digest_delivery(db, user, first + hour * HOUR)
    await build(database_url)
    half = timedelta(minutes=30)
    found = {key.removeprefix("email:hourly:"): (start, end) for key, (start, end, _) in windows(db).items()}
    assert found == {
        "2025-03-30T01+01:00": (spring - half, spring + half),
        "2025-03-30T03+02:00": (spring + half, spring + HOUR + half),
        "2025-03-30T04+02:00": (spring + HOUR + half, spring + 2 * HOUR + half),
        "2025-10-26T02+02:00": (autumn - half, autumn + half),
        "2025-10-26T02+01:00": (autumn + half, autumn + HOUR + half),
        "2025-10-26T03+01:00": (autumn + HOUR + half, autumn + 2 * HOUR + half),
    }


async def test_windows_are_those_of_the_zone(db, database_url):
    """Offsets of quarters, negative ones, and a clock that changes by half an hour (SPEC D-2, D-3)."""
    user = add_user(db, "pro", digest_period="hourly")
    moments = {
        "Asia/Kathmandu": (datetime(2025, 11, 10, 18, 20, tzinfo=UTC), "2025-11-11T00+05:45", 60),
        "America/St_Johns": (datetime(2025, 11, 10, 3, 35, tzinfo=UTC), "2025-11-10T00-03:30", 60),
        "Australia/Lord_Howe": (datetime(2025, 4, 5, 15, 10, tzinfo=UTC), "2025-04-06T01+10:30", 30),
    }
    for zone, (moment, _, _) in moments.items():
        add_digest_delivery(db, user, moment)
        await build(database_url, moment + HOUR, time_zone=zone)
    found = {key.removeprefix("email:hourly:"): (end - start) for key, (start, end, _) in windows(db).items()}
    assert found == {key: timedelta(minutes=minutes) for _, key, minutes in moments.values()}


# --- joining, and coming late ---------------------------------------------------------------------------------------


async def test_later_items_of_the_window_join_its_digest(db, database_url):
    """Until it begins, also when it is overdue; its due time stays (SPEC D-4)."""
    user = add_user(db)
    first = add_digest_delivery(db, user, NOW - HOUR)
    await build(database_url)
    due = windows(db)
    second = add_digest_delivery(db, user, NOW)
    joined = await build(database_url, NOW + HOUR)
    third = add_digest_delivery(db, user, NOW + HOUR)
    await build(database_url, NOW + 3 * DAY)
    assert joined.counts == made(0, 1)
    assert digests(db) == {f"{user}:email:daily:2025-11-10": {first, second, third}}
    assert windows(db) == due


@pytest.mark.parametrize("state", ["sending", "sent", "failed", "skipped", "tried", "to be tried afresh"])
async def test_what_comes_after_its_digest_began_joins_the_next_one(db, database_url, state):
    """What was tried once does not change (SPEC D-5)."""
    user = add_user(db)
    first = add_digest_delivery(db, user, NOW - DAY)
    await build(database_url, NOW - DAY)
    begin(db, state)
    late = add_digest_delivery(db, user, NOW - DAY)
    report = await build(database_url)
    assert report.counts == made(1, 1)
    assert digests(db) == {f"{user}:email:daily:2025-11-09": {first}, f"{user}:email:daily:2025-11-10": {late}}


async def test_a_late_delivery_passes_over_every_digest_that_has_begun(db, database_url):
    """To the first that has not, where items of its own window may be already (SPEC D-5)."""
    user = add_user(db)
    for days in (3, 2, 1):
        add_digest_delivery(db, user, NOW - days * DAY)
    await build(database_url, NOW - DAY)
    begin(db, "sent")
    own = add_digest_delivery(db, user, NOW)
    await build(database_url)
    late = add_digest_delivery(db, user, NOW - 3 * DAY)
    await build(database_url)
    assert digests(db)[f"{user}:email:daily:2025-11-10"] == {own, late}


async def test_other_users_channels_and_periods_do_not_make_a_delivery_late(db, database_url):
    """Only its own window's digest counts (SPEC D-5)."""
    ada, bob = add_user(db, "pro", digest_period="hourly"), add_user(db)
    add_digest_delivery(db, ada, NOW)
    add_digest_delivery(db, bob, NOW)
    await build(database_url)
    begin(db, "sent")
    telegram, another = add_digest_delivery(db, ada, NOW, "telegram"), add_digest_delivery(db, ada, NOW - HOUR)
    db.execute("UPDATE user_notification_settings SET digest_period = 'daily'")
    await build(database_url)
    found = digests(db)
    assert found[f"{ada}:telegram:daily:2025-11-10"] == {telegram}
    assert found[f"{ada}:email:daily:2025-11-10"] == {another}


async def test_after_the_first_of_two_equal_hours_comes_the_second(db, database_url):
    """Though its key sorts before (SPEC D-3, D-5)."""
    user = add_user(db, "pro", digest_period="hourly")
    first = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    add_digest_delivery(db, user, first)
    await build(database_url, first + HOUR)
    begin(db, "sent")
    late = add_digest_delivery(db, user, first)
    await build(database_url, first + HOUR)
    assert digests(db)[f"{user}:email:hourly:2025-10-26T02+01:00"] == {late}


@pytest.mark.parametrize("days", [3, 9, 40])
async def test_a_delivery_is_not_stranded_by_digests_of_the_future(db, database_url, days):
    """A replay of days whose digests were sent joins the first after them, whole as any (SPEC D-5)."""
    user = add_user(db)
    for day in range(days):
        add_digest_delivery(db, user, NOW + day * DAY)
    await build(database_url, NOW + days * DAY)
    begin(db, "sent")
    late = add_digest_delivery(db, user, NOW)
    report = await build(database_url, NOW)
    assert report.error is None
    after = (NOW + days * DAY).date()
    assert digests(db)[f"{user}:email:daily:{after}"] == {late}
    start, end, _ = windows(db)[f"email:daily:{after}"]
    assert start <= NOW + days * DAY < end == start + DAY


async def test_a_delivery_is_not_stranded_by_a_change_of_time_zone(db, database_url):
    """A key that was made under another zone is as taken as any (SPEC D-5)."""
    user = add_user(db)
    add_digest_delivery(db, user, datetime(2025, 11, 10, 9, 59, tzinfo=UTC))
    await build(database_url, time_zone="Pacific/Kiritimati")
    assert digests(db).keys() == {f"{user}:email:daily:2025-11-10"}
    begin(db, "sent")
    # The same local day of the zone at the other end, fifty hours after the window of that digest began.
    late = add_digest_delivery(db, user, datetime(2025, 11, 11, 11, 59, tzinfo=UTC))
    report = await build(database_url, time_zone="Etc/GMT+12")
    assert report.error is None
    assert digests(db)[f"{user}:email:daily:2025-11-11"] == {late}


# --- beside phase C -------------------------------------------------------------------------------------------------


def claim(db: psycopg.Connection) -> int:
    """What phase C does first: how many digests it got."""
    claimed = db.execute(
        "UPDATE user_alert_digests SET status = 'sending', claimed_by = 'a run', lease_expires_at = now() WHERE id IN"
        " (SELECT id FROM user_alert_digests WHERE status = 'queued' FOR UPDATE SKIP LOCKED)"
    )
    return claimed.rowcount


async def somebody_waits_for(db: psycopg.Connection) -> None:
    """Until another connection waits for the end of this one's transaction."""
    waiting = "SELECT FROM pg_locks WHERE transactionid = pg_current_xact_id()::xid AND NOT granted"
    async with asyncio.timeout(20):
        while not db.execute(waiting).rowcount:  # noqa: ASYNC110 - it is the database that knows
            await asyncio.sleep(0.01)


async def test_an_item_does_not_join_a_digest_that_is_being_claimed(db, database_url):
    """Phase D waits for the claim's commit, then takes the next window (SPEC D-5)."""
    user = add_user(db)
    first = add_digest_delivery(db, user, NOW - DAY)
    await build(database_url, NOW - DAY)
    late = add_digest_delivery(db, user, NOW - DAY)
    with db.transaction():
        assert claim(db) == 1
        building = asyncio.create_task(build(database_url))
        await somebody_waits_for(db)
    report = await building
    assert report.counts == made(1, 1)
    assert digests(db) == {f"{user}:email:daily:2025-11-09": {first}, f"{user}:email:daily:2025-11-10": {late}}
    assert queued(db) == set()


async def test_an_item_joins_after_all_when_the_claim_comes_to_nothing(db, database_url):
    """The sender was killed before its commit (SPEC D-4)."""
    user = add_user(db)
    first = add_digest_delivery(db, user)
    await build(database_url)
    second = add_digest_delivery(db, user)
    with db.transaction(force_rollback=True):
        assert claim(db) == 1
        building = asyncio.create_task(build(database_url))
        await somebody_waits_for(db)
    await building
    assert digests(db) == {f"{user}:email:daily:2025-11-10": {first, second}}


async def test_a_digest_that_items_are_joining_is_not_claimed(db, database_url):
    """Phase C passes it over until they are in (SPEC C-2, D-5)."""
    user = add_user(db)
    add_digest_delivery(db, user)
    await build(database_url)
    add_digest_delivery(db, user)
    async with connect(database_url) as database:
        async with database.transaction() as joining:
            await build_digests(PhaseContext(joining, settings(database_url), "a run", NOW), DigestCounts())
            assert claim(db) == 0
        assert claim(db) == 1
    assert [len(items) for items in digests(db).values()] == [2]


async def test_builders_side_by_side_share_the_work(db, database_url, monkeypatch):
    """Without the phase lock: each delivery is in one digest, and each digest is made once (SPEC D-1)."""
    monkeypatch.setattr("alerts_engine.phases.build_digests.BATCH", 7)
    users = [add_user(db) for _ in range(5)]
    items = {add_digest_delivery(db, user) for user in users for _ in range(20)}
    counts = [DigestCounts() for _ in range(4)]
    async with connect(database_url) as database:
        context = PhaseContext(database, settings(database_url), "a run", NOW)
        await asyncio.gather(*(build_digests(context, own) for own in counts))
    assert total(counts, "digests_created") == 5
    assert total(counts, "digest_items_attached") == total(counts, "deliveries_marked_batched") == 100
    found = digests(db)
    assert (len(found), set().union(*found.values()), queued(db)) == (5, items, set())


def total(counts: Iterable[DigestCounts], name: str) -> int:
    return sum(getattr(own, name) for own in counts)


# --- one in the way of others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["infinity", "-infinity", "0001-01-01 BC", "290000-01-01", "9000-06-01", "1900-06-01"]
)
async def test_an_event_of_another_age_keeps_nobodys_digest_from_being_built(db, database_url, moment):
    """However far it is from the others, no window between them is looked at (SPEC D-1)."""
    user, other = add_user(db), add_user(db)
    strange, usual = add_digest_delivery(db, user), add_digest_delivery(db, other)
    db.execute(
        "UPDATE alert_events SET created_at = %s"
        " WHERE id = (SELECT alert_event_id FROM user_alert_deliveries WHERE id = %s)",
        [moment, strange],
    )
    report = await build(database_url)
    assert report.error is None
    assert report.counts == made(2, 2)
    assert digests(db)[f"{other}:email:daily:2025-11-10"] == {usual}
    assert queued(db) == set()


def time_out(db: psycopg.Connection, condition: str) -> None:
    """Let a batch be broken off by the server that attaches items of which the ``condition`` holds as a whole."""
    db.execute(
        "CREATE FUNCTION time_out() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN IF (SELECT {condition} FROM made) THEN RAISE query_canceled; END IF; RETURN NULL; END $$"
    )
    db.execute(
        "CREATE TRIGGER time_out AFTER INSERT ON user_alert_digest_items REFERENCING NEW TABLE AS made"
        " FOR EACH STATEMENT EXECUTE FUNCTION time_out()"
    )


async def test_batches_that_take_too_long_become_smaller(db, database_url, monkeypatch):
    """And larger again; the run says so (SPEC D-1, CLI-6c)."""
    monkeypatch.setattr("alerts_engine.phases.build_digests.BATCH", 100)
    for _ in range(30):
        add_digest_delivery(db, add_user(db))
    time_out(db, "count(*) > 5")
    report = await run(database_url, Phase.D)
    assert report.error is None
    assert report.phases[0].counts == made(30, 30)
    assert report.warnings[0].startswith("building digests took longer than 60s for ")


async def test_a_delivery_that_takes_too_long_even_alone_stays_queued_by_name(db, database_url):
    """The others come into their digests, and the next run tries it again (SPEC D-1)."""
    deliveries = [add_digest_delivery(db, add_user(db)) for _ in range(5)]
    slow = deliveries[2]
    time_out(db, f"bool_or(delivery_id = {slow})")
    report = await build(database_url)
    assert report.error == f"1 digest deliveries took longer than 60s even alone, and stay queued: {slow}"
    assert report.counts == made(4, 4)
    assert queued(db) == {slow}
    db.execute("DROP TRIGGER time_out ON user_alert_digest_items")
    assert (await build(database_url)).counts == made(1, 1)


async def test_a_dry_run_leaves_the_settings_of_its_transaction_as_they_were(db, database_url):
    """What comes after phase D has its own pace (SPEC X-1)."""
    add_digest_delivery(db, add_user(db))
    read = "SELECT name, setting FROM pg_settings WHERE name !~ '^plpgsql' ORDER BY name"
    async with connect(database_url) as database, database.session() as session, session.transaction():
        before = await session._connection.fetch(read)
        context = PhaseContext(session, settings(database_url), "run", NOW, dry_run=True)
        await build_digests(context, DigestCounts())
        assert await session._connection.fetch(read) == before
