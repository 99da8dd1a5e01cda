"""Migrations on an empty database, on the application's, and on half-way ones; up, down and up again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlparse

from alerts_engine import schema
from alerts_engine.errors import DatabaseUnreachableError, SchemaError
from alerts_engine.statements import folder
from tests import legacy
from tests.postgres15 import postgres15

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = sorted(path.stem for path in folder("migrations").glob("*.sql") if not path.stem.endswith(".rollback"))
STARTS = {"empty": None, "legacy": (), **{name: (name,) for name in legacy.HALF_WAY}}
"""The databases that migrate may find: nothing, the application's, and the application's with steps done by hand."""

COLUMNS = """
    SELECT cls.relname, att.attname, format_type(att.atttypid, att.atttypmod), att.attnotnull,
           pg_get_expr(def.adbin, def.adrelid)
    FROM pg_attribute AS att
    JOIN pg_class AS cls ON cls.oid = att.attrelid AND cls.relkind = 'r'
    LEFT JOIN pg_attrdef AS def ON def.adrelid = att.attrelid AND def.adnum = att.attnum
    WHERE cls.relnamespace = 'public'::regnamespace AND cls.relname NOT LIKE '%yoyo%'
      AND att.attnum > 0 AND NOT att.attisdropped
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE '%yoyo%' AND contype <> 'n'
"""
INDEXES = """
    SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid
    FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relnamespace = 'public'::regnamespace AND indrelid::regclass::text NOT LIKE '%yoyo%'
"""
TRIGGERS = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal"
QUEUED = "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel) VALUES (1, 1, 'email') RETURNING id"


def make(url: str, start: str) -> None:
    steps = STARTS[start]
    if steps is not None:
        legacy.create(url, steps)


def rows(url: str, query: str, *values: object) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def shape(url: str) -> dict[str, set[tuple]]:
    """Everything about the tables but their rows."""
    queries = {"columns": COLUMNS, "constraints": CONSTRAINTS, "indexes": INDEXES, "triggers": TRIGGERS}
    return {name: set(rows(url, query)) for name, query in queries.items()}


def contents(url: str, columns: dict[str, list[str]]) -> dict[str, list[tuple]]:
    """The rows of each table, in the given columns, as text."""
    return {
        table: rows(url, f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {table} ORDER BY id")
        for table, names in columns.items()
    }


def columns_of(url: str, *tables: str) -> dict[str, list[str]]:
    return {table: [name for in_table, name, *_ in sorted(rows(url, COLUMNS)) if in_table == table] for table in tables}


@pytest.fixture
def legacy_url(bare_database_url: str) -> str:
    """The application's database, migrated."""
    legacy.create(bare_database_url)
    schema.apply(bare_database_url)
    return bare_database_url


@pytest.fixture(scope="module")
def old_server() -> Iterator[str]:
    with postgres15() as url:
        yield url


# --- applying -----------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_every_migration_once(bare_database_url):
    """Applying twice is a no-op (SPEC DB-2)."""
    assert schema.apply(bare_database_url) == ALL
    assert schema.apply(bare_database_url) == []


def test_asking_what_is_pending_changes_nothing(bare_database_url):
    """``migrate --check`` leaves a bare database bare (SPEC DB-2)."""
    assert schema.pending(bare_database_url) == ALL
    assert rows(bare_database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    schema.apply(bare_database_url)
    assert schema.pending(bare_database_url) == []


def test_the_tables_have_the_columns_of_the_contract(database_url):
    """Every column that SPEC DB-6 and O-1 name is there, and an event has no user."""
    delivery_state = {
        "status", "attempts", "next_retry_at", "last_error", "failure_kind", "sent_at", "provider_message_id",
        "claimed_by", "lease_expires_at", "created_at",
    }  # fmt: skip
    contract = {
        "alert_events": {
            "id", "alert_type", "scope_region", "scope_assets", "severity", "headline", "body", "driver_event_ids",
            "cooldown_key", "event_fingerprint", "fanout_completed_at", "payload", "created_at",
        },
        "user_alert_deliveries": {"id", "user_id", "alert_event_id", "channel", "delivery_kind", *delivery_state},
        "user_alert_digests": {
            "id", "user_id", "channel", "period", "window_start", "window_end", "digest_key", *delivery_state
        },
        "user_alert_digest_items": {"digest_id", "delivery_id"},
        "user_notification_settings": {"user_id", "digest_only", "digest_period"},
        "user_channel_preferences": {"user_id", "channel", "enabled"},
        "alerts_engine_runs": {
            "run_id", "triggered_by", "phase", "started_at", "finished_at", "duration_ms", "status", "counts",
            "error_summary", "git_sha", "dry_run",
        },
        "alerts_engine_run_items": {"run_id", "phase", "started_at", "finished_at", "duration_ms", "status", "counts"},
    }  # fmt: skip
    found = {table: set(names) for table, names in columns_of(database_url, *contract).items()}
    assert {table: names - found[table] for table, names in contract.items() if names - found[table]} == {}
    assert not any("user" in name for name in found["alert_events"])


@pytest.mark.parametrize("start", STARTS)
def test_every_start_ends_in_a_schema_that_serves_the_engine(bare_database_url, start):
    """Fresh, legacy and half-way databases end with the same engine columns, keys and valid indexes (SPEC DB-3)."""
    make(bare_database_url, start)
    assert schema.apply(bare_database_url) == ALL
    got = shape(bare_database_url)

    required = {
        ("alert_events", "event_fingerprint"), ("alert_events", "fanout_position"),
        ("user_alert_deliveries", "delivery_kind"), ("user_alert_deliveries", "status"),
        ("user_alert_deliveries", "attempts"), ("user_alert_digests", "attempts"), ("user_alert_digests", "status"),
    }  # fmt: skip
    assert required <= {(table, name) for table, name, _, not_null, _ in got["columns"] if not_null}
    unique = {
        ("alert_events", "(event_fingerprint)"),
        ("user_alert_deliveries", "(alert_event_id, user_id, channel, delivery_kind)"),
        ("user_alert_digests", "(digest_key)"),
        ("user_alert_digest_items", "(delivery_id)"),
        ("alerts_engine_runs", "(run_id)"),
    }
    assert unique <= {(table, text[text.index("(") :]) for table, text, _ in got["indexes"] if "UNIQUE" in text}
    assert all(valid for _, _, valid in got["indexes"])
    assert not [text for *_, text in got["constraints"] if "NOT VALID" in text]
    assert not [name for _, name, _ in got["constraints"] if name.endswith("_present")]


def test_a_legacy_database_ends_like_a_fresh_one(bare_database_url, database_url):
    """Apart from id widths and the application's own columns and checks, both shapes are one (SPEC DB-3)."""
    legacy.create(bare_database_url)
    schema.apply(bare_database_url)
    old, new = shape(bare_database_url), shape(database_url)

    def engine_columns(columns: set[tuple]) -> set[tuple]:
        engine = {"alert_events", "user_alert_deliveries", "user_alert_digests", "user_alert_digest_items",
                  "user_notification_settings", "user_channel_preferences", "alerts_engine_runs",
                  "alerts_engine_run_items"}  # fmt: skip
        differs = {"id", "alert_event_id", "reason", "created_at", "severity"}
        return {column for column in columns if column[0] in engine and column[1] not in differs}

    assert engine_columns(old["columns"]) == engine_columns(new["columns"])
    assert {text for _, text, _ in new["indexes"]} - {text for _, text, _ in old["indexes"]} == {
        "CREATE INDEX alert_events_cooldown_key_idx ON public.alert_events USING btree (cooldown_key)"
    }


@pytest.mark.parametrize("start", ["empty", "legacy", *legacy.HALF_WAY])
def test_postgresql_15_takes_the_migrations_up_and_down(old_server, start):
    """The older of the two tested servers (SPEC DB-1)."""
    name = f"start_{start}"
    rows(old_server, f"CREATE DATABASE {name}")
    url = old_server.replace("/postgres?", f"/{name}?")
    make(url, start)
    assert schema.apply(url) == ALL
    assert schema.rollback(url) == ALL[::-1]
    assert schema.apply(url) == ALL


# --- what happens to the application ------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["legacy", "fingerprint_nullable", "digest_tables", "run_tables", "fanout_marker"])
def test_existing_rows_keep_every_byte_of_their_columns(bare_database_url, start):
    """Tables and rows that exist are kept, up and down (SPEC DB-3)."""
    make(bare_database_url, start)
    tables = ("users", "user_alert_prefs", "events", "risk_events", "risk_indices", "asset_risk", "alert_events",
              "user_alert_deliveries")  # fmt: skip
    columns = columns_of(bare_database_url, *tables)
    # Three that a half-way database leaves empty are there to be filled.
    columns["alert_events"] = [name for name in columns["alert_events"] if name != "event_fingerprint"]
    before = contents(bare_database_url, columns)
    schema.apply(bare_database_url)
    assert contents(bare_database_url, columns) == before
    schema.rollback(bare_database_url)
    assert contents(bare_database_url, columns) == before


def test_the_fingerprint_is_filled_from_the_cooldown_key(legacy_url):
    """``event_fingerprint`` is back-filled (SPEC DB-3)."""
    assert rows(legacy_url, "SELECT count(*) FROM alert_events WHERE event_fingerprint = cooldown_key") == [(3,)]


def test_a_taken_fingerprint_gets_the_id_behind_it(bare_database_url):
    """On a half-way database the cooldown_key of one event may be the fingerprint of another (SPEC DB-3)."""
    make(bare_database_url, "fingerprint_nullable")
    schema.apply(bare_database_url)
    assert rows(bare_database_url, "SELECT event_fingerprint FROM alert_events ORDER BY id") == [
        ("region:Europe:1",),
        ("asset:Europe:gas:1",),
        ("region:Europe:1#3",),
    ]


def test_events_with_deliveries_count_as_fanned_out(legacy_url):
    """What the application has delivered is not fanned out again; what it has not still is (SPEC DB-3, B-1)."""
    assert rows(legacy_url, "SELECT id, fanout_completed_at = created_at AT TIME ZONE 'UTC' FROM alert_events") == [
        (1, True),
        (2, True),
        (3, None),
    ]


def test_a_fan_out_marker_that_was_there_is_believed(bare_database_url):
    """Whoever made ``fanout_completed_at`` by hand has decided what it says (SPEC DB-3)."""
    make(bare_database_url, "fanout_marker")
    schema.apply(bare_database_url)
    assert rows(bare_database_url, "SELECT DISTINCT fanout_completed_at FROM alert_events") == [(None,)]


def test_queued_rows_of_the_application_are_held(legacy_url):
    """Its own sender has them; ``account`` rows are left alone altogether (SPEC DB-3)."""
    held = "SELECT id FROM user_alert_deliveries WHERE next_retry_at = 'infinity'"
    assert rows(legacy_url, held) == [(5,)]
    untouched = (
        "SELECT DISTINCT next_retry_at, attempts, delivery_kind FROM user_alert_deliveries WHERE channel = 'account'"
    )
    assert rows(legacy_url, untouched) == [(None, 0, "instant")]


def test_queued_rows_that_knew_retries_are_not_held(bare_database_url):
    """Where ``next_retry_at`` was there before, queued rows are somebody's engine's (SPEC DB-3)."""
    make(bare_database_url, "delivery_columns_loose")
    schema.apply(bare_database_url)
    assert rows(bare_database_url, "SELECT count(*) FROM user_alert_deliveries WHERE next_retry_at IS NOT NULL") == [
        (0,)
    ]
    assert rows(bare_database_url, "SELECT DISTINCT attempts, delivery_kind FROM user_alert_deliveries") == [
        (0, "instant")
    ]


def test_the_application_goes_on_writing_as_before(legacy_url):
    """Its INSERTs and UPDATEs know none of the new columns (SPEC DB-3)."""
    event = rows(
        legacy_url,
        "INSERT INTO alert_events (alert_type, scope_region, headline, body, cooldown_key)"
        " VALUES ('DAILY_DIGEST', 'Asia', 'h', 'b', 'daily:7') RETURNING id, event_fingerprint",
    )
    assert event == [(4, "daily:7")]
    rows(
        legacy_url,
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status) VALUES (2, 4, 'account', 'sent'),"
        " (2, 4, 'email', 'skipped')",
    )
    rows(legacy_url, "UPDATE user_alert_deliveries SET status = 'sent', sent_at = now() WHERE id = 5")
    rows(legacy_url, "UPDATE user_alert_deliveries SET reason = 'read' WHERE channel = 'account'")
    rows(legacy_url, "DELETE FROM users WHERE id = 2")
    assert rows(legacy_url, "SELECT count(*) FROM user_alert_deliveries WHERE user_id = 2") == [(0,)]


def test_the_second_dedupe_key_of_a_legacy_database_stays(legacy_url):
    """The unique index on ``cooldown_key`` stays (SPEC DB-3)."""
    with pytest.raises(psycopg.errors.UniqueViolation, match="idx_alert_events_cooldown"):
        rows(
            legacy_url,
            "INSERT INTO alert_events (alert_type, headline, body, cooldown_key, event_fingerprint)"
            " VALUES ('HIGH_IMPACT_EVENT', 'h', 'b', 'high:1', 'another')",
        )


def test_rules_may_bring_new_alert_types(legacy_url):
    """The CHECK on ``alert_type`` goes (SPEC DB-3)."""
    rows(
        legacy_url,
        "INSERT INTO alert_events (alert_type, headline, body, cooldown_key, event_fingerprint)"
        " VALUES ('STORAGE_LOW', 'h', 'b', 'k', 'f')",
    )


@pytest.mark.parametrize("start", ["legacy", "unique_as_constraint", "unique_with_kind"])
def test_an_instant_and_a_digest_delivery_may_stand_side_by_side(bare_database_url, start):
    """The legacy key over three columns is replaced, whatever its name; the kind is part of the key (SPEC DB-6)."""
    make(bare_database_url, start)
    schema.apply(bare_database_url)
    again = (
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind) VALUES (1, 1, 'email', %s)"
    )
    rows(bare_database_url, again, "digest")
    with pytest.raises(psycopg.errors.UniqueViolation, match="user_alert_deliveries_once_key"):
        rows(bare_database_url, again, "digest")


def test_an_application_that_never_wrote_a_send_time_goes_on_so(bare_database_url):
    """The rule about ``sent_at`` is for rows the engine writes (SPEC DB-7)."""
    make(bare_database_url, "sent_without_time")
    schema.apply(bare_database_url)
    rows(bare_database_url, "UPDATE user_alert_deliveries SET reason = 'seen' WHERE id = 1")
    rows(bare_database_url, "UPDATE user_alert_deliveries SET status = 'sent' WHERE id = 5")
    with pytest.raises(psycopg.errors.CheckViolation, match="sent_has_time"):
        rows(bare_database_url, "UPDATE user_alert_deliveries SET status = 'sent', quota_day = now() WHERE id = 3")


def test_rows_that_were_being_sent_get_a_lease_that_ran_out(bare_database_url):
    """Whether such a message left is uncertain, which reclaiming settles (SPEC DB-7, C-11)."""
    make(bare_database_url, "sending_known")
    schema.apply(bare_database_url)
    assert rows(
        bare_database_url,
        "SELECT id, lease_expires_at <= now(), send_started_at <= now() FROM user_alert_deliveries"
        " WHERE status = 'sending'",
    ) == [(3, True, True)]


def test_a_delivery_in_two_digests_stays_in_the_one_that_was_sent(bare_database_url):
    """UNIQUE on the pair becomes UNIQUE on the delivery, and the rollback brings the other item back (SPEC DB-6)."""
    make(bare_database_url, "digest_tables")
    items = "SELECT id, digest_id, delivery_id FROM user_alert_digest_items ORDER BY id"
    schema.apply(bare_database_url)
    assert rows(bare_database_url, items) == [(2, 2, 5), (3, 1, 4)]
    schema.rollback(bare_database_url)
    assert rows(bare_database_url, items) == [(1, 1, 5), (2, 2, 5), (3, 1, 4)]


# --- states -------------------------------------------------------------------------------------------------------


DELIVERY_BREAKS = [
    "status = 'lost'",
    "status = NULL",
    "delivery_kind = 'weekly'",
    "delivery_kind = NULL",
    "channel = 'fax'",
    "attempts = -1",
    "failure_kind = 'unknown'",
    "status = 'sending'",
    "status = 'sending', claimed_by = 'run'",
    "status = 'sending', lease_expires_at = now()",
    "status = 'sent'",
    "sent_at = now()",
]
DIGEST_BREAKS = [
    "status = 'lost'",
    "channel = 'sms'",
    "period = 'weekly'",
    "window_end = window_start",
    "attempts = -1",
    "failure_kind = 'unknown'",
    "status = 'sending'",
    "status = 'sent'",
    "sent_at = now()",
]


@pytest.fixture
def filled_url(database_url: str) -> str:
    """A fresh database with one queued delivery and one queued digest."""
    for statement in (
        "INSERT INTO users (email) VALUES ('ada@example.org')",
        "INSERT INTO alert_events (alert_type, headline, body, cooldown_key, event_fingerprint)"
        " VALUES ('HIGH_IMPACT_EVENT', 'h', 'b', 'k', 'f')",
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel) VALUES (1, 1, 'email')",
        "INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end, digest_key)"
        " VALUES (1, 'email', 'daily', now() - interval '1 day', now(), 'key')",
    ):
        rows(database_url, statement)
    return database_url


@pytest.mark.parametrize("change", DELIVERY_BREAKS)
def test_a_delivery_cannot_be_in_a_state_that_is_none(filled_url, change):
    """CHECKs guard the states of a delivery (SPEC DB-7)."""
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
        rows(filled_url, f"UPDATE user_alert_deliveries SET {change}")


@pytest.mark.parametrize("change", DIGEST_BREAKS)
def test_a_digest_cannot_be_in_a_state_that_is_none(filled_url, change):
    """CHECKs guard the states of a digest (SPEC DB-7)."""
    with pytest.raises(psycopg.errors.CheckViolation):
        rows(filled_url, f"UPDATE user_alert_digests SET {change}")


@pytest.mark.parametrize("table", ["user_alert_deliveries", "user_alert_digests"])
def test_the_states_of_the_contract_are_allowed(filled_url, table):
    """A row can go through every state (SPEC DB-6, DB-7)."""
    for change in (
        "status = 'sending', claimed_by = 'run', lease_expires_at = now(), send_started_at = now()",
        "status = 'queued', attempts = 1, failure_kind = 'transient', claimed_by = NULL, lease_expires_at = NULL",
        "status = 'failed', failure_kind = 'permanent'",
        "status = 'skipped', failure_kind = NULL",
        "status = 'sent', sent_at = now()",
    ):
        rows(filled_url, f"UPDATE {table} SET {change}")


def test_a_fresh_database_wants_a_fingerprint(filled_url):
    """``event_fingerprint`` is NOT NULL and UNIQUE (SPEC DB-6)."""
    insert = (
        "INSERT INTO alert_events (alert_type, headline, body, cooldown_key, event_fingerprint)"
        " VALUES ('HIGH_IMPACT_EVENT', 'h', 'b', 'k', %s)"
    )
    with pytest.raises(psycopg.errors.NotNullViolation):
        rows(filled_url, insert, None)
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows(filled_url, insert, "f")
    rows(filled_url, insert, "g")


def test_a_run_has_one_of_four_states(database_url):
    """The status of a run is checked (SPEC O-1)."""
    with pytest.raises(psycopg.errors.CheckViolation):
        rows(
            database_url,
            "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, status)"
            " VALUES (gen_random_uuid(), 'local', 'a', 'done')",
        )


# --- down again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
def test_down_brings_back_what_was_and_up_again_works(bare_database_url, start):
    """Every migration has its rollback (SPEC DB-2); what is tightened on hand-made columns may stay so."""
    make(bare_database_url, start)
    before = shape(bare_database_url)
    schema.apply(bare_database_url)
    after = shape(bare_database_url)
    assert schema.rollback(bare_database_url) == ALL[::-1]
    restored = shape(bare_database_url)
    loosen = {column[:3] for column in before["columns"]}
    assert {column[:3] for column in restored["columns"]} == loosen
    assert restored["constraints"] == before["constraints"]
    assert restored["indexes"] == before["indexes"]
    assert restored["triggers"] == before["triggers"]
    assert schema.apply(bare_database_url) == ALL
    assert shape(bare_database_url) == after


@pytest.mark.parametrize("start", ["empty", "legacy", "digest_tables"])
def test_every_migration_can_be_undone_and_redone_alone(bare_database_url, start):
    """Going down any number of steps and up again ends where it began (SPEC DB-2)."""
    make(bare_database_url, start)
    schema.apply(bare_database_url)
    after = shape(bare_database_url)
    for count in range(1, len(ALL) + 1):
        assert schema.rollback(bare_database_url, count) == ALL[::-1][:count]
        assert schema.apply(bare_database_url) == ALL[-count:]
        assert shape(bare_database_url) == after


def test_source_tables_with_rows_survive_the_rollback(database_url):
    """Data is never dropped from the tables that the engine only reads (SPEC DB-5)."""
    rows(database_url, "INSERT INTO events (title) VALUES ('Pipeline outage')")
    rows(database_url, "INSERT INTO users (email) VALUES ('ada@example.org')")
    schema.rollback(database_url)
    left = rows(
        database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%yoyo%'"
    )
    assert sorted(left) == [("events",), ("users",)]


def test_the_rollback_gives_queued_work_back_without_sending_digests_one_by_one(legacy_url):
    """What is claimed waits again; what waits for a digest is skipped, for the legacy shape has no digests (SPEC C-1)."""
    [(instant,)] = rows(legacy_url, QUEUED.replace("(1, 1, 'email')", "(3, 3, 'email')"))
    rows(legacy_url, "UPDATE user_alert_deliveries SET status = 'sending', claimed_by = 'run', lease_expires_at = now()"
                     " WHERE id = %s", instant)  # fmt: skip
    digest = "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind) VALUES (%s, %s, %s, 'digest')"
    rows(legacy_url, digest, 1, 3, "email")
    rows(legacy_url, digest, 1, 1, "email")  # beside an instant one: the legacy key has no room for it
    schema.rollback(legacy_url)
    assert rows(
        legacy_url, "SELECT user_id, alert_event_id, status FROM user_alert_deliveries WHERE id > 6 ORDER BY id"
    ) == [
        (3, 3, "queued"),
        (1, 3, "skipped"),
    ]


def test_a_new_alert_type_does_not_keep_the_rollback_from_working(legacy_url):
    """The old CHECK comes back for new rows only (SPEC DB-2)."""
    rows(
        legacy_url,
        "INSERT INTO alert_events (alert_type, headline, body, cooldown_key) VALUES ('STORAGE_LOW', 'h', 'b', 'k')",
    )
    schema.rollback(legacy_url)
    assert [text for _, _, text in rows(legacy_url, CONSTRAINTS) if "NOT VALID" in text and "alert_type" in text]


# --- accidents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["empty", "legacy", *legacy.HALF_WAY])
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


def test_two_runners_that_migrate_at_once_do_not_collide(bare_database_url):
    """One applies, the others wait and find nothing to do (SPEC DB-2)."""
    legacy.create(bare_database_url)
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(schema.apply, [bare_database_url] * 4))
    assert sorted(applied) == [[], [], [], ALL]


def test_a_lock_row_of_a_killed_process_is_cleared(bare_database_url):
    """Nobody has to run ``yoyo break-lock`` (SPEC DB-2)."""
    schema.apply(bare_database_url)
    schema.rollback(bare_database_url, 1)
    rows(bare_database_url, "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    assert schema.apply(bare_database_url) == ALL[-1:]
    assert rows(bare_database_url, "SELECT * FROM yoyo_lock") == []


@pytest.mark.parametrize(
    ("back", "table", "index", "columns"),
    [
        (3, "user_alert_deliveries", "user_alert_deliveries_once_key", "status"),
        (1, "user_alert_deliveries", "user_alert_deliveries_quota_idx", "status"),
    ],
)
def test_an_index_whose_building_was_killed_is_built_again(legacy_url, back, table, index, columns):
    """``IF NOT EXISTS`` alone would take an INVALID index for the real one (SPEC DB-6)."""
    schema.rollback(legacy_url, back)
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows(legacy_url, f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} ({columns})")
    assert rows(legacy_url, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{index}'::regclass") == [(False,)]
    schema.apply(legacy_url)
    [(valid, definition)] = rows(
        legacy_url,
        f"SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = '{index}'::regclass",
    )
    assert valid
    assert "user_id, channel" in definition


def test_a_migration_that_fails_says_so_in_one_line_and_is_taken_up_again(bare_database_url):
    """What was applied before stays; after the repair the rest follows (SPEC DB-2)."""
    rows(bare_database_url, "CREATE VIEW alert_events AS SELECT 1 AS id")
    with pytest.raises(SchemaError) as caught:
        schema.apply(bare_database_url)
    assert str(caught.value).startswith("migration 0003.events_and_deliveries was not applied: ")
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
    """No secret and no address in an error (SPEC R-2, O-3)."""
    with pytest.raises(DatabaseUnreachableError) as caught:
        schema.apply(url)
    for secret in ("hunter2", "ada", "127.0.0.1", "nowhere"):
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


# --- the files ----------------------------------------------------------------------------------------------------


def test_every_migration_has_its_rollback_beside_it():
    """A file and its rollback come together (SPEC DB-2)."""
    files = {path.name for path in folder("migrations").iterdir()}
    assert files == {f"{name}{end}" for name in ALL for end in (".sql", ".rollback.sql")}


@pytest.mark.parametrize("path", sorted(folder("migrations").iterdir()), ids=lambda path: path.name)
def test_yoyo_reads_the_file_as_it_was_meant(path):
    """A DO block is one statement to sqlparse, and plain ASCII needs no locale (SPEC DB-2)."""
    text = path.read_text(encoding="ascii")
    statements = [sqlparse.format(statement, strip_comments=True).strip() for statement in sqlparse.split(text)]
    assert all(statement.endswith(";") for statement in statements if statement)
    blocks = [statement for statement in statements if statement.startswith("DO $$")]
    assert len(blocks) == text.count("DO $$")
    assert all(block.endswith("$$;") for block in blocks)
