"""Phase C by example: what is sent, in which order, how much at once, and each channel by itself (SPEC section 8)."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine import AlertsEngine, Phase
from tests.support import ground
from tests.support.ground import CHANNELS
from tests.support.sending import World, destination

if TYPE_CHECKING:
    from collections.abc import Callable


every_channel = pytest.mark.parametrize("channel", CHANNELS)


# --- what is sent, and in which order -------------------------------------------------------------------------------


@every_channel
async def test_a_due_delivery_is_sent(world: World, channel: str):
    """Success: ``sent``, a time, the provider's id and no error; one message arrives (SPEC C-5)."""
    world.alert(world.users(), channel)
    report = await world.run()
    (row,) = world.rows
    (message,) = world.sandbox.messages
    assert (row.status, row.attempts, row.last_error, row.failure_kind) == ("sent", 1, None, None)
    assert row.sent_at is not None
    assert row.lease_expires_at is None
    assert row.provider_message_id in {message.provider_message_id, message.provider_message_id.strip("<>")}
    assert message.destination == destination(1, channel)
    assert (report.status, report.counts["sent"], report.counts["by_channel"][channel]["sent"]) == ("success", 1, 1)


async def test_instant_deliveries_go_before_digests(world: World):
    """Due deliveries first, then due digests (SPEC C-1)."""
    first, second = world.users(3), world.users(3)
    ground.add_digests(world.url, first, "email")
    world.alert(second)
    report = await world.run({"send_concurrency": 1})
    assert set(world.got[:3]) == {destination(n, "email") for n in (4, 5, 6)}
    assert set(world.got[3:]) == {destination(n, "email") for n in (1, 2, 3)}
    assert (report.counts["queued_selected"], report.counts["digests"]["selected"]) == (3, 3)
    assert (report.counts["sent"], report.counts["digests"]["sent"]) == (3, 3)
    assert report.counts["by_channel"]["email"]["sent"] == 6


async def test_digest_deliveries_are_never_sent_one_by_one(world: World):
    """A delivery of kind ``digest`` waits for its digest (SPEC C-1)."""
    world.alert(world.users(3), kind="digest")
    report = await world.run()
    assert (world.got, report.counts["queued_selected"]) == ([], 0)
    assert world.execute("SELECT DISTINCT status FROM user_alert_deliveries") == [("queued",)]


async def test_a_digest_without_items_is_skipped(world: World):
    """An empty digest is no message (SPEC C-16)."""
    ground.add_digests(world.url, world.users(), "email")
    world.execute("DELETE FROM user_alert_digest_items")
    report = await world.run()
    assert [(row.status, row.last_error) for row in world.rows] == [("skipped", "empty_digest")]
    assert (world.got, report.counts["digests"]["skipped_empty"]) == ([], 1)


async def test_the_oldest_goes_first_also_among_retries(world: World):
    """Oldest first, whether new or tried before; what is not due waits (SPEC C-2)."""
    users = world.users(6)
    world.alert(users)
    world.execute("UPDATE user_alert_deliveries SET created_at = created_at - make_interval(secs => id)")
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = now() - make_interval(secs => id) WHERE id % 2 = 0")
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = now() + interval '1 hour' WHERE id = 3")
    await world.run({"send_concurrency": 1})
    assert world.got == [destination(number, "email") for number in (6, 5, 4, 2, 1)]
    assert world.statuses == {"sent": 5, "queued": 1}


async def test_the_oldest_digest_goes_first(world: World):
    """The digest whose window ended first goes first, also when it was put back by hand (SPEC C-2)."""
    ground.add_digests(world.url, world.users(3), "email")
    for column in ("created_at", "window_start", "window_end", "next_retry_at"):
        world.execute(f"UPDATE user_alert_digests SET {column} = {column} - make_interval(days => id::int)")
    world.execute("UPDATE user_alert_digests SET next_retry_at = NULL WHERE id = 3")
    await world.run({"send_concurrency": 1})
    assert world.got == [destination(number, "email") for number in (3, 2, 1)]


# --- claims ---------------------------------------------------------------------------------------------------------


async def in_the_middle(
    world: World, requests: int, look: Callable[[], Any], fields: dict[str, Any], **order: Any
) -> Any:
    """What ``look`` sees once this many calls are under way; then the sandbox lets them go."""
    world.fault(hang=True)
    running = asyncio.ensure_future(world.run({"send_timeout_seconds": 1, **fields}, **order))
    await world.sandbox.wait_for_requests(requests)
    seen = look()
    world.sandbox.faults.clear()
    await running
    return seen


async def test_a_row_is_leased_and_committed_before_its_call(world: World):
    """While a provider is called its row is ``sending``, with a lease and the run's name (SPEC C-2)."""
    world.alert(world.users())
    (row,) = await in_the_middle(world, 1, lambda: world.rows, {"send_lease_seconds": 60})
    assert (row.status, row.attempts) == ("sending", 0)
    assert row.claimed_by is not None
    assert row.send_started_at is not None
    assert timedelta(seconds=30) < row.lease_expires_at - datetime.now(UTC) < timedelta(seconds=90)


async def test_no_more_is_claimed_than_can_be_sent_now(world: World):
    """Never more rows are ``sending`` than the concurrency allows (SPEC C-3)."""
    world.alert(world.users(30))
    seen = await in_the_middle(world, 4, lambda: world.statuses, {"send_concurrency": 4, "max_run_seconds": 0.5})
    assert seen == {"sending": 4, "queued": 26}


async def test_one_claim_takes_at_most_a_batch(world: World):
    """``--batch-size`` bounds one claim: its rows share one lease (SPEC C-3, section 4)."""
    world.alert(world.users(10))
    leases = "SELECT count(*) AS size FROM user_alert_deliveries WHERE status = 'sending' GROUP BY lease_expires_at"
    seen = await in_the_middle(world, 10, lambda: world.execute(leases), {"send_concurrency": 40}, batch_size=3)
    assert max(row.size for row in seen) <= 3


async def test_no_more_is_claimed_than_there_are_tokens(world: World):
    """A slow bucket leaves the rest in the queue, not in ``sending`` (SPEC C-3)."""
    world.alert(world.users(10))
    fields = {"rate_limit_per_minute": 1, "max_run_seconds": 0.5}
    assert await in_the_middle(world, 1, lambda: world.statuses, fields) == {"sending": 1, "queued": 9}
    assert world.statuses == {"queued": 10}


async def test_the_cap_counts_all_channels_and_digests(world: World):
    """At most ``ALERTS_MAX_SEND_PER_RUN`` messages in one run; the rest stays queued (SPEC C-15)."""
    users = world.users(6)
    for channel in CHANNELS:
        world.alert(users, channel)
    ground.add_digests(world.url, users, "telegram")
    report = await world.run({"max_send_per_run": 7})
    assert len(world.got) == 7
    assert world.statuses == {"sent": 7, "queued": 17}
    assert not any(row.attempts for row in world.rows if row.status == "queued")
    assert (report.status, report.counts["stopped_early"], report.counts["stop_reason"]) == (
        "success", True, "max_send_per_run",
    )  # fmt: skip
    await world.run({"max_send_per_run": 17})
    assert world.statuses == {"sent": 24}


async def test_what_is_not_sent_does_not_use_up_the_cap(world: World):
    """Skipped and failed rows leave the cap to others (SPEC C-15)."""
    world.alert(world.users(6))
    world.execute("UPDATE users SET email = ' ' || id WHERE id <= 2")
    world.execute("UPDATE users SET email = repeat(' ', id) WHERE id <= 2")
    report = await world.run({"max_send_per_run": 3})
    assert (report.counts["sent"], report.counts["skipped_missing_destination"]) == (3, 2)


async def test_the_time_limit_ends_claiming_and_not_what_is_under_way(world: World):
    """After ``ALERTS_MAX_RUN_SECONDS`` nothing more is claimed; sends under way finish (SPEC C-3)."""
    world.alert(world.users(20))
    world.fault(delay=0.4)
    report = await world.run({"max_run_seconds": 0.2, "send_concurrency": 5})
    assert report.counts["stop_reason"] == "max_run_seconds"
    assert world.statuses == {"sent": len(world.got), "queued": 20 - len(world.got)}
    assert 0 < len(world.got) < 20


# --- channels beside each other -------------------------------------------------------------------------------------


async def test_a_hanging_channel_holds_up_no_other(world: World):
    """All Telegram messages arrive while every email hangs (SPEC C-4)."""
    users = world.users(40)
    world.alert(users)
    world.alert(users, "telegram")
    world.fault(provider="brevo", hang=True)
    running = asyncio.ensure_future(world.run({"send_concurrency": 10, "send_timeout_seconds": 30}))
    await world.sandbox.wait_for_messages(40)
    assert {message.channel for message in world.sandbox.messages} == {"telegram"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_slow_limit_holds_up_no_other_and_is_kept(world: World):
    """One email a second takes its time, whatever the others do meanwhile (SPEC C-4, C-9)."""
    users = world.users(20)
    world.alert(users[:5])
    world.alert(users, "telegram")
    await world.run({"rate_limit_email_per_minute": 60})
    emails = [message for message in world.sandbox.messages if message.channel == "email"]
    assert len(world.got) == 25
    # Five at one a second are four seconds; the burst of one is what arriving late may hide.
    assert emails[-1].received_at - emails[0].received_at > timedelta(seconds=3)
    assert [message.channel for message in world.sandbox.messages][-3:] == ["email"] * 3


async def test_a_chat_gets_its_messages_one_after_the_other(world: World):
    """Telegram's one message a second per chat is kept; other chats need not wait for it."""
    world.alert(world.users(1), "telegram", every_alert=True)
    world.execute("DELETE FROM user_alert_deliveries WHERE id > 3")
    world.alert(world.users(10), "telegram")
    report = await world.run()
    mine = [message for message in world.sandbox.messages if message.destination == destination(1, "telegram")]
    assert (len(mine), report.counts["sent"], report.counts["retried"]) == (3, 13, 0)
    assert mine[2].received_at - mine[0].received_at > timedelta(seconds=1)
    assert world.got.index(destination(11, "telegram")) < len(world.got) - 2


async def test_two_users_of_one_chat_share_its_rest(world: World):
    """The limit is the chat's: blanks around an id, or another user, make no other chat."""
    world.alert(world.users(2), "telegram")
    world.execute("UPDATE users SET telegram_chat_id = '-100777'")
    await world.run()
    first, second = world.sandbox.messages
    assert second.received_at - first.received_at > timedelta(seconds=0.5)


async def test_a_run_does_not_wait_for_a_chat_that_gets_nothing_more(world: World):
    """The rest after a chat's last message keeps nobody, however long it is."""
    world.alert(world.users(1), "telegram")
    report = await world.run({"max_run_seconds": 30}, pace=3600.0)
    assert (report.counts["sent"], report.counts["stopped_early"]) == (1, False)


async def test_paused_channels_stay_queued(world: World):
    """Rows of ``ALERTS_CHANNELS_PAUSED`` are not touched, configured or not (SPEC section 4)."""
    users = world.users(2)
    for channel in CHANNELS:
        world.alert(users, channel)
    before = [row for row in world.rows if row.channel != "telegram"]
    report = await world.run({"channels_paused": "email,sms", "twilio_auth_token": None})
    assert [row for row in world.rows if row.channel != "telegram"] == before
    assert list(report.counts["by_channel"]) == ["telegram"]


async def test_a_row_that_is_older_than_those_claimed_already_goes_out_in_the_same_run(world: World):
    """A claim begins where the last one ended; what came in before that meanwhile is not forgotten (SPEC C-2)."""
    world.alert(world.users(6))
    world.fault(delay=0.05)
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url, send_concurrency=1)) as engine:
        running = asyncio.ensure_future(engine.run(Phase.C))
        await world.sandbox.wait_for_messages(3)
        late = (await asyncio.to_thread(world.users, 1))[0]
        await asyncio.to_thread(world.alert, [late])
        await asyncio.to_thread(
            world.execute, f"UPDATE user_alert_deliveries SET created_at = '2020-01-01' WHERE user_id = {late}"
        )
        await running
    assert world.statuses == {"sent": 7}


@pytest.mark.parametrize("table", ["user_alert_deliveries", "user_alert_digests"])
async def test_a_claim_never_waits_for_a_row_that_another_holds(world: World, table: str):
    """The row is left to whoever holds it, and the others go out meanwhile (SPEC C-2)."""
    users = world.users(3)
    if table == "user_alert_digests":
        ground.add_digests(world.url, users, "email")
    else:
        world.alert(users)
    with closing(ground.connect(world.url)) as other, other.transaction():
        (held,) = other.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 1 FOR UPDATE").fetchone()
        await asyncio.wait_for(world.run(), 30)
        left = [row.id for row in world.rows if row.queue in table and row.status != "sent"]
    assert left == [held]
    assert len(world.got) == 2
