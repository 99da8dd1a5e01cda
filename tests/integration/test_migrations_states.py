"""The constraints that guard the states of rows."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.shape import rows

FILLING = """
    INSERT INTO users (email) VALUES ('ada@example.org');
    INSERT INTO alert_events (alert_type, headline, body, cooldown_key, event_fingerprint)
    VALUES ('HIGH_IMPACT_EVENT', 'h', 'b', 'k', 'f');
    INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel) VALUES (1, 1, 'email');
    INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end, digest_key)
    VALUES (1, 'email', 'daily', now() - interval '1 day', now(), 'key');
"""
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
    with psycopg.connect(database_url) as connection:
        connection.execute(FILLING)
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
