"""The dry run: the whole chain as it would be, and a database as it was (SPEC X-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from alerts_engine import Phase
from tests.support.world import (
    DAY,
    NOT_STOPPED,
    NOW,
    add_delivery,
    add_digest_delivery,
    add_event,
    add_index,
    add_news,
    add_user,
    prepared,
    run,
)

if TYPE_CHECKING:
    import psycopg

    from alerts_engine import PhaseReport, RunReport

HISTORY = {"alerts_engine_runs", "alerts_engine_run_items"}
CREDENTIALS = {"email_from": "alerts@example.test", "brevo_api_key": "a-key", "brevo_base_url": "http://127.0.0.1:9"}


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture
def world(db: psycopg.Connection) -> None:
    """Something to do for every phase."""
    instant, digest = add_user(db, "pro", telegram="1"), add_user(db)
    add_news(db)
    add_index(db, 95)
    add_delivery(db, instant, add_event(db, fanned_out=True))
    add_digest_delivery(db, digest, NOW - 2 * DAY)


def fingerprint(db: psycopg.Connection) -> dict[str, list[str]]:
    """Every row of every table but the history, with where it lies and which transaction wrote it."""
    tables = {row.tablename for row in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    every_row = sql.SQL("SELECT (ctid, xmin, t.*)::text AS row FROM {} AS t ORDER BY ctid")
    return {
        table: [row.row for row in db.execute(every_row.format(sql.Identifier(table)))] for table in tables - HISTORY
    }


def by_phase(report: RunReport) -> dict[str, PhaseReport]:
    return {one.phase: one for one in report.phases}


@pytest.mark.parametrize("phase", list(Phase))
async def test_a_dry_run_leaves_every_row_as_it_was(db, database_url, world, phase):
    """Byte for byte, apart from the run's own record (SPEC X-1, O-1)."""
    before = fingerprint(db)
    report = await run(database_url, phase, dry_run=True, fields=CREDENTIALS)
    assert (report.status, report.dry_run) == ("success", True)
    assert fingerprint(db) == before
    (record,) = db.execute("SELECT phase, status, dry_run FROM alerts_engine_runs").fetchall()
    assert tuple(record) == (phase, "success", True)
    assert db.execute("SELECT FROM alerts_engine_run_items").rowcount == len(report.phases)


async def test_each_phase_sees_what_the_ones_before_it_would_have_made(db, database_url, world):
    """Events become deliveries, deliveries become digests, and both would be sent (SPEC X-1)."""
    (queued,) = db.execute("SELECT id FROM user_alert_deliveries WHERE delivery_kind = 'instant'").fetchall()
    phases = by_phase(await run(database_url, Phase.ALL, dry_run=True, fields=CREDENTIALS))
    assert phases["a"].counts["events_created"] == 2
    # The high-impact event: email and Telegram for the one, a digest for the other.
    assert phases["b"].counts["events_processed"] == 2
    assert (phases["b"].counts["created_instant"], phases["b"].counts["created_digest"]) == (2, 1)
    # The digest of two days ago is due, the one of today is not.
    digests = {
        "digests_created": 2,
        "digest_items_attached": 2,
        "deliveries_marked_batched": 2,
        "bundles_created": 0,
        "deliveries_bundled": 0,
    }
    assert phases["d"].counts == digests | NOT_STOPPED
    email = phases["c"].counts["would_send"]["email"]
    assert (email["deliveries"]["count"], email["digests"]["count"]) == (2, 1)
    assert queued.id in email["deliveries"]["ids"]
    assert phases["c"].counts["waiting"]["email"] == {"not_due_yet": 1}
    assert phases["c"].counts["waiting"]["telegram"] == {"channel_not_configured": 1}
    assert phases["c"].counts["sent"] == 0


async def test_a_dry_run_says_what_the_run_then_does(db, database_url, world):
    """Count by count, for the phases that write (SPEC X-1)."""
    told = by_phase(await run(database_url, Phase.ALL, dry_run=True))
    done = by_phase(await run(database_url, Phase.ALL, fields={"fail_open_on_channel_missing": True}))
    assert {phase: told[phase].counts for phase in "abd"} == {phase: done[phase].counts for phase in "abd"}
    assert told["b"].counts["deliveries_created"] > 0


async def test_a_dry_run_needs_no_credentials(db, database_url, world):
    """What has no channel waits, by name (SPEC X-1)."""
    report = await run(database_url, Phase.ALL, dry_run=True)
    sending = by_phase(report)["c"]
    assert report.status == "success"
    assert sending.counts["would_send"] == {}
    assert sending.counts["waiting"]["email"] == {"channel_not_configured": 3, "not_due_yet": 1}


async def test_a_phase_that_fails_in_a_dry_run_takes_nothing_from_the_others(db, database_url, world):
    """The chain goes on with what there is, and the database stays as it was (SPEC X-1, CLI-5)."""
    db.execute("ALTER TABLE user_alert_deliveries ADD CONSTRAINT breaks CHECK (quota_day IS NULL)")
    before = fingerprint(db)
    report = await run(database_url, Phase.ALL, dry_run=True, fields=CREDENTIALS)
    phases = by_phase(report)
    assert report.status == "failed"
    assert {phase: one.status for phase, one in phases.items()} == {
        "a": "success", "b": "failed", "d": "success", "c": "success",
    }  # fmt: skip
    assert "breaks" in phases["b"].error
    assert phases["d"].counts["digests_created"] == 1
    assert phases["c"].counts["would_send"]["email"]["deliveries"]["count"] == 1
    assert fingerprint(db) == before


async def test_a_dry_run_skips_a_phase_that_somebody_runs(db, database_url, world):
    """It would see half of it (SPEC L-1, X-1)."""
    key = "('x' || left(encode(sha256('alerts_v2_phase_b'), 'hex'), 16))::bit(64)::int8"
    db.execute(f"SELECT pg_advisory_lock({key})")
    phases = by_phase(await run(database_url, Phase.ALL, dry_run=True))
    assert phases["b"].reason == "lock_not_acquired"
    assert phases["d"].counts["digests_created"] == 1
