"""Users are deleted while phases B and D work: neither fails, and the application neither waits long nor deadlocks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine import Phase
from alerts_engine.phases import build_digests, group, pages
from tests.support.purger import purging
from tests.support.world import HOUR, NOW, add_digest_delivery, add_event, add_user, prepared, run_phase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from alerts_engine import PhaseReport

WAITS = """
SELECT FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'alerts-engine' AND wait_event_type = 'Lock'
"""
CROWD = "INSERT INTO users (email) SELECT 'crowd' || n || '@example.test' FROM generate_series(1, %s) AS n RETURNING id"


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def has_delivery(db: psycopg.Connection) -> set[int]:
    return {row.user_id for row in db.execute("SELECT user_id FROM user_alert_deliveries")}


def pending(db: psycopg.Connection) -> int:
    return db.execute("SELECT FROM alert_events WHERE fanout_completed_at IS NULL").rowcount


@asynccontextmanager
async def waiting(db: psycopg.Connection, url: str, phase: Phase) -> AsyncIterator[asyncio.Task[PhaseReport]]:
    """A run of ``phase`` that has come to wait for somebody's lock."""
    async with asyncio.timeout(60):
        running = asyncio.create_task(run_phase(url, phase))
        with psycopg.connect(url, autocommit=True) as observer:
            while not observer.execute(WAITS).rowcount and not running.done():  # noqa: ASYNC110 - the database knows
                await asyncio.sleep(0.01)
        yield running
        await asyncio.wait({running})


# --- phase B ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [psycopg.Connection.commit, psycopg.Connection.rollback])
async def test_a_user_whose_deletion_is_open_is_waited_for(
    db: psycopg.Connection, database_url: str, end: Callable[[psycopg.Connection], None]
):
    """Gone or not, the fan-out succeeds, and everybody who is there gets what they should (SPEC B-2)."""
    users = {add_user(db) for _ in range(5)}
    add_event(db)
    with psycopg.connect(database_url) as application:
        application.execute("DELETE FROM users WHERE id = %s", [min(users) + 2])
        async with waiting(db, database_url, Phase.B) as running:
            assert not running.done()
            end(application)
        report = await running
    left = {row.id for row in db.execute("SELECT id FROM users")}
    assert (report.status, report.error) == ("success", None)
    assert has_delivery(db) == left
    assert report.counts["deliveries_created"] == report.counts["users_considered"] == len(left)
    assert pending(db) == 0


async def test_an_application_that_deletes_users_never_waits_for_a_fan_out_that_waits_for_it(
    db: psycopg.Connection, database_url: str
):
    """Who is waited for is waited for alone, with no other user held (SPEC B-2)."""
    users = [add_user(db) for _ in range(5)]
    add_event(db)
    with psycopg.connect(database_url) as application:
        application.execute("SET lock_timeout = '5s'")
        application.execute("DELETE FROM users WHERE id = %s", [users[2]])
        async with waiting(db, database_url, Phase.B) as running:
            for user in (users[0], users[1], users[3]):
                application.execute("DELETE FROM users WHERE id = %s", [user])
            application.commit()
        report = await running
    assert (report.status, report.error) == ("success", None)
    assert has_delivery(db) == {users[4]}


async def test_an_event_that_is_deleted_meanwhile_is_left_out(db: psycopg.Connection, database_url: str):
    """The page is decided once more, without it (SPEC B-2)."""
    user = add_user(db)
    gone, kept = add_event(db), add_event(db)
    with psycopg.connect(database_url) as application:
        application.execute("DELETE FROM alert_events WHERE id = %s", [gone])
        async with waiting(db, database_url, Phase.B) as running:
            application.commit()
        report = await running
    assert (report.status, report.error) == ("success", None)
    assert db.execute("SELECT user_id, alert_event_id FROM user_alert_deliveries").fetchall() == [(user, kept)]


async def test_a_dry_run_waits_for_nobody_it_would_write_to(db: psycopg.Connection, database_url: str):
    """It keeps what it locked to its end, so it leaves out whom somebody else holds (SPEC X-1)."""
    users = [add_user(db) for _ in range(5)]
    add_event(db)
    with psycopg.connect(database_url) as application:
        application.execute("DELETE FROM users WHERE id = %s", [users[2]])
        report = await run_phase(database_url, Phase.B, dry_run=True)
    assert (report.status, report.counts["deliveries_created"]) == ("success", 4)


async def test_the_fan_out_succeeds_beside_a_purge(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """All the while users are deleted, twenty in a transaction: one run is enough, and nobody deadlocks (SPEC B-2)."""
    monkeypatch.setattr(group, "LARGEST_PAGE", 1_000)
    monkeypatch.setattr(pages, "WORTH_TWO_PAGES", 500)
    users = [row.id for row in db.execute(CROWD, [4_000])]
    for _ in range(3):
        add_event(db)
    with purging(database_url, users[::2], at_once=20) as purges:
        report = await run_phase(database_url, Phase.B)
    assert (report.status, report.error) == ("success", None)
    assert purges.deadlocks == 0
    assert purges.deleted > 0
    left = {row.id for row in db.execute("SELECT id FROM users")}
    assert has_delivery(db) == left
    assert pending(db) == 0


# --- phase D ----------------------------------------------------------------------------------------------------------


async def test_digests_wait_for_nobody_who_is_being_deleted(db: psycopg.Connection, database_url: str):
    """The others get theirs; one who stays after all gets it from the next run (SPEC D-1)."""
    users = [add_user(db) for _ in range(5)]
    for user in users:
        add_digest_delivery(db, user)
    with psycopg.connect(database_url) as application:
        application.execute("SET lock_timeout = '5s'")
        application.execute("DELETE FROM users WHERE id = %s", [users[2]])
        report = await run_phase(database_url, Phase.D)
        assert (report.status, report.error) == ("success", None)
        assert report.counts["digest_items_attached"] == 4
        application.rollback()
    assert (await run_phase(database_url, Phase.D)).counts["digest_items_attached"] == 1


async def test_digests_are_built_once_more_after_a_deadlock(db: psycopg.Connection, database_url: str):
    """Whatever the application locks first, in whatever order: the run succeeds (SPEC D-1)."""
    users = [add_user(db), add_user(db)]
    for user in users:
        add_digest_delivery(db, user)
    await run_phase(database_url, Phase.D)
    early, late = (row.id for row in db.execute("SELECT id FROM user_alert_digests ORDER BY digest_key"))
    for user in users:
        add_digest_delivery(db, user)
    with psycopg.connect(database_url) as application:
        application.execute("SET deadlock_timeout = '30s'")  # so that the engine is the one to give way
        application.execute("UPDATE user_alert_digests SET created_at = created_at WHERE id = %s", [late])
        async with waiting(db, database_url, Phase.D) as running:
            application.execute("UPDATE user_alert_digests SET created_at = created_at WHERE id = %s", [early])
            application.commit()
        report = await running
    assert (report.status, report.error) == ("success", None)
    assert report.counts["digest_items_attached"] == 2


async def test_digests_are_built_beside_a_purge(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """All the while users are deleted, twenty in a transaction: one run is enough, and nobody deadlocks (SPEC D-1)."""
    users = [row.id for row in db.execute(CROWD, [4_000])]
    for number in (1, 2):
        event = add_event(db, NOW - number * HOUR, fanned_out=True)
        db.execute(
            "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind)"
            " SELECT id, %s, 'email', 'digest' FROM users",
            [event],
        )
    monkeypatch.setattr(build_digests, "BATCH", 1_000)
    with purging(database_url, users[::2], at_once=20) as purges:
        report = await run_phase(database_url, Phase.D)
    assert (report.status, report.error) == ("success", None)
    assert purges.deadlocks == 0
    assert purges.deleted > 0
    await run_phase(database_url, Phase.D)
    left = {row.id for row in db.execute("SELECT id FROM users")}
    digested = db.execute("SELECT user_id FROM user_alert_digests GROUP BY user_id HAVING count(*) = 1")
    assert {row.user_id for row in digested} == left
    assert not db.execute("SELECT FROM user_alert_deliveries WHERE status = 'queued'").rowcount
