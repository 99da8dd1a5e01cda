"""Publishing in an application's own transaction, and what is said of an event that nobody can get (SPEC I-1, I-2)."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from alerts_engine import AlertsEngine, EventError, NewEvent, Phase, Published
from alerts_engine.errors import DatabaseError, NotOpenError, SchemaError
from alerts_engine.statements import load
from tests.support.world import add_preference, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@asynccontextmanager
async def application(url: str, **options: Any) -> AsyncIterator[asyncpg.Connection]:
    """A connection as an application has it, with a table of its own."""
    connection = await asyncpg.connect(url, **options)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS public.outages (plant text)")
        yield connection
    finally:
        await connection.close()


def outage(name: str = "freeport", **fields: Any) -> NewEvent:
    given = {
        "alert_type": "HIGH_IMPACT_EVENT", "severity": 4, "headline": "Outage", "event_fingerprint": f"outage:{name}",
        "scope_region": "Europe",
    }  # fmt: skip
    return NewEvent(**given | fields)


def fingerprints(db: psycopg.Connection) -> list[str]:
    return [row.event_fingerprint for row in db.execute("SELECT event_fingerprint FROM alert_events ORDER BY id")]


# --- the application's transaction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("committed", [True, False])
async def test_an_event_is_there_exactly_when_the_applications_data_is(db, database_url, committed):
    """A handler that rolls back publishes nothing (SPEC I-1)."""
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO outages VALUES ('Freeport')")
        published = await engine.publish(outage(), connection=connection)
        assert published.created
        assert fingerprints(db) == []
        await (transaction.commit() if committed else transaction.rollback())
    assert db.execute("SELECT count(*) FROM outages").fetchone()[0] == committed
    assert fingerprints(db) == ["outage:freeport"] * committed


async def test_an_event_of_an_applications_transaction_reaches_its_readers(db, database_url):
    """What was published beside the application's data is fanned out like any other event (SPEC I-1, B-1)."""
    user = add_user(db, "pro")
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        async with connection.transaction():
            published = await engine.publish(outage(), connection=connection)
        await engine.run(Phase.B)
    (row,) = db.execute("SELECT user_id, alert_event_id FROM user_alert_deliveries").fetchall()
    assert row.user_id == user
    assert row.alert_event_id == published.event_id


async def test_without_a_transaction_the_event_is_committed_at_once(db, database_url):
    """As any other statement of that connection is (SPEC I-1)."""
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        await engine.publish(outage(), connection=connection)
        assert fingerprints(db) == ["outage:freeport"]


async def test_a_transaction_that_was_begun_by_a_plain_begin_decides_as_well(db, database_url):
    """Not only asyncpg's own transactions are the application's (SPEC I-1)."""
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        await connection.execute("BEGIN")
        await engine.publish(outage("one"), connection=connection)
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN")
        await engine.publish(outage("two"), connection=connection)
        await connection.execute("COMMIT")
    assert fingerprints(db) == ["outage:two"]


SESSIONS = {
    "time zone": "SET TIME ZONE 'Asia/Tokyo'",
    "search path": "SET search_path TO elsewhere",
    "empty search path": "SET search_path TO ''",
    "search path of the transaction": "SET LOCAL search_path TO elsewhere, public",
    "date style": "SET datestyle TO 'German'",
}


@pytest.mark.parametrize("name", SESSIONS)
async def test_what_the_applications_session_is_set_to_does_not_matter(db, database_url, name):
    """Neither its zone nor its search path, and both are as they were, during the transaction and after (SPEC I-1)."""
    db.execute("CREATE SCHEMA elsewhere")
    db.execute("CREATE TABLE elsewhere.alert_events (LIKE public.alert_events)")
    before = datetime.now(UTC)
    async with (
        AlertsEngine(settings(database_url)) as engine,
        application(database_url) as connection,
        connection.transaction(),
    ):
        await connection.execute(SESSIONS[name])
        as_it_was = await connection.fetch("SELECT name, setting FROM pg_settings ORDER BY name")
        await engine.publish(outage(payload={"value": 71}), connection=connection)
        assert await connection.fetch("SELECT name, setting FROM pg_settings ORDER BY name") == as_it_was
    (row,) = db.execute("SELECT created_at, payload FROM public.alert_events").fetchall()
    assert abs(row.created_at.replace(tzinfo=UTC) - before) < timedelta(minutes=10)
    assert row.payload == {"value": 71}


async def test_triggers_still_find_the_applications_tables(db, database_url):
    """The engine's schema is put before the session's search path, not in its place (SPEC I-1)."""
    db.execute(
        """CREATE SCHEMA app; CREATE TABLE app.journal (fingerprint text);
        CREATE TABLE app.alert_events (id int);
        CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO journal VALUES (NEW.event_fingerprint); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE INSERT ON alert_events FOR EACH ROW EXECUTE FUNCTION app.note()"""
    )
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        await connection.execute("SET search_path TO app")
        await engine.publish(outage(), connection=connection)
    assert db.execute("SELECT fingerprint FROM app.journal").fetchone().fingerprint == "outage:freeport"


CODECS = {
    "none": None,
    "values": {"encoder": json.dumps, "decoder": json.loads},
    "upper case": {"encoder": str.upper, "decoder": str.upper},
}


@pytest.mark.parametrize("name", CODECS)
async def test_the_applications_codecs_do_not_matter(db, database_url, name):
    """JSON is neither encoded nor decoded by a codec of the connection (SPEC I-1)."""
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        if CODECS[name] is not None:
            await connection.set_type_codec("jsonb", schema="pg_catalog", **CODECS[name])
        await engine.publish(outage(payload={"value": 71, "text": "Köln ☂"}), connection=connection)
    assert db.execute("SELECT payload FROM alert_events").fetchone().payload == {"value": 71, "text": "Köln ☂"}


async def test_a_publish_that_fails_leaves_the_transaction_usable(db, database_url):
    """What the application did before it, and does after it, is committed (SPEC I-1)."""
    db.execute("ALTER TABLE alert_events ADD CONSTRAINT mild CHECK (severity < 5)")
    async with (
        AlertsEngine(settings(database_url)) as engine,
        application(database_url) as connection,
        connection.transaction(),
    ):
        await connection.execute("SET LOCAL search_path TO pg_temp")
        await connection.execute("INSERT INTO public.outages VALUES ('before')")
        with pytest.raises(DatabaseError, match="mild"):
            await engine.publish_many([outage("one"), outage("two", severity=5)], connection=connection)
        assert await connection.fetchval("SHOW search_path") == "pg_temp"
        await connection.execute("INSERT INTO public.outages VALUES ('after')")
    assert fingerprints(db) == []
    assert [row.plant for row in db.execute("SELECT plant FROM outages")] == ["before", "after"]


async def test_a_role_that_may_only_insert_events_can_publish(db, database_url):
    """Whoever may not read the preferences gets no warnings, and the event all the same (SPEC I-2)."""
    writer = f"writer_{os.getpid()}"
    db.execute(f"CREATE ROLE {writer}")
    try:
        db.execute(f"GRANT SELECT, INSERT ON alert_events TO {writer}")
        async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL ROLE {writer}")
                published = await engine.publish(outage(alert_type="UNHEARD_OF"), connection=connection)
            assert published.created
            assert published.warnings == ()
    finally:
        db.execute(f"DROP OWNED BY {writer}")
        db.execute(f"DROP ROLE {writer}")


async def test_a_snapshot_that_cannot_see_the_twin_says_so(db, database_url):
    """Repeatable read: the error carries PostgreSQL's own code, as the application's retries expect it (SPEC I-1)."""
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT count(*) FROM outages")
            first = await engine.publish(outage())
            with pytest.raises(DatabaseError) as caught:
                await engine.publish(outage(), connection=connection)
            assert caught.value.sqlstate == "40001"
        again = await engine.publish(outage(), connection=connection)
    assert again == Published(first.event_id, created=False)


async def test_a_connection_to_another_database_is_refused(db, database_url, bare_database_url):
    """It is named as that, not as a table that is missing (SPEC I-1)."""
    async with AlertsEngine(settings(database_url)) as engine, application(bare_database_url) as connection:
        with pytest.raises(DatabaseError, match="not one to the engine's database"):
            await engine.publish(outage(), connection=connection)


async def test_a_connection_of_another_driver_is_refused(database_url):
    """The error names the way for every other driver (SPEC I-1)."""
    async with (
        AlertsEngine(settings(database_url)) as engine,
        await psycopg.AsyncConnection.connect(database_url) as connection,
    ):
        with pytest.raises(TypeError, match=r"must be asyncpg's, not a psycopg.*INSERT INTO alert_events"):
            await engine.publish(outage(), connection=connection)


async def test_an_engine_that_is_not_open_publishes_nothing(database_url):
    """Not even on a connection that is given (SPEC I-3)."""
    engine = AlertsEngine(settings(database_url))
    async with application(database_url) as connection:
        with pytest.raises(NotOpenError):
            await engine.publish(outage(), connection=connection)


async def test_a_database_that_is_not_migrated_is_named_as_that(bare_database_url):
    """Also by publish (SPEC DB-2)."""
    async with AlertsEngine(settings(bare_database_url)) as engine, application(bare_database_url) as connection:
        with pytest.raises(SchemaError, match="run alerts-engine migrate"):
            await engine.publish(outage(), connection=connection)


# --- several --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
async def test_several_events_have_their_results_in_the_order_given(db, database_url, own):
    """Known, new and given twice, in one statement (SPEC I-2)."""
    async with AlertsEngine(settings(database_url)) as engine, application(database_url) as connection:
        options = {"connection": connection} if own else {}
        known = await engine.publish(outage("known"))
        events = [outage("a"), outage("known"), outage("b"), outage("a")]
        one, two, three, four = await engine.publish_many(events, **options)
    assert [one.created, two.created, three.created, four.created] == [True, False, True, False]
    assert two.event_id == known.event_id
    assert four.event_id == one.event_id
    assert fingerprints(db) == ["outage:known", "outage:a", "outage:b"]


async def test_no_events_are_no_results(db, database_url):
    """And need no statement (SPEC I-2)."""
    async with AlertsEngine(settings(database_url)) as engine:
        assert await engine.publish_many([]) == []


async def test_where_the_cooldown_key_is_unique_each_event_has_one_result(db, database_url):
    """The one with its fingerprint, else the one with its cooldown key (SPEC A-1, DB-3, I-2)."""
    db.execute("CREATE UNIQUE INDEX legacy_cooldown ON alert_events (cooldown_key)")
    events = [
        outage("a", cooldown_key="k"), outage("b", cooldown_key="m"), outage("b", cooldown_key="k"),
        outage("c", cooldown_key="k"),
    ]  # fmt: skip
    async with AlertsEngine(settings(database_url)) as engine:
        a, b, c, d = await engine.publish_many(events)
    assert [a.created, b.created, c.created, d.created] == [True, True, False, False]
    assert (c.event_id, d.event_id) == (b.event_id, a.event_id)


# --- bad events -----------------------------------------------------------------------------------------------------


def test_a_bad_event_is_refused_before_there_is_a_connection():
    """The error names the field, in words and as a value (SPEC I-2)."""
    with pytest.raises(EventError) as caught:
        outage(severity=9)
    assert caught.value.field == "severity"
    assert str(caught.value) == "severity must be a whole number from 1 to 5"


async def test_the_longest_keys_are_stored(db, database_url):
    """What the check lets through, an index takes (SPEC I-2)."""
    # Not compressible: PostgreSQL would store a repeated letter in a few bytes.
    noise = "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(866))
    async with AlertsEngine(settings(database_url)) as engine:
        await engine.publish(outage(event_fingerprint=noise, cooldown_key=noise))
    assert fingerprints(db) == [noise]


# --- what nobody can get --------------------------------------------------------------------------------------------


async def warnings_of(url: str, event: NewEvent, **fields: Any) -> tuple[str, ...]:
    async with AlertsEngine(settings(url, **fields)) as engine:
        return (await engine.publish(event)).warnings


async def test_an_event_that_somebody_asks_for_has_no_warning(db, database_url):
    """By a preference, whatever its letter case, or by the defaults (SPEC I-2, B-4)."""
    add_preference(db, add_user(db, "trader"), "ASSET_RISK_SPIKE", region=" Black Sea", asset="gas")
    assert await warnings_of(database_url, outage()) == ()
    asked = outage("two", alert_type="ASSET_RISK_SPIKE", scope_region="BLACK SEA", scope_assets=["Gas"])
    assert await warnings_of(database_url, asked) == ()


async def test_words_that_nobody_knows_are_named(db, database_url):
    """Each with what follows from it (SPEC I-2)."""
    add_preference(db, add_user(db, "trader"), "ASSET_RISK_SPIKE", region="global")
    add_preference(db, add_user(db, "trader"), "ASSET_RISK_SPIKE", region="Eurpoe", enabled=False)
    event = outage(alert_type="ASSET_RISK_SPIKE", scope_region="Eurpoe", scope_assets=["gas", "cola"])
    assert await warnings_of(database_url, event) == (
        "no preference names the asset 'cola': only who asked for every asset gets this event",
        "no preference names the asset 'gas': only who asked for every asset gets this event",
        "no preference names the region 'Eurpoe': only who asked for every region gets this event",
    )
    assert await warnings_of(database_url, outage("other", alert_type="OUTAGE")) == (
        "no preference asks for the alert type 'OUTAGE': nobody gets this event",
    )


async def test_a_type_that_no_plan_allows_is_named(db, database_url):
    """Plans of the settings and of the application alike (SPEC I-2, B-5)."""
    add_preference(db, add_user(db, "trader"), "OUTAGE")
    nobody = {name: {"email": 1} for name in ("free", "personal", "trader", "pro", "enterprise")}
    quotas = json.dumps(nobody)
    assert await warnings_of(database_url, outage(alert_type="OUTAGE"), plan_quotas=quotas) == (
        "no plan allows the alert type 'OUTAGE': nobody gets this event",
    )
    db.execute("INSERT INTO plan_settings (plan_code, allowed_alert_types) VALUES ('pro', '{OUTAGE}')")
    assert await warnings_of(database_url, outage("two", alert_type="OUTAGE"), plan_quotas=quotas) == ()


async def test_each_event_of_several_has_its_own_warnings(db, database_url):
    """SPEC I-2."""
    async with AlertsEngine(settings(database_url)) as engine:
        known, unknown = await engine.publish_many([outage("a"), outage("b", scope_region="Atlantis")])
    assert known.warnings == ()
    assert len(unknown.warnings) == 1


async def test_a_word_that_is_known_is_asked_for_once(db, database_url):
    """What was known a moment ago costs the next event nothing (SPEC I-2)."""
    async with AlertsEngine(settings(database_url)) as engine:
        await engine.publish(outage("a"))
        db.execute("ALTER TABLE user_alert_prefs RENAME TO hidden")
        assert (await engine.publish(outage("b"))).warnings == ()


MANY = """
INSERT INTO users (email) SELECT 'reader' || n || '@example.com' FROM generate_series(1, 20000) AS n;
INSERT INTO user_alert_prefs (user_id, region, alert_type)
SELECT u.id, CASE WHEN u.id = 1 THEN 'Atlantis' ELSE 'Europe' END, 'HIGH_IMPACT_EVENT' FROM users AS u ORDER BY u.id;
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)
SELECT 'X', 1, 'x', '', 'old ' || n, 'old ' || n FROM generate_series(1, 20000) AS n;
"""


async def test_publishing_looks_at_no_table_that_grows_as_a_whole(db, database_url):
    """Preferences are read newest first and only up to a limit; events by their keys (SPEC I-2, DESIGN section 3)."""
    db.execute(MANY)
    db.execute("VACUUM ANALYZE")
    for file, name in (("publish", "unknown_words"), ("phase_a_generate", "insert_events")):
        rows = db.execute(f"EXPLAIN (GENERIC_PLAN) {load(file)[name].text}").fetchall()
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan on user_alert_prefs" not in plan, plan
        assert "Seq Scan on alert_events" not in plan, plan
    (warning,) = await warnings_of(database_url, outage(scope_region="Atlantis"))
    assert warning.startswith("none of the newest preferences names the region 'Atlantis'")
