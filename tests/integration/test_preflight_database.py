"""Preflight finds what a database hides: missing rights, a server that only reads, tables that hide others (R-1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine import AlertsEngine, NewEvent, Phase, schema, statements
from alerts_engine.errors import DatabaseError
from alerts_engine.operations.preflight import preflight
from alerts_engine.operations.preflight_database import PAGE_PRIVILEGES, PRIVILEGES
from alerts_engine.statements import folder, migration_ids, rule_files
from tests.conftest import url_of
from tests.support import ground, legacy
from tests.support.postgres15 import server15
from tests.support.roles import PASSWORD, role
from tests.support.world import add_event, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.operations.findings import Findings
    from tests.support.sending import World

WELL_SET = {"time_zone": "Europe/Amsterdam", "app_base_url": "https://app.example", "telegram_bot_token": "1:token"}
NEEDED = [f"GRANT {', '.join(privileges)} ON {table} TO {{role}}" for table, privileges in PRIVILEGES.items()]


async def look(url: str) -> Findings:
    return await preflight(settings(url, **WELL_SET))


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


# --- privileges -----------------------------------------------------------------------------------------------------


async def test_a_role_that_may_only_read_is_told_all_that_it_lacks(db: psycopg.Connection):
    """In one error, as one could grant it; neither its name nor its password (R-1, R-2)."""
    with role(db, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}") as url:
        found = await look(url)
    (error,) = found.errors
    assert error.startswith("the role of DATABASE_URL lacks privileges, so grant it UPDATE on users; ")
    for table, privileges in PRIVILEGES.items():
        missing = ", ".join(privilege for privilege in privileges if privilege != "SELECT")
        assert (f"{missing} on {table}" in error) is bool(missing)
    assert (found.db_ok, found.migrations_ok) == (True, True)
    assert PASSWORD not in error
    assert "role_of_" not in error


async def test_a_role_without_any_privilege_is_told_once(db: psycopg.Connection):
    """Statements that fail for the same reason add nothing (R-2)."""
    with role(db) as url:
        found = await look(url)
    (error,) = found.errors
    assert "SELECT on _yoyo_migration" in error
    assert "SELECT, INSERT, UPDATE on user_alert_deliveries" in error
    assert found.migrations_ok is False


async def test_what_preflight_asks_for_is_enough_for_a_whole_run(db: psycopg.Connection, world: World):
    """All phases, and everything that an answer may bring with it, such as a group's new chat id (R-1)."""
    db.execute("INSERT INTO events (title, region, severity_score) VALUES ('x', 'Europe', 5)")
    user = add_user(db, "pro", telegram="-100")
    add_user(db, "free")
    add_event(db, datetime.now(UTC))
    world.fault("-100", migrate_to_chat_id=-1007)
    with role(db, *NEEDED) as url:
        assert (await look(url)).errors == []
        for dry_run in (True, False):
            async with AlertsEngine(ground.settings(url, world.sandbox.url), pace=0) as engine:
                report = await engine.run(Phase.ALL, dry_run=dry_run)
            assert report.error is None
    kinds = db.execute("SELECT delivery_kind, status FROM user_alert_deliveries GROUP BY 1, 2").fetchall()
    assert {(row.delivery_kind, row.status) for row in kinds} == {("instant", "sent"), ("digest", "skipped")}
    assert db.execute("SELECT telegram_chat_id AS id FROM users WHERE id = %s", [user]).fetchone().id == "-1007"
    assert db.execute("SELECT FROM alerts_engine_runs WHERE status = 'success'").rowcount == 2


def engine_statements() -> Iterator[str]:
    """Every statement that a run, or somebody who asks, executes; other roles may prune, and serve readers."""
    for path in sorted(folder("sql").glob("*.sql")):
        if path.stem not in {"demo", "prune", "preferences"}:
            texts = (definition.text for definition in statements.load(path.stem).values())
            yield from (text for text in texts if "SAVEPOINT" not in text)  # those need no privilege, and have no plan
    yield from (rule.text for rule in rule_files(None))


def refused(db: psycopg.Connection, name: str) -> list[str]:
    """The statements that the role ``name`` may not execute."""
    found = []
    db.execute(f"SET ROLE {name}")
    try:
        for text in engine_statements():
            try:
                db.execute(f"EXPLAIN (GENERIC_PLAN) {text}".encode(), prepare=False)
            except psycopg.errors.InsufficientPrivilege:
                found.append(text)
    finally:
        db.execute("RESET ROLE")
    return found


def test_what_preflight_asks_for_is_what_the_statements_need(db: psycopg.Connection, subtests: pytest.Subtests):
    """No statement needs more, and for every privilege there is one that needs it (R-1)."""
    with role(db, *NEEDED) as url:
        name = psycopg.conninfo.conninfo_to_dict(url)["user"]
        assert refused(db, name) == []
        for table, privileges in PRIVILEGES.items():
            for privilege in privileges:
                with subtests.test(table=table, privilege=privilege):
                    db.execute(f"REVOKE {privilege} ON {table} FROM {name}")
                    assert refused(db, name) != []
                    db.execute(f"GRANT {privilege} ON {table} TO {name}")


async def test_where_the_readers_page_is_served_its_privileges_are_asked_for(db: psycopg.Connection):
    """What it lacks is named, and with it every statement of the page may be executed (SPEC R-1, U-3)."""
    linked = WELL_SET | {"link_secret": "0123456789abcdef0123456789abcdef", "public_base_url": "https://app.example"}
    with role(db, *NEEDED) as url:
        name = psycopg.conninfo.conninfo_to_dict(url)["user"]
        (error,) = (await preflight(settings(url, **linked))).errors
        for table, privileges in PAGE_PRIVILEGES.items():
            assert f"{', '.join(privileges)} on {table}" in error
            db.execute(f"GRANT {', '.join(privileges)} ON {table} TO {name}")
        assert (await preflight(settings(url, **linked))).errors == []
        db.execute(f"SET ROLE {name}")
        for definition in statements.load("preferences").values():
            db.execute(f"EXPLAIN (GENERIC_PLAN) {definition.text}".encode(), prepare=False)
        db.execute("RESET ROLE")


async def test_sequences_behind_the_tables_are_looked_at(bare_postgresql: psycopg.Connection):
    """Those of the application's serial columns need a grant of their own, which is easily forgotten (DB-3)."""
    db, url = prepared(bare_postgresql), url_of(bare_postgresql)
    legacy.create(url)
    schema.apply(url)
    with role(db, *NEEDED) as limited:
        (before,) = (await look(limited)).errors
        db.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO role_of_{db.info.dbname}")
        after = (await look(limited)).errors
    assert before.endswith("USAGE on sequence alert_events_id_seq; USAGE on sequence user_alert_deliveries_id_seq")
    assert after == []


async def test_row_level_security_is_a_warning(db: psycopg.Connection):
    """What policies hide is not missing, it does not exist: nobody would notice."""
    db.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    with role(db, *NEEDED) as url:
        found = await look(url)
    (warning,) = found.warnings
    assert warning.startswith("row-level security is active on users")
    assert found.ok


# --- the server -----------------------------------------------------------------------------------------------------


async def test_a_database_that_only_reads_is_an_error(db: psycopg.Connection, database_url: str):
    """Whoever has set it, for the database or for the role."""
    db.execute(f"ALTER DATABASE {db.info.dbname} SET default_transaction_read_only = on")
    found = await look(database_url)
    (error,) = found.errors
    assert "default_transaction_read_only is on" in error
    assert (found.db_ok, found.migrations_ok) == (True, True)
    async with AlertsEngine(settings(database_url, **WELL_SET)) as engine:
        report = await engine.run(Phase.B)
    assert report.error is None  # nothing to write


async def test_a_standby_is_an_error_that_says_so():
    """It answers, has every table, and takes no alert."""
    with server15() as server:
        server.start()
        schema.apply(server.url)
        server.stop()
        server.start(standby=True)
        found = await look(server.url)
        async with AlertsEngine(settings(server.url, **WELL_SET)) as engine:
            with pytest.raises(DatabaseError, match="read-only transaction"):
                await engine.publish(NewEvent(alert_type="OUTAGE", severity=4, headline="x", event_fingerprint="x"))
    (error,) = found.errors
    assert error.startswith("the server is a standby, which can only be read")
    assert (found.db_ok, found.migrations_ok) == (True, True)


# --- which table a name means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["alert_events", "users"])
async def test_a_table_that_hides_the_migrated_one_is_an_error(db: psycopg.Connection, database_url: str, table: str):
    """One of the same name earlier in the search_path: statements would meet the wrong rows, or none."""
    db.execute(f"CREATE SCHEMA scratch; CREATE TABLE scratch.{table} (LIKE public.{table} INCLUDING ALL)")
    db.execute(f"ALTER DATABASE {db.info.dbname} SET search_path = scratch, public")
    (error,) = (await look(database_url)).errors
    assert error.startswith(f"table {table} in schema scratch hides the migrated one in schema public")
    db.execute(f"ALTER DATABASE {db.info.dbname} SET search_path = public, scratch")
    found = await look(database_url)
    assert found.ok
    assert [warning.split(" (")[0] for warning in found.warnings] == (
        ["table users is in several schemas of the search_path"] if table == "users" else []
    )


async def test_an_engine_of_its_own_schema_is_well(bare_postgresql: psycopg.Connection):
    """The application's tables elsewhere, each name once: nothing to say."""
    db, url = prepared(bare_postgresql), url_of(bare_postgresql)
    legacy.create(url)
    db.execute("DROP TABLE user_alert_deliveries, alert_events")
    db.execute(f"CREATE SCHEMA alerts; ALTER DATABASE {db.info.dbname} SET search_path = alerts, public")
    schema.apply(url)
    assert db.execute("SELECT FROM pg_tables WHERE schemaname = 'alerts' AND tablename = 'alert_events'").rowcount == 1
    found = await look(url)
    assert (found.errors, found.warnings) == ([], [])


@pytest.mark.parametrize("why", ["path", "usage"])
async def test_migrated_tables_out_of_sight_are_not_called_pending(db: psycopg.Connection, why: str):
    """``migrate`` would make a second set of them."""
    commands = [*NEEDED, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"]
    if why == "path":
        commands = [*NEEDED, "CREATE SCHEMA scratch", "ALTER ROLE {role} SET search_path = scratch"]
    with role(db, *commands) as url:
        (error,) = (await look(url)).errors
    assert "schema public" in error
    assert "search_path" in error
    assert "USAGE" in error
    assert "alerts-engine migrate" not in error


# --- all at once ----------------------------------------------------------------------------------------------------


async def test_every_problem_of_a_database_is_told_at_once(db: psycopg.Connection):
    """A role that only reads, on a read-only database with a migration pending and a table hidden (R-2)."""
    db.execute("DELETE FROM _yoyo_migration WHERE migration_id = %s", [migration_ids()[-1]])
    db.execute("CREATE SCHEMA scratch; CREATE TABLE scratch.alert_events (id int)")
    db.execute(f"ALTER DATABASE {db.info.dbname} SET search_path = scratch, public")
    db.execute(f"ALTER DATABASE {db.info.dbname} SET default_transaction_read_only = on")
    grants = ("GRANT USAGE ON SCHEMA scratch TO {role}", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    with role(db, *grants) as url:
        found = await preflight(settings(url, **WELL_SET, email_from="a@b.example"))
    read_only, lacking, pending, hidden = found.errors
    assert "default_transaction_read_only" in read_only
    assert "SELECT, INSERT, UPDATE on alert_events" in lacking
    assert pending == f"1 migration is pending ({migration_ids()[-1]}): run alerts-engine migrate"
    assert hidden.startswith("table alert_events in schema scratch hides")
    assert any("half configured" in warning for warning in found.warnings)


# --- indexes of the application -------------------------------------------------------------------------------------


async def test_large_sources_without_an_index_are_named_with_the_remedy(db: psycopg.Connection):
    """A note, since nothing is wrong; the statement that it shows ends it (R-1, A-2)."""
    db.execute("UPDATE pg_class SET reltuples = 1e6 WHERE relname IN ('events', 'risk_indices')")
    db.execute("CREATE INDEX ON risk_indices (region)")
    db.commit()
    (note,) = (note for note in (await look(url_of(db))).notes if "CREATE INDEX" in note)
    assert note.startswith("events is large")
    db.autocommit = True
    db.execute(note.partition(": ")[2].encode())
    db.execute("UPDATE pg_class SET reltuples = 1e6 WHERE relname = 'events'")
    assert not any("CREATE INDEX" in note for note in (await look(url_of(db))).notes)
