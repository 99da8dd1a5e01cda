"""Kills, races and refusals while migrating."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from alerts_engine import schema
from alerts_engine.errors import DatabaseUnreachableError, SchemaError
from tests.support import legacy
from tests.support.shape import ALL, STARTS, make, migrated, rows, shape, wait_until


@pytest.mark.parametrize("start", STARTS)
def test_a_migration_killed_before_it_was_noted_can_be_repeated(bare_database_url, start):
    """yoyo notes a migration after it is done: in between, a kill makes it run twice (SPEC DB-2)."""
    make(bare_database_url, start)
    schema.apply(bare_database_url)
    after = shape(bare_database_url)
    remembered = rows(bare_database_url, "SELECT restore_sql FROM alerts_engine_replaced ORDER BY id")
    for name in ALL:
        rows(bare_database_url, "DELETE FROM _yoyo_migration WHERE migration_id = %s", name)
        assert schema.apply(bare_database_url) == [name]
    assert shape(bare_database_url) == after
    assert rows(bare_database_url, "SELECT restore_sql FROM alerts_engine_replaced ORDER BY id") == remembered


FAILING = """
    CREATE SCHEMA failing;
    CREATE SEQUENCE failing.commands;
    CREATE TABLE failing.at (nth BIGINT);
    CREATE FUNCTION failing.count() RETURNS event_trigger LANGUAGE plpgsql AS $count$
    BEGIN
        IF nextval('failing.commands') = (SELECT nth FROM failing.at) THEN
            RAISE EXCEPTION 'killed';
        END IF;
    END
    $count$;
    CREATE EVENT TRIGGER failing ON ddl_command_end EXECUTE FUNCTION failing.count();
"""


@pytest.mark.slow
@pytest.mark.parametrize("nth", [14, 29, 44, 59, 69, 79, 89, 104])
def test_a_migration_that_breaks_off_anywhere_is_taken_up_again(bare_database_url, nth):
    """Up and down, also in the middle of a file that is no transaction (SPEC DB-2)."""
    url = bare_database_url
    make(url, "everything")
    before = shape(url)
    schema.apply(url)
    after = shape(url)
    schema.rollback(url)
    with psycopg.connect(url) as connection:
        connection.execute(FAILING)
    rows(url, "INSERT INTO failing.at VALUES (%s)", nth)
    for step, goal in ((schema.apply, after), (schema.rollback, before)):
        rows(url, "ALTER SEQUENCE failing.commands RESTART")
        with pytest.raises(SchemaError, match="P0001"):
            step(url)
        step(url)
        assert shape(url) == goal


def test_two_runners_that_migrate_at_once_do_not_collide(bare_database_url):
    """One applies, the others wait and find nothing to do (SPEC DB-2)."""
    legacy.create(bare_database_url)
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(schema.apply, [bare_database_url] * 4))
    assert sorted(applied) == [[], [], [], ALL]


def test_who_migrates_keeps_no_snapshot(bare_database_url):
    """CREATE INDEX CONCURRENTLY would wait for it, and so for ever (SPEC DB-2)."""
    snapshots = (
        "SELECT count(*), count(backend_xmin) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'alerts-engine migrate'"
    )
    with schema._migrating(bare_database_url):
        assert rows(bare_database_url, snapshots) == [(2, 0)]


def test_a_lock_row_of_a_killed_process_is_cleared(bare_database_url):
    """Nobody has to run ``yoyo break-lock`` (SPEC DB-2)."""
    schema.apply(bare_database_url)
    schema.rollback(bare_database_url, 1)
    rows(bare_database_url, "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    assert schema.apply(bare_database_url) == ALL[-1:]
    assert rows(bare_database_url, "SELECT * FROM yoyo_lock") == []


@pytest.mark.parametrize(
    ("migration", "index"),
    [
        ("0011.unique_keys", "user_alert_deliveries_once_key"),
        ("0012.indexes", "user_alert_deliveries_uncounted_idx"),
    ],
)
def test_an_index_whose_building_was_killed_is_built_again(bare_database_url, migration, index):
    """``IF NOT EXISTS`` alone would take an INVALID index for the real one (SPEC DB-6)."""
    url = migrated(bare_database_url, "legacy")
    schema.rollback(url, len(ALL) - ALL.index(migration))
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows(url, f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON user_alert_deliveries (status)")
    assert rows(url, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{index}'::regclass") == [(False,)]
    schema.apply(url)
    [(valid, definition)] = rows(
        url,
        f"SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = '{index}'::regclass",
    )
    assert valid
    assert "user_id, channel" in definition


def test_an_old_index_whose_building_was_killed_in_the_rollback_is_built_again(bare_database_url):
    """Its name is known to the database alone (SPEC DB-3)."""
    url = migrated(bare_database_url, "legacy")
    before = shape(url)
    schema.rollback(url, len(ALL) - ALL.index("0013.replaced_keys") - 1)
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows(url, "CREATE UNIQUE INDEX CONCURRENTLY idx_deliveries_once ON user_alert_deliveries (status)")
    schema.rollback(url, 1)
    [(valid, definition)] = rows(
        url,
        "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indexrelid = 'idx_deliveries_once'::regclass",
    )
    assert valid
    assert definition.endswith("(user_id, alert_event_id, channel)")
    schema.apply(url)
    assert shape(url) == before


MIGRATING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'alerts-engine migration' AND datname = %s"
BUILDING = f"{MIGRATING} AND query LIKE '%%INDEX CONCURRENTLY%%'"


def test_a_killed_process_leaves_nothing_that_keeps_the_next_from_working(bare_database_url):
    """The server would go on building an index for nobody (SPEC DB-2)."""
    legacy.create(bare_database_url)
    database = psycopg.conninfo.conninfo_to_dict(bare_database_url)["dbname"]
    script = "import sys; from alerts_engine import schema; schema.apply(sys.argv[1])"
    with psycopg.connect(bare_database_url) as older, ThreadPoolExecutor(1) as pool:
        # CREATE INDEX CONCURRENTLY waits for whoever could still see the table without the index.
        older.execute("SET default_transaction_isolation = 'repeatable read'")
        older.commit()
        older.execute("SELECT 1")
        migrating = subprocess.Popen([sys.executable, "-c", script, bare_database_url])
        wait_until(bare_database_url, BUILDING, database)
        [(pid,)] = rows(bare_database_url, MIGRATING, database)
        migrating.kill()
        migrating.wait()
        applied = pool.submit(schema.apply, bare_database_url)
        wait_until(bare_database_url, "SELECT pid FROM pg_stat_activity WHERE pid = %s", pid, found=False)
        older.commit()
        assert applied.result()[-1] == ALL[-1]
    assert not [text for _, text, valid in shape(bare_database_url)["indexes"] if not valid]


def test_what_goes_on_without_its_process_is_ended(bare_database_url):
    """Also where the server does not notice that the process is gone (SPEC DB-2)."""
    legacy.create(bare_database_url)
    with psycopg.connect(bare_database_url, application_name="alerts-engine migration") as left:
        left.execute("LOCK TABLE user_alert_deliveries")
        assert schema.apply(bare_database_url) == ALL
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")


def test_a_step_that_fails_leaves_what_was_built_before_it(bare_database_url):
    """After the repair an index that took minutes is not built again (SPEC DB-2)."""
    make(bare_database_url, "digest_tables")
    rows(bare_database_url, "ALTER TABLE user_alert_digests DROP CONSTRAINT user_alert_digests_digest_key_key")
    rows(bare_database_url, "UPDATE user_alert_digests SET digest_key = 'twice'")
    with pytest.raises(
        SchemaError, match=r"^migration 0011.unique_keys was not applied: could not create unique index"
    ):
        schema.apply(bare_database_url)
    built = "SELECT 'user_alert_deliveries_once_key'::regclass::oid"
    before = rows(bare_database_url, built)
    rows(bare_database_url, "UPDATE user_alert_digests SET digest_key = digest_key || id")
    assert schema.apply(bare_database_url) == ALL[ALL.index("0011.unique_keys") :]
    assert rows(bare_database_url, built) == before


def test_a_migration_that_fails_says_so_in_one_line_and_is_taken_up_again(bare_database_url):
    """What was applied before stays; after the repair the rest follows (SPEC DB-2)."""
    rows(bare_database_url, "CREATE VIEW alert_events AS SELECT 1 AS id")
    with pytest.raises(SchemaError) as caught:
        schema.apply(bare_database_url)
    assert str(caught.value).startswith("migration 0003.events was not applied: ")
    assert "\n" not in str(caught.value)
    rows(bare_database_url, "DROP VIEW alert_events")
    assert schema.apply(bare_database_url) == ALL[2:]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hunter2@127.0.0.1:1/db",
        "postgresql://ada:hunter2@127.0.0.1:port/db",
        "postgresql://ada:hunter2@/db?host=/nowhere&colour=red",
    ],
)
def test_an_unusable_url_is_an_error_that_does_not_show_it(url):
    """Neither user nor password in an error (SPEC R-2, O-3)."""
    with pytest.raises(DatabaseUnreachableError) as caught:
        schema.apply(url)
    for secret in ("hunter2", "ada"):
        assert secret not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_migrating_says_nothing_by_itself(bare_database_url, capfd, caplog):
    """What goes to stdout and stderr is the command's business alone (SPEC section 3)."""
    rows(bare_database_url, "CREATE VIEW alert_events AS SELECT 1 AS id")
    with pytest.raises(SchemaError):
        schema.apply(bare_database_url)
    rows(bare_database_url, "DROP VIEW alert_events")
    schema.apply(bare_database_url)
    schema.rollback(bare_database_url)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
