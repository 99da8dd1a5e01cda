"""Migrations undone: down, and up again."""

from __future__ import annotations

import psycopg
import pytest

from alerts_engine import schema
from tests.support.shape import ALL, CONSTRAINTS, STARTS, make, migrated, rows, shape

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
