"""A row that is there already is left alone; an id that is taken already is an error that says what to do."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from structlog.testing import capture_logs

from alerts_engine import AlertsEngine, NewEvent, Phase
from alerts_engine.errors import DuplicateKeyError
from tests.support.world import (
    HOUR,
    NOW,
    add_delivery,
    add_digest_delivery,
    add_event,
    add_news,
    add_user,
    prepared,
    run_phase,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WAITING = "SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture
def legacy(db: psycopg.Connection) -> psycopg.Connection:
    """A database on which the application's unique cooldown key stays (SPEC DB-3)."""
    db.execute("CREATE UNIQUE INDEX legacy_cooldown ON alert_events (cooldown_key)")
    return db


def restart_ids(db: psycopg.Connection, table: str) -> None:
    """Let the table's sequence begin again, as after a restore of its rows alone."""
    db.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1, FALSE)")


# --- the cooldown key of a legacy database --------------------------------------------------------------------------


def event(name: str, cooldown_key: str) -> NewEvent:
    return NewEvent(
        alert_type="OUTAGE", severity=4, headline="Outage", event_fingerprint=name, cooldown_key=cooldown_key
    )


async def test_a_cooldown_key_that_somebody_takes_meanwhile_is_known(legacy, database_url):
    """Also when it was not there as the insert began (SPEC A-1, DB-3)."""
    async with AlertsEngine(settings(database_url)) as engine:
        with legacy.transaction():
            taken = add_event(legacy, cooldown_key="outage of today")
            publishing = asyncio.create_task(engine.publish(event("ours", "outage of today")))
            async with asyncio.timeout(20):
                with psycopg.connect(database_url, autocommit=True) as observer:
                    while not observer.execute(WAITING).rowcount:  # noqa: ASYNC110 - the database knows
                        await asyncio.sleep(0.01)
        published = await publishing
    assert published.event_id == taken
    assert not published.created
    assert [row.id for row in legacy.execute("SELECT id FROM alert_events")] == [taken]


RULE_OF_THREE = """
SELECT 'OUTAGE' AS alert_type, NULL AS scope_region, '{}'::text[] AS scope_assets, 4 AS severity, 'x' AS headline,
       NULL AS body, '{}'::int[] AS driver_event_ids, cooldown_key, event_fingerprint, NULL::jsonb AS payload
  FROM (VALUES ('known', 'a'), ('first', 'b'), ('second', 'b')) AS e(event_fingerprint, cooldown_key)"""


@pytest.mark.parametrize(("unique", "made"), [(True, {"first"}), (False, {"first", "second"})])
async def test_of_two_events_with_one_cooldown_key_the_first_stands_where_it_is_unique(
    db, database_url, tmp_path, unique, made
):
    """On a fresh database both do: there the key is no identity (SPEC A-1, DB-3)."""
    if unique:
        db.execute("CREATE UNIQUE INDEX legacy_cooldown ON alert_events (cooldown_key)")
    add_event(db, fingerprint="known", cooldown_key="another one")
    (tmp_path / "three.sql").write_text(RULE_OF_THREE)
    report = await run_phase(database_url, Phase.A, fields={"rules_dir": tmp_path})
    assert report.counts["by_rule"]["three"] == {"created": len(made), "skipped_duplicate": 3 - len(made)}
    found = {row.event_fingerprint for row in db.execute("SELECT event_fingerprint FROM alert_events")}
    assert found == {"known", *made}


# --- ids ------------------------------------------------------------------------------------------------------------


def rule_finds_an_event(db: psycopg.Connection) -> Phase:
    add_event(db, fanned_out=True)
    add_news(db)
    return Phase.A


def event_waits_for_its_fan_out(db: psycopg.Connection) -> Phase:
    user = add_user(db, "pro")
    add_delivery(db, user, add_event(db, fanned_out=True))
    add_event(db)
    return Phase.B


def delivery_waits_for_its_digest(db: psycopg.Connection) -> Phase:
    db.execute(
        "INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end, digest_key)"
        " VALUES (%s, 'email', 'daily', %s, %s, 'of another day')",
        [add_user(db), NOW, NOW + HOUR],
    )
    add_digest_delivery(db, add_user(db))
    return Phase.D


COLLISIONS = {
    "alert_events": rule_finds_an_event,
    "user_alert_deliveries": event_waits_for_its_fan_out,
    "user_alert_digests": delivery_waits_for_its_digest,
}


@pytest.mark.parametrize("table", COLLISIONS)
async def test_an_id_that_is_taken_is_no_duplicate(db, database_url, table):
    """The phase fails, says which sequence is behind, and works once it is set as the error says (SPEC A-1, B-3)."""
    prepare: Callable[[psycopg.Connection], Phase] = COLLISIONS[table]
    phase = prepare(db)
    restart_ids(db, table)
    report = await run_phase(database_url, phase)
    assert report.status == "failed"
    advice = re.search(r"the next id of (\w+) is taken.*: run (SELECT .*)", report.error)
    assert advice[1] == table
    db.execute(advice[2])
    assert (await run_phase(database_url, phase)).status == "success"
    assert db.execute(f"SELECT count(*) AS n FROM {table} WHERE id > 1").fetchone().n == 1


async def test_a_published_event_whose_id_is_taken_is_an_error(db, database_url):
    """Not somebody else's event (SPEC A-7)."""
    add_event(db)
    restart_ids(db, "alert_events")
    async with AlertsEngine(settings(database_url)) as engine:
        with pytest.raises(DuplicateKeyError, match="the next id of alert_events is taken"):
            await engine.publish(event("ours", "ours"))


@pytest.mark.parametrize("table", ["alerts_engine_runs", "alerts_engine_run_items"])
async def test_a_record_whose_id_is_taken_is_a_warning_that_says_so(db, database_url, table):
    """The run goes on (SPEC O-2)."""
    await run_phase(database_url, Phase.B)
    restart_ids(db, table)
    with capture_logs() as lines:
        assert (await run_phase(database_url, Phase.B)).status == "success"
    warnings = [line["error"] for line in lines if line["event"] == "history_not_written"]
    assert f"the next id of {table} is taken" in warnings[0]
