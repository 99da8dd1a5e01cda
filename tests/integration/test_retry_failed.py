"""Taking up what failed (SPEC O-5)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from alerts_engine import AlertsEngine, Phase, PlanQuota, RetryReason, SettingsError, SourceName
from tests.support import ground
from tests.support.counters import counted, there
from tests.support.sending import destination
from tests.support.world import NOW, add_event, add_user, prepared, run_phase, settings


async def retry(world, kind=SourceName.DELIVERIES, since_hours=24, fields=None, **asked):
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url, **fields or {})) as engine:
        return await engine.retry_failed(kind, since_hours, **asked)


async def fail(world, users: int = 3, *, attempts: int = 5, channel: str = "email") -> None:
    """Deliveries that fail for now, their attempts used up."""
    world.alert(world.users(users), channel)
    world.execute(f"UPDATE user_alert_deliveries SET attempts = {attempts - 1}")
    world.fault(status=503)
    await world.run()
    world.sandbox.faults.clear()
    assert world.statuses == {"failed": users}


async def test_used_up_attempts_need_a_reset(world):
    """Without it nothing is touched; with it they begin at none, and the next run sends them."""
    await fail(world)
    assert (await retry(world)).count == 0
    done = await retry(world, reset_attempts=True)
    assert (done.count, [(one.channel, one.cause, one.count) for one in done.by_cause]) == (
        3, [("email", "brevo_internal_server_error", 3)],
    )  # fmt: skip
    rows = world.rows
    assert {(row.status, row.attempts, row.next_retry_at, row.last_error) for row in rows} == {
        ("queued", 0, None, "brevo_internal_server_error")
    }
    await world.run()
    assert world.statuses == {"sent": 3}


async def test_attempts_that_are_left_are_kept(world):
    """A higher ALERTS_MAX_ATTEMPTS gives them some more."""
    await fail(world)
    assert (await retry(world, fields={"max_attempts": 6})).count == 3
    assert {row.attempts for row in world.rows} == {5}


async def test_permanent_failures_are_never_taken_up(world):
    world.alert(world.users(2), "email")
    world.fault(destination(1, "email"), status=400)
    await world.run()
    assert (await retry(world, reset_attempts=True)).count == 0


async def test_the_counters_lose_what_is_taken_up(world):
    """In the hour in which it had failed, and again when it fails again (SPEC O-4a)."""
    await fail(world, 4)
    ago = "interval '30 hours'"
    world.execute(f"UPDATE user_alert_deliveries SET ended_at = ended_at - {ago}")
    world.execute("UPDATE alerts_engine_outcomes SET hour = date_trunc('hour', (SELECT max(ended_at) FROM"
                  " user_alert_deliveries)) WHERE outcome = 'failed'")  # fmt: skip
    assert counted(world.url) == there(world.url)
    await retry(world, since_hours=48, reset_attempts=True)
    assert counted(world.url) == there(world.url) == {}
    world.fault(status=400, times=1)
    await world.run()
    assert counted(world.url) == there(world.url)
    assert sorted(counted(world.url).values()) == [1, 3]


async def test_the_hours_the_cause_and_the_channel_narrow_it(world):
    await fail(world)
    world.execute("UPDATE user_alert_deliveries SET ended_at = now() - interval '10 hours' WHERE id = 1")
    world.execute("UPDATE user_alert_deliveries SET last_error = 'timeout' WHERE id = 2")
    assert (await retry(world, since_hours=9, reset_attempts=True, dry_run=True)).count == 2
    assert (await retry(world, reset_attempts=True, cause="timeout", dry_run=True)).count == 1
    assert (await retry(world, reset_attempts=True, channel="sms", dry_run=True)).count == 0
    assert world.statuses == {"failed": 3}


async def test_a_dry_run_says_what_would_be_done(world):
    await fail(world)
    would = await retry(world, reset_attempts=True, dry_run=True)
    did = await retry(world, reset_attempts=True)
    assert (would.count, would.by_cause, would.dry_run) == (did.count, did.by_cause, True)


async def test_digests_are_taken_up_by_their_kind(world):
    """With their items as they were (SPEC D-5)."""
    ground.add_digests(world.url, world.users(2), "email")
    world.execute("UPDATE user_alert_digests SET attempts = 4")
    world.fault(status=503)
    await world.run()
    world.sandbox.faults.clear()
    assert (await retry(world, reset_attempts=True)).count == 0
    assert (await retry(world, SourceName.DIGESTS, reset_attempts=True)).count == 2
    await world.run()
    assert world.statuses == {"sent": 2}
    assert counted(world.url) == there(world.url)


async def test_what_was_skipped_for_want_of_credentials(world):
    """Where the event is within the hours; digests by their newest event."""
    users = world.users(3)
    world.alert(users, "email")
    ground.add_digests(world.url, users[:2], "email")
    await world.run({"brevo_api_key": None})
    assert world.statuses == {"skipped": 5}
    world.execute("UPDATE alert_events SET created_at = now() - interval '30 hours' WHERE id = 2")
    reason = RetryReason.CHANNEL_NOT_CONFIGURED
    would = await retry(world, reason=reason, dry_run=True)
    done = await retry(world, reason=reason)
    assert (would.count, done.count) == (2, 2)
    assert (await retry(world, SourceName.DIGESTS, reason=reason)).count == 1
    assert counted(world.url) == there(world.url)
    await world.run()
    assert world.statuses == {"skipped": 2, "sent": 3}
    assert counted(world.url) == there(world.url)


async def test_whoever_retries_without_credentials_is_warned(world):
    world.alert(world.users(1), "email")
    fields = {"brevo_api_key": None}
    await world.run(fields)
    done = await retry(world, reason=RetryReason.CHANNEL_NOT_CONFIGURED, fields=fields)
    assert done.warnings == (
        "email is not configured here (BREVO_API_KEY not set): a run without it skips these again",
    )


async def test_twice_at_once_and_beside_a_sender_each_row_is_taken_once(world):
    """Batches skip what somebody else has locked; nobody gets it twice."""
    await fail(world, 40)
    both = await asyncio.gather(retry(world, reset_attempts=True), retry(world, reset_attempts=True), world.run())
    assert both[0].count + both[1].count == 40
    await world.run()
    assert world.statuses == {"sent": 40}
    assert sorted(world.got) == sorted(set(world.got))
    assert counted(world.url) == there(world.url)


@pytest.mark.parametrize("asked", [{"since_hours": 0}, {"channel": "fax"}, {"since_hours": float("nan")}])
async def test_what_cannot_be_asked(world, asked):
    with pytest.raises(SettingsError):
        await retry(world, **asked)


async def test_a_quota_is_right_after_rows_were_taken_up(postgresql, database_url):
    """A failed row gives its place to the next event; taken up, it uses one again (SPEC B-7)."""
    db = prepared(postgresql)
    add_user(db, "pro")
    quotas = {"pro": PlanQuota(email=2, telegram=0, digests=1, alert_types=("ALL",))}

    async def made(events: int) -> int:
        for _ in range(events):
            add_event(db, NOW - timedelta(minutes=1))
        return (await run_phase(database_url, Phase.B, fields={"plan_quotas": quotas})).counts["deliveries_created"]

    assert await made(3) == 2
    db.execute(
        "UPDATE user_alert_deliveries SET status = 'failed', failure_kind = 'transient', attempts = 5,"
        " ended_at = now(), last_error = 'timeout' WHERE id = (SELECT min(id) FROM user_alert_deliveries)"
    )
    assert await made(2) == 1
    async with AlertsEngine(settings(database_url)) as engine:
        assert (await engine.retry_failed(SourceName.DELIVERIES, 24, reset_attempts=True)).count == 1
    assert await made(2) == 0
    assert db.execute("SELECT count(*) FROM user_alert_deliveries WHERE status = 'queued'").fetchone()[0] == 3


@pytest.mark.parametrize(("policy", "count"), [("retry", 2), ("fail", 0)])
async def test_what_may_have_been_accepted_is_repeated_only_where_the_policy_allows_it(world, policy, count):
    """With ``fail`` nothing is ever sent twice, by any cause; with ``retry`` the answer warns (SPEC C-17)."""
    world.alert(world.users(2), "telegram")
    world.fault(reset=True, accept=True)
    await world.run({"max_attempts": 1})
    assert {row.last_error for row in world.rows} == {"send_uncertain"}
    fields = {"uncertain_send": policy}
    would = await retry(world, reset_attempts=True, dry_run=True, fields=fields)
    done = await retry(world, reset_attempts=True, fields=fields)
    assert (would.count, done.count) == (count, count)
    assert done.warnings == (
        ("2 by telegram may have been accepted before (send_uncertain): they may arrive twice",) if count else ()
    )


async def test_a_stop_ends_it_after_the_batch_under_way(world):
    """The next call goes on (SPEC CLI-7)."""
    await fail(world)
    stopping = asyncio.Event()
    stopping.set()
    stopped = await retry(world, reset_attempts=True, stopping=stopping)
    assert (stopped.count, stopped.stopped) == (0, True)
    done = await retry(world, reset_attempts=True)
    assert (done.count, done.stopped) == (3, False)
