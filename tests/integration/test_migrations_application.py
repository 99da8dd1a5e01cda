"""What a migration does to an application that uses the database already: nothing that it would notice."""

from __future__ import annotations

import psycopg
import pytest

from alerts_engine import schema
from tests.support.shape import columns_of, contents, make, migrated, rows


@pytest.fixture
def legacy_url(bare_database_url: str) -> str:
    """The application's database, migrated."""
    return migrated(bare_database_url, "legacy")


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
    migrated(bare_database_url, "fingerprint_nullable")
    assert rows(bare_database_url, "SELECT event_fingerprint FROM alert_events ORDER BY id") == [
        ("region:Europe:1",),
        ("asset:Europe:gas:1",),
        ("region:Europe:1#3",),
    ]


def test_events_with_deliveries_count_as_fanned_out(legacy_url):
    """What the application has delivered is not fanned out again; what it has not still is (SPEC DB-3, B-1)."""
    assert rows(
        legacy_url, "SELECT id, fanout_completed_at = created_at AT TIME ZONE 'UTC' FROM alert_events ORDER BY id"
    ) == [
        (1, True),
        (2, True),
        (3, None),
    ]


def test_a_fan_out_marker_that_was_there_is_believed(bare_database_url):
    """Whoever made ``fanout_completed_at`` by hand has decided what it says (SPEC DB-3)."""
    migrated(bare_database_url, "fanout_marker")
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
    migrated(bare_database_url, "delivery_columns_loose")
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
    migrated(bare_database_url, start)
    again = (
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind) VALUES (1, 1, 'email', %s)"
    )
    rows(bare_database_url, again, "digest")
    with pytest.raises(psycopg.errors.UniqueViolation, match="user_alert_deliveries_once_key"):
        rows(bare_database_url, again, "digest")


def test_an_application_that_never_wrote_a_send_time_goes_on_so(bare_database_url):
    """The rule about ``sent_at`` is for rows the engine writes (SPEC DB-7)."""
    migrated(bare_database_url, "sent_without_time")
    rows(bare_database_url, "UPDATE user_alert_deliveries SET reason = 'seen' WHERE id = 1")
    rows(bare_database_url, "UPDATE user_alert_deliveries SET status = 'sent' WHERE id = 5")
    with pytest.raises(psycopg.errors.CheckViolation, match="sent_has_time"):
        rows(bare_database_url, "UPDATE user_alert_deliveries SET status = 'sent', quota_day = now() WHERE id = 3")


def test_rows_that_were_being_sent_get_a_lease_that_ran_out(bare_database_url):
    """Whether such a message left is uncertain, which reclaiming settles (SPEC DB-7, C-11)."""
    migrated(bare_database_url, "sending_known")
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


def test_a_user_with_digests_can_still_be_deleted(bare_database_url):
    """References made by hand without CASCADE would stop the application once the engine writes there (SPEC DB-3)."""
    migrated(bare_database_url, "digest_tables")
    rows(bare_database_url, "DELETE FROM users WHERE id = 3")
    assert rows(bare_database_url, "SELECT count(*) FROM user_alert_digests") == [(0,)]
