"""Migrations undone: down, and up again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from alerts_engine import schema
from tests.support.shape import ALL, CONSTRAINTS, STARTS, make, migrated, rows, shape

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE_ROWS = """
    INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, claimed_by, lease_expires_at)
    VALUES (3, 3, 'email', 'sending', 'run', now());
    -- The second one stands beside an instant delivery: the legacy key has no room for it.
    INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind)
    VALUES (1, 3, 'email', 'digest'), (1, 1, 'email', 'digest');
"""


@pytest.mark.parametrize("start", STARTS)
def test_down_brings_back_what_was_and_up_again_works(bare_database_url, start):
    """Every migration has its rollback, and it leaves nothing behind (SPEC DB-2)."""
    make(bare_database_url, start)
    before = shape(bare_database_url)
    schema.apply(bare_database_url)
    after = shape(bare_database_url)
    assert schema.rollback(bare_database_url) == ALL[::-1]
    assert shape(bare_database_url) == before
    assert schema.apply(bare_database_url) == ALL
    assert shape(bare_database_url) == after


@pytest.mark.parametrize("start", ["empty", "legacy", "digest_tables"])
def test_every_migration_can_be_undone_and_redone_alone(bare_database_url, bare_postgresql, start):
    """Going down any number of steps and up again ends where it began (SPEC DB-2)."""
    bare_postgresql.close()  # a database that somebody uses cannot be copied
    make(bare_database_url, start)
    schema.apply(bare_database_url)
    after = shape(bare_database_url)
    for count in range(1, len(ALL) + 1):
        assert schema.rollback(bare_database_url, 1) == [ALL[-count]]
        with copy_of(bare_database_url) as lower:
            assert schema.apply(lower) == ALL[-count:]
            assert shape(lower) == after


@contextmanager
def copy_of(url: str) -> Iterator[str]:
    """The database as it is, a second time."""
    name = conninfo_to_dict(url)["dbname"]
    copy = f"{name}_copy"
    with psycopg.connect(make_conninfo(url, dbname="postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
        try:
            yield url.replace(f"/{name}?", f"/{copy}?")
        finally:
            server.execute(f"DROP DATABASE {copy} WITH (FORCE)")


def test_source_tables_with_rows_survive_the_rollback(database_url):
    """Data is never dropped from the tables that the engine only reads (SPEC DB-5)."""
    rows(database_url, "INSERT INTO events (title) VALUES ('Pipeline outage')")
    rows(database_url, "INSERT INTO users (email) VALUES ('ada@example.org')")
    schema.rollback(database_url)
    left = rows(
        database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%yoyo%'"
    )
    assert sorted(left) == [("events",), ("users",)]


def test_the_rollback_gives_queued_work_back_without_sending_digests_one_by_one(bare_database_url):
    """What is claimed waits again; what waits for a digest is skipped: the legacy shape has none (SPEC C-1)."""
    url = migrated(bare_database_url, "legacy")
    with psycopg.connect(url) as connection:
        connection.execute(ENGINE_ROWS)
    schema.rollback(url)
    left = rows(url, "SELECT user_id, alert_event_id, status FROM user_alert_deliveries WHERE id > 6 ORDER BY id")
    assert left == [(3, 3, "queued"), (1, 3, "skipped")]


def test_a_new_alert_type_does_not_keep_the_rollback_from_working(bare_database_url):
    """The old CHECK comes back for new rows only (SPEC DB-2)."""
    url = migrated(bare_database_url, "legacy")
    rows(
        url,
        "INSERT INTO alert_events (alert_type, headline, body, cooldown_key) VALUES ('STORAGE_LOW', 'h', 'b', 'k')",
    )
    schema.rollback(url)
    assert [text for _, _, text in rows(url, CONSTRAINTS) if "NOT VALID" in text and "alert_type" in text]
