"""Nobody's rows hold up the fan-out for the others: they are reduced, and what takes too long is divided (SPEC B-2)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from alerts_engine import AlertsEngine, Phase
from alerts_engine.database import connect
from alerts_engine.locks import FAN_OUT_KEYS
from alerts_engine.phases import fan_out, one_page, pages
from alerts_engine.phases.context import PhaseContext
from alerts_engine.phases.plans import channels_as_json, plans_as_json
from tests.support.world import (
    HOUR,
    NOW,
    add_event,
    add_preference,
    add_user,
    prepared,
    run_phase,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from alerts_engine import PhaseReport, RunReport


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture
def two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the audience is, it is divided into two pages."""
    monkeypatch.setattr(pages, "WORTH_TWO_PAGES", 2)


def delivered(db: psycopg.Connection) -> set[tuple[int, int]]:
    rows = db.execute("SELECT user_id, alert_event_id FROM user_alert_deliveries")
    return {(row.user_id, row.alert_event_id) for row in rows}


def pending(db: psycopg.Connection) -> set[int]:
    return {row.id for row in db.execute("SELECT id FROM alert_events WHERE fanout_completed_at IS NULL")}


# --- preference rows are reduced to those that differ -----------------------------------------------------------------


async def test_the_same_row_a_thousand_times_is_held_against_events_once(db: psycopg.Connection, database_url: str):
    """The rows that the statement handles do not grow with rows times events (SPEC B-4)."""
    copies, count = 2_000, 100
    user = add_user(db, "pro")
    for condition in (", 120", ", 120 + n", ", 120 + n % 5"):
        db.execute("TRUNCATE user_alert_prefs")
        db.execute(
            "INSERT INTO user_alert_prefs (user_id, region, alert_type, threshold, cooldown_minutes)"
            f" SELECT {user}, 'Europe', 'REGIONAL_RISK_SPIKE', 50 + n * 0.001{condition}"
            f" FROM generate_series(1, {copies}) AS n"
        )
        events = [
            add_event(db, alert_type="REGIONAL_RISK_SPIKE", value=50 + number % 7, cooldown_key=f"{number}")
            for number in range(count)
        ]
        most = await _most_rows(database_url, events, user)
        assert most < 3 * copies, condition


async def _most_rows(url: str, events: list[int], user: int) -> float:
    """The most rows that any step of the page's plan gives, all its loops together."""
    explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {one_page.fan_out_page.definition.text}"
    async with connect(url) as database, database.transaction() as page:
        plans = await plans_as_json(database, settings(url))
        await page.run(one_page.begin_page, key=FAN_OUT_KEYS[0], lock_patience="20s", patience="60s")
        values = one_page.fan_out_page.definition.bind(
            {
                "event_ids": events, "after_user": user - 1, "last_user": user, "now": NOW,
                "time_zone": "Europe/Amsterdam", "plans": plans, "allowlist": None, "record": True,
                "channels": channels_as_json(), "overflow": False,
            }
        )  # fmt: skip
        (row,) = await page._connection.fetch(explain, *values)
    return max(_rows(json.loads(row[0])))


def _rows(plan: Any) -> Iterator[float]:
    if isinstance(plan, list):
        for part in plan:
            yield from _rows(part)
    elif isinstance(plan, dict):
        yield plan.get("Actual Rows", 0) * plan.get("Actual Loops", 0)
        for part in plan.values():
            yield from _rows(part)


ODD_NUMBERS = st.sampled_from([None, 0.0, 50.0, 50.01, 70.0, 100.0, float("nan"), float("inf"), float("-inf")])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["Europe", " EUROPE ", "Asia", "global", "", "Nowhere"]),
        st.sampled_from(["ASSET_RISK_SPIKE", "REGIONAL_RISK_SPIKE", "HIGH_IMPACT_EVENT", "SOMETHING_ELSE", ""]),
        st.sampled_from([None, "gas", "oil", "fx"]),
        ODD_NUMBERS,
        st.sampled_from([True, True, True, False, None]),
        st.sampled_from([None, 0, 60, 120, -5]),
    ),
    max_size=8,
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ASSET_RISK_SPIKE", "REGIONAL_RISK_SPIKE", "HIGH_IMPACT_EVENT", ""]),
        st.sampled_from(["Europe", "Asia", "global", None, " "]),
        st.lists(st.sampled_from(["gas", "GAS", "oil", "", "none"]), max_size=2),
        st.sampled_from([None, -3.0, 50.0, 50.01, 70.0, 1e301]),
    ),
    min_size=2,
    max_size=6,
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(users=st.lists(ROWS, min_size=1, max_size=3), events=EVENTS)
def test_events_together_are_wanted_as_each_of_them_alone(database_url: str, users: list, events: list):
    """Where rows are reduced and where they are not (SPEC B-4)."""
    asyncio.run(_compare(database_url, users, events))


async def _compare(url: str, users: list, events: list) -> None:
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC"})
    await connection.execute("TRUNCATE users, alert_events CASCADE")
    for number, rows in enumerate(users, start=1):
        await connection.execute("INSERT INTO users (id, email) VALUES ($1, $2)", number, f"{number}@example.test")
        await connection.execute("INSERT INTO user_plans (user_id, plan) VALUES ($1, 'pro')", number)
        await connection.executemany(
            "INSERT INTO user_alert_prefs (user_id, region, alert_type, asset, threshold, enabled, cooldown_minutes)"
            f" VALUES ({number}, $1, $2, $3, $4, $5, $6)",
            rows,
        )
    await connection.executemany(
        "INSERT INTO alert_events (id, alert_type, scope_region, scope_assets, headline, body, cooldown_key,"
        " event_fingerprint, payload) VALUES ($1, $2, $3, $4, 'x', '', $1::int8::text, $1::int8::text, $5)",
        [(number, *event[:3], json.dumps({"value": event[3]})) for number, event in enumerate(events, start=1)],
    )
    await connection.close()
    numbers = range(1, len(events) + 1)
    async with connect(url) as database:
        alone = [await _wanted(url, database, [number], len(users)) for number in numbers]
        assert await _wanted(url, database, list(numbers), len(users)) == {
            key: one[key] for one in alone for key in one
        }


async def _wanted(url: str, database: Any, events: list[int], last_user: int) -> dict[tuple[int, int, str], Any]:
    page = await database.row(
        one_page.fan_out_page,
        event_ids=events, after_user=0, last_user=last_user, now=NOW, time_zone="Europe/Amsterdam",
        plans=await plans_as_json(database, settings(url)), allowlist=None, record=False,
        channels=channels_as_json(), overflow=False,
    )  # fmt: skip
    return {
        (one["event_id"], one["user_id"], one["channel"]): (one["wanted"], one["cooldown_minutes"], one["reason"])
        for one in page.decisions
        if one["reason"] != "quota"  # of several events the first get what there is
    }


# --- what takes too long is divided -----------------------------------------------------------------------------------


def time_out(db: psycopg.Connection, condition: str) -> None:
    """Let a page be broken off by the server that makes deliveries of which the ``condition`` holds as a whole."""
    db.execute(
        "CREATE FUNCTION time_out() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN IF (SELECT {condition} FROM made) THEN RAISE query_canceled; END IF; RETURN NULL; END $$"
    )
    db.execute(
        "CREATE TRIGGER time_out AFTER INSERT ON user_alert_deliveries REFERENCING NEW TABLE AS made"
        " FOR EACH STATEMENT EXECUTE FUNCTION time_out()"
    )


async def fan_out_report(url: str, **order: Any) -> tuple[RunReport, PhaseReport]:
    async with AlertsEngine(settings(url)) as engine:
        report = await engine.run(Phase.B, now=NOW, **order)
    return report, report.phases[0]


@pytest.mark.parametrize("side_by_side", [True, False])
async def test_pages_that_take_too_long_become_smaller(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, side_by_side: bool
):
    """Everybody gets everything, and the run says what took long (SPEC B-2, CLI-6c)."""
    monkeypatch.setattr(pages, "WORTH_TWO_PAGES", 2 if side_by_side else 10_000)
    users = [add_user(db, "pro") for _ in range(40)]
    events = [add_event(db) for _ in range(3)]
    time_out(db, "count(DISTINCT user_id) > 4")
    report, phase = await fan_out_report(database_url)
    assert phase.error is None
    assert delivered(db) == {(user, event) for user in users for event in events}
    assert pending(db) == set()
    assert phase.counts["deliveries_created"] == phase.counts["users_considered"] == 120
    assert phase.counts["events_processed"] == 3
    (warning,) = report.warnings
    assert warning.startswith("the fan-out took longer than 60s for ")
    assert "page_timed_out" in warning


async def test_events_that_take_too_long_together_go_one_after_the_other(db: psycopg.Connection, database_url: str):
    """The most severe first, so that they get what is left of the quotas (SPEC B-7)."""
    users = [add_user(db, "personal") for _ in range(3)]
    events = [add_event(db, NOW - (20 - number) * HOUR, severity=1 + number % 5) for number in range(10)]
    time_out(db, "count(DISTINCT alert_event_id) > 1")
    _, phase = await fan_out_report(database_url)
    assert phase.error is None
    first_four = [events[4], events[9], events[3], events[8]]
    assert delivered(db) == {(user, event) for user in users for event in first_four}
    assert (phase.counts["events_processed"], phase.counts["deliveries_skipped_quota"]) == (10, 3 * 6)


async def test_a_user_who_takes_too_long_even_alone_is_passed_over_by_name(
    db: psycopg.Connection, database_url: str, two_pages: None
):
    """The others get theirs; the phase is failed and says who gets nothing of what (SPEC B-2)."""
    users = [add_user(db, "pro") for _ in range(30)]
    events = [add_event(db) for _ in range(2)]
    slow, other = users[17], users[23]
    time_out(db, f"bool_or(user_id = {slow}) OR bool_or(user_id = {other} AND alert_event_id = {events[1]})")
    with capture_logs() as lines:
        report, phase = await fan_out_report(database_url)
    missing = {(slow, events[0]), (slow, events[1]), (other, events[1])}
    assert delivered(db) == {(user, event) for user in users for event in events} - missing
    assert pending(db) == set()
    assert report.status == "failed"
    assert phase.counts["users_set_aside"] == 3
    assert all(f"user {user} at event {event}" in phase.error for user, event in missing)
    assert "no connection" not in phase.error
    named = {(line["user"], line["event_id"]) for line in lines if line["event"] == "user_set_aside"}
    assert named == missing


async def test_what_is_passed_over_is_limited(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """Where everybody takes too long, it is not their fault, and the event stays pending (SPEC B-2)."""
    monkeypatch.setattr(pages, "MOST_SET_ASIDE", 2)
    users = [add_user(db, "pro") for _ in range(5)]
    event = add_event(db)
    time_out(db, "count(*) > 0")
    _, phase = await fan_out_report(database_url)
    assert "is the database overloaded?" in phase.error
    assert phase.counts["users_set_aside"] == 2
    assert pending(db) == {event}
    db.execute("DROP TRIGGER time_out ON user_alert_deliveries")
    assert (await run_phase(database_url, Phase.B)).status == "success"
    assert delivered(db) == {(user, event) for user in users[2:]}


async def test_a_real_limit_is_told_as_what_it_is(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """The server breaks the statement off; that is no missing connection (SPEC B-2)."""
    for module in (pages, one_page):
        monkeypatch.setattr(module, "STATEMENT_PATIENCE", "3s")
    slow, quick = add_user(db), add_user(db)
    event = add_event(db)
    db.execute(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN IF NEW.user_id = {slow} THEN PERFORM pg_sleep(3600); END IF; RETURN NULL; END $$"
    )
    db.execute("CREATE TRIGGER sleep AFTER INSERT ON user_alert_deliveries FOR EACH ROW EXECUTE FUNCTION sleep()")
    _, phase = await fan_out_report(database_url)
    assert f"user {slow} at event {event}" in phase.error
    assert "no connection" not in phase.error
    assert delivered(db) == {(quick, event)}


async def test_a_dry_run_says_the_same_and_leaves_no_setting_behind(db: psycopg.Connection, database_url: str):
    """Its transaction goes on with other phases, at their own pace (SPEC X-1)."""
    add_user(db, "pro")
    slow = add_user(db, "pro")
    add_event(db)
    time_out(db, f"bool_or(user_id = {slow})")
    read = "SELECT name, setting FROM pg_settings WHERE name !~ '^plpgsql' ORDER BY name"
    async with connect(database_url) as database, database.session() as session, session.transaction():
        before = await session._connection.fetch(read)
        context = PhaseContext(session, settings(database_url), "run", NOW, dry_run=True)
        counts = fan_out.FanOutCounts()
        with pytest.raises(Exception, match=f"user {slow} at event"):
            await fan_out.fan_out(context, counts)
        assert await session._connection.fetch(read) == before
    assert counts.created_instant == 1


# --- waiting for a lock -----------------------------------------------------------------------------------------------


async def test_waiting_for_another_fan_out_has_an_end(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """The error says who holds the lock, and the next run goes on (SPEC B-2)."""
    monkeypatch.setattr(one_page, "LOCK_PATIENCE", "100ms")
    user, event = add_user(db, "pro"), add_event(db)
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", [FAN_OUT_KEYS[0]])
        _, phase = await fan_out_report(database_url)
    holder = db.info.backend_pid
    assert phase.error.startswith(f"waited 100ms for another fan-out to end its page (held by process {holder} ")
    assert "idle in transaction" in phase.error
    assert pending(db) == {event}
    assert (await run_phase(database_url, Phase.B)).status == "success"
    assert delivered(db) == {(user, event)}


async def test_waiting_for_a_row_passes_nobody_over(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A lock goes away by itself, so that user's alerts are not given up (SPEC B-2)."""
    monkeypatch.setattr(one_page, "LOCK_PATIENCE", "100ms")
    users = [add_user(db, "pro") for _ in range(3)]
    event = add_event(db)
    add_preference(db, users[1])
    with db.transaction():
        db.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [users[1]])
        _, phase = await fan_out_report(database_url)
    assert phase.error.startswith(f"waited 100ms for user {users[1]}, whose row another session keeps locked")
    assert phase.counts["users_set_aside"] == 0
    assert pending(db) == {event}
    assert (await run_phase(database_url, Phase.B)).status == "success"
    assert delivered(db) == {(user, event) for user in users}
