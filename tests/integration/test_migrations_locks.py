"""What a migration makes a live application wait for: never a scan, never more than a row or a moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine import schema
from alerts_engine.errors import SchemaError
from tests.support.shape import ALL, make, rows, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 1000
"""Rows that are read when a table of the application is read as a whole; reading its catalog entries takes none."""

FILLING = f"""
    INSERT INTO users (email) SELECT 'user' || n || '@example.org' FROM generate_series(1, {MANY}) AS n;
    INSERT INTO alert_events (alert_type, headline, body, cooldown_key)
    SELECT 'HIGH_IMPACT_EVENT', 'h', 'b', 'many:' || n FROM generate_series(1, {MANY}) AS n;
    INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at)
    SELECT u.id, e.id, 'email', 'sent', now()
    FROM (SELECT id, row_number() OVER () AS nth FROM users WHERE email LIKE 'user%') AS u
    JOIN (SELECT id, row_number() OVER () AS nth FROM alert_events WHERE cooldown_key LIKE 'many:%') AS e USING (nth);
"""

WATCH = """
    CREATE SCHEMA watch;
    CREATE TABLE watch.live AS
    SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace;
    CREATE TABLE watch.seen (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        xact XID8 DEFAULT pg_current_xact_id(),
        moment TEXT,
        rows_read BIGINT,
        strong BOOLEAN
    );

    CREATE FUNCTION watch.note(moment TEXT) RETURNS void LANGUAGE sql AS $note$
        INSERT INTO watch.seen (moment, rows_read, strong)
        SELECT
            moment,
            sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid)),
            -- What keeps the application from writing.
            EXISTS (
                SELECT
                FROM pg_locks
                WHERE pid = pg_backend_pid()
                  AND relation IN (SELECT oid FROM watch.live)
                  AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                  AND granted
            )
        FROM watch.live
    $note$;

    CREATE FUNCTION watch.command() RETURNS event_trigger LANGUAGE plpgsql AS $command$
    BEGIN
        -- DROP INDEX reads no rows, and with CONCURRENTLY must come first in its transaction.
        IF TG_TAG <> 'DROP INDEX' THEN
            PERFORM watch.note(TG_EVENT || ' ' || TG_TAG);
        END IF;
    END
    $command$;
    CREATE FUNCTION watch.commit() RETURNS trigger LANGUAGE plpgsql AS $commit$
    BEGIN
        PERFORM watch.note('commit');
        RETURN NULL;
    END
    $commit$;
    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON watch.seen
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.moment <> 'commit') EXECUTE FUNCTION watch.commit();
    CREATE EVENT TRIGGER before_each ON ddl_command_start EXECUTE FUNCTION watch.command();
    CREATE EVENT TRIGGER after_each ON ddl_command_end EXECUTE FUNCTION watch.command();
"""

SCANS_UNDER_A_LOCK = f"""
    SELECT moment, rows_read - rows_before
    FROM (
        SELECT *, lag(rows_read, 1, 0) OVER (PARTITION BY xact ORDER BY id) AS rows_before
        FROM watch.seen
    ) AS seen
    WHERE strong AND rows_read - rows_before >= {MANY}
    ORDER BY id
"""


@pytest.fixture
def live_url(bare_database_url: str, request: pytest.FixtureRequest) -> str:
    """The application's database with many rows, and whatever else the test's parameter did to it."""
    make(bare_database_url, getattr(request, "param", "legacy"))
    with psycopg.connect(bare_database_url) as connection:
        connection.execute(FILLING)
    return bare_database_url


@pytest.mark.parametrize(
    "live_url",
    ["legacy", "delivery_columns_loose", "unique_as_constraint", "digest_tables", "everything"],
    indirect=True,
)
def test_no_table_is_read_while_the_application_cannot_write(live_url: str):
    """No lock that keeps the application from writing is held during a scan, up or down (SPEC DB-3)."""
    with psycopg.connect(live_url) as connection:
        connection.execute(WATCH)
    schema.apply(live_url)
    assert rows(live_url, SCANS_UNDER_A_LOCK) == []
    rows(live_url, "TRUNCATE watch.seen")
    schema.rollback(live_url)
    assert rows(live_url, SCANS_UNDER_A_LOCK) == []
    [(commands, strong)] = rows(live_url, "SELECT count(*), count(*) FILTER (WHERE strong) FROM watch.seen")
    assert commands > strong > 0, "the watch saw the migrations at work"


def test_the_watch_sees_a_scan_under_a_lock(live_url: str):
    """The test above can fail."""
    with psycopg.connect(live_url) as connection:
        connection.execute(WATCH)
    with psycopg.connect(live_url) as connection:
        connection.execute("ALTER TABLE user_alert_deliveries ADD CHECK (user_id > 0)")
    with psycopg.connect(live_url) as connection:
        connection.execute("ALTER TABLE alert_events ADD COLUMN seen INT")
        connection.execute("SELECT count(*) FROM alert_events")
    found = [moment for moment, _ in rows(live_url, SCANS_UNDER_A_LOCK)]
    assert found == ["ddl_command_end ALTER TABLE", "commit"]


@contextmanager
def beside(
    holder: psycopg.Connection, url: str, step: Callable[[str], list[str]] = schema.apply
) -> Iterator[list[str]]:
    """Migrate beside the ``with`` block, at whose end ``holder`` lets go of its locks; yields what is done then."""
    done: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(step, url)
        try:
            yield done
        finally:
            holder.close()
        done += future.result()


WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'alerts-engine migration' AND wait_event_type = 'Lock'
      AND wait_event = %s
"""


QUICKLY = "SET lock_timeout = '5s'; "
"""Much longer than anybody may wait, and much shorter than the migration goes on waiting."""


def test_the_application_waits_for_one_row_at_most(live_url: str):
    """While a row that the application holds is waited for, every other one is free (SPEC DB-3)."""
    schema.apply(live_url)
    before = ALL.index("0010.existing_rows")
    schema.rollback(live_url, len(ALL) - before)
    rows(
        live_url,
        "UPDATE user_alert_deliveries SET status = 'queued', sent_at = NULL, next_retry_at = NULL WHERE id > 6",
    )
    holder = psycopg.connect(live_url)
    holder.execute("UPDATE user_alert_deliveries SET reason = 'mine' WHERE id = 500")
    with beside(holder, live_url) as done:
        wait_until(live_url, WAITING, "transactionid")
        rows(live_url, f"{QUICKLY} UPDATE user_alert_deliveries SET reason = 'quick' WHERE id <> 500")
        rows(live_url, f"{QUICKLY} UPDATE alert_events SET body = 'quick'")
        rows(live_url, f"{QUICKLY} DELETE FROM users WHERE id = 400")
    assert done == ALL[before:]
    held = "SELECT count(*), count(*) FILTER (WHERE next_retry_at = 'infinity') FROM user_alert_deliveries WHERE id > 6"
    assert rows(live_url, held) == [(MANY - 1, MANY - 1)]


@pytest.mark.parametrize("step", [schema.apply, schema.rollback])
def test_nobody_queues_behind_a_migration_that_waits(live_url: str, step: Callable[[str], list[str]]):
    """A table's lock is asked for in short turns, for as long as somebody reads the table (SPEC DB-3)."""
    steps = ALL
    if step is schema.rollback:
        schema.apply(live_url)
        # The newest ones do not need it: an index is dropped, and a setting taken back, beside readers.
        steps = ALL[: ALL.index("0018.uncertain_indexes")]
        schema.rollback(live_url, len(ALL) - len(steps))
    holder = psycopg.connect(live_url)
    holder.execute("SELECT FROM user_alert_deliveries LIMIT 1")
    with beside(holder, live_url, step) as done:
        for _ in range(3):
            wait_until(live_url, WAITING, "relation")
            rows(live_url, f"{QUICKLY} UPDATE user_alert_deliveries SET reason = 'quick' WHERE id = 1")
    assert sorted(done) == steps


LEADS_WITH_USER = """
    SELECT indexrelid::regclass
    FROM pg_index
    JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = 'user_alert_deliveries'::regclass AND attname = 'user_id' AND indisvalid AND indpred IS NULL
"""


def test_a_users_deliveries_are_found_by_an_index_at_every_step(live_url: str):
    """Deleting a user, or showing them their alerts, never reads all deliveries (SPEC DB-3)."""
    schema.apply(live_url)
    without = [
        name for name in [*ALL[::-1], ""] if not (rows(live_url, LEADS_WITH_USER), schema.rollback(live_url, 1))[0]
    ]
    assert without == []


def test_a_table_that_is_never_free_is_an_error_that_says_so(live_url: str, monkeypatch: pytest.MonkeyPatch):
    """The next call goes on from there (SPEC DB-2)."""
    monkeypatch.setattr(schema, "_LOCK_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(schema, "_LOCK_PAUSE_SECONDS", 0)
    with psycopg.connect(live_url) as reader:
        reader.execute("SELECT FROM alert_events LIMIT 1")
        with pytest.raises(SchemaError, match=r"migration 0003.events was not applied: .* locked"):
            schema.apply(live_url)
    assert schema.apply(live_url) == ALL[2:]
