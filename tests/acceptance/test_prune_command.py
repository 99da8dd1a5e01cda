"""The command that ends the life of what is old (SPEC K-1)."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import answer_of, fingerprints

if TYPE_CHECKING:
    import psycopg

    from tests.acceptance.conftest import CommandLine

ROWS = 600
OLD = f"""
INSERT INTO users (email) SELECT 'user' || n || '@example.com' FROM generate_series(1, {ROWS}) AS n;
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint, created_at,
                          fanout_completed_at)
VALUES ('X', 4, 'Old', '', 'old', 'old', now() - interval '100 days', now() - interval '100 days');
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at, created_at)
SELECT u.id, e.id, 'email', 'sent', now() - interval '100 days', now() - interval '100 days'
  FROM users AS u, alert_events AS e;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$;
CREATE TRIGGER slow BEFORE DELETE ON user_alert_deliveries FOR EACH ROW EXECUTE FUNCTION slow();
"""
"""Deliveries whose deletion takes six seconds, so that it takes several batches."""


def left(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM user_alert_deliveries").fetchone()
    connection.rollback()
    assert row is not None
    return int(row[0])


@pytest.fixture
def old(postgresql: psycopg.Connection) -> psycopg.Connection:
    postgresql.execute(OLD)
    postgresql.commit()
    return postgresql


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 1)])
async def test_ended_in_the_middle_it_goes_on(
    alerts_engine: CommandLine, old: psycopg.Connection, number: signal.Signals, code: int
):
    """What is deleted stays so, nothing is half deleted, and the next time finishes (K-1, CLI-7)."""
    process = await alerts_engine.start("prune", "--older-than", "90d", "--json")
    while left(old) == ROWS:  # noqa: ASYNC110 - it is the other process that deletes
        await asyncio.sleep(0.02)
    process.send_signal(number)
    first = await answer_of(process)
    after = left(old)
    assert first.code == code
    assert 0 < after < ROWS
    if number is signal.SIGTERM:
        assert (first.json["stopped"], first.json["deliveries"], first.json["events"]) == (True, ROWS - after, 0)
    old.execute("DROP TRIGGER slow ON user_alert_deliveries")
    old.commit()
    second = await alerts_engine("prune", "--older-than", "90d", "--json")
    assert second.code == 0
    assert (second.json["stopped"], second.json["deliveries"], second.json["events"]) == (False, after, 1)
    assert left(old) == 0


async def test_a_dry_run_says_what_would_go(alerts_engine: CommandLine, old: psycopg.Connection):
    """And changes nothing (X-1)."""
    old.execute("DROP TRIGGER slow ON user_alert_deliveries")
    old.commit()
    before = fingerprints(old)
    answer = await alerts_engine("prune", "--older-than", "13w", "--dry-run")
    assert answer.code == 0
    assert "would be deleted" in answer.out
    assert f"deliveries  {ROWS}" in answer.out
    assert fingerprints(old) == before


@pytest.mark.parametrize("age", ["", "90", "90 d", "6d", "0w", "-90d", "9999999d", "1y", "٩٠d"])
async def test_what_is_no_age_is_wrong_usage(alone: CommandLine, age: str):
    """Exit 2, with an example (CLI-2)."""
    answer = await alone("prune", "--older-than", age)
    assert (answer.code, answer.out) == (2, "")
    assert "90d" in answer.err
    assert (await alone("prune")).code == 2
