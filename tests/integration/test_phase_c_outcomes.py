"""Phase C by example: what becomes of a row that is not simply sent (SPEC section 8)."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import ground
from tests.support.ground import CHANNELS
from tests.support.sending import World, destination

every_channel = pytest.mark.parametrize("channel", CHANNELS)


# --- failures -------------------------------------------------------------------------------------------------------


@every_channel
async def test_a_transient_failure_waits_and_is_tried_again(world: World, channel: str):
    """A 500 spends an attempt, is due after base … base + 20 %, and the next run sends (SPEC C-5, C-6)."""
    world.alert(world.users(2), channel)
    world.fault(destination(1, channel), status=500)
    report = await world.run()
    failed, sent = world.rows
    assert (failed.status, failed.attempts, failed.failure_kind) == ("queued", 1, "transient")
    assert failed.last_error in {"brevo_internal_server_error", "telegram_500", "twilio_20500"}
    assert 55 < world.seconds_until_retry() <= 72
    assert (sent.status, report.status) == ("sent", "success")
    assert (report.counts["retried"], report.counts["by_channel"][channel]["retried"]) == (1, 1)
    world.sandbox.faults.clear()
    await world.run(now=datetime.now(UTC) + timedelta(seconds=80))
    assert [row.status for row in world.rows] == ["sent", "sent"]
    assert [row.attempts for row in world.rows] == [2, 1]


@pytest.mark.parametrize(
    ("channel", "fault"),
    [
        ("email", {"status": 400, "code": "invalid_parameter"}),
        ("telegram", {"status": 403}),
        ("telegram", {"status": 400, "code": "Bad Request: chat not found"}),
        ("sms", {"status": 400, "code": 21610}),
    ],
)
async def test_a_permanent_failure_ends_one_row(world: World, channel: str, fault: dict[str, Any]):
    """What is wrong with a destination ends its row, and no other (SPEC C-5, C-6)."""
    world.alert(world.users(3), channel)
    world.fault(destination(2, channel), **fault)
    report = await world.run()
    assert [row.status for row in world.rows] == ["sent", "failed", "sent"]
    assert (world.rows[1].failure_kind, world.rows[1].attempts) == ("permanent", 1)
    assert (report.status, report.counts["failed"], report.counts["sent"]) == ("success", 1, 2)


async def test_the_last_attempt_fails_the_row(world: World):
    """``ALERTS_MAX_ATTEMPTS`` attempts, then ``failed``, and still transient for ``retry-failed`` (SPEC C-5, O-5)."""
    world.alert(world.users())
    world.fault(status=503)
    for attempt in range(3):
        await world.run({"max_attempts": 3}, now=datetime.now(UTC) + attempt * timedelta(hours=1))
    (row,) = world.rows
    assert (row.status, row.attempts, row.failure_kind) == ("failed", 3, "transient")
    await world.run({"max_attempts": 3}, now=datetime.now(UTC) + timedelta(days=1))
    assert len(world.sandbox.attempts) == 3


# --- the channel's fault --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "fault", "cause"),
    [
        ("email", {"status": 401}, "auth_failed"),
        ("email", {"status": 402}, "out_of_credit"),
        ("telegram", {"status": 401}, "auth_failed"),
        ("sms", {"status": 401, "code": 20003}, "auth_failed"),
    ],
)
async def test_a_channel_that_is_down_spends_no_attempt(world: World, channel: str, fault: dict[str, Any], cause: str):
    """The channel's fault: its rows stay as they were, the phase fails and says why, the others go on (SPEC C-7)."""
    users = world.users(8)
    for name in CHANNELS:
        world.alert(users, name)
    provider = {"email": "brevo", "telegram": "telegram", "sms": "twilio"}[channel]
    world.fault(provider=provider, **fault)
    report = await world.run({"send_concurrency": 6})
    mine = [row for row in world.rows if row.channel == channel]
    assert {(row.status, row.attempts, row.last_error, row.next_retry_at) for row in mine} == {
        ("queued", 0, None, None)
    }
    assert [row.status for row in world.rows if row.channel != channel] == ["sent"] * 16
    assert (report.status, report.counts["channels_down"]) == ("failed", {channel: cause})
    assert cause in report.error
    assert report.counts["sent"] == report.counts["queued_selected"] == 16
    assert sum(attempt.provider == provider for attempt in world.sandbox.attempts) <= 2, "the lane of two stopped"


async def test_a_moved_chat_is_kept_and_gets_its_message_at_once(world: World):
    """Telegram's ``migrate_to_chat_id`` is written to the user, and the message goes to the new chat (SPEC C-7)."""
    world.alert(world.users(), "telegram")
    world.fault(destination(1, "telegram"), migrate_to_chat_id=-1009000)
    await world.run()
    assert (world.got, world.rows[0].status) == (["-1009000"], "sent")
    assert world.execute("SELECT telegram_chat_id FROM users") == [("-1009000",)]


# --- being too fast -------------------------------------------------------------------------------------------------


async def test_a_short_pause_is_waited_for(world: World):
    """429 with Retry-After: no call is made until then, and then the rest goes on (SPEC C-8)."""
    world.alert(world.users(4), "telegram")
    world.fault(retry_after=1, times=1)
    report = await world.run({"send_concurrency": 1})
    first, *others = world.sandbox.attempts
    assert (first.status, [attempt.status for attempt in others]) == (429, [200] * 3)
    assert others[0].received_at - first.received_at > timedelta(seconds=0.9)
    assert (report.counts["sent"], report.counts["retried"], report.counts["stopped_early"]) == (3, 1, False)


async def test_a_long_pause_leaves_the_rest_queued(world: World):
    """A pause that is longer than a run may wait ends the channel, and nothing else (SPEC C-8)."""
    users = world.users(10)
    world.alert(users, "telegram")
    world.alert(users)
    world.fault(provider="telegram", retry_after=4000)
    report = await world.run({"send_concurrency": 4})
    waiting = [row for row in world.rows if row.channel == "telegram"]
    assert {row.status for row in waiting} == {"queued"}
    assert sum(row.attempts for row in waiting) == sum(a.provider == "telegram" for a in world.sandbox.attempts) <= 2
    assert (report.status, report.counts["stop_reason"], report.counts["sent"]) == ("success", "rate_limited", 10)
    assert max(world.seconds_until_retry(row.id) for row in waiting) > 3600


async def test_a_long_pause_with_nothing_left_is_no_early_stop(world: World):
    """The last message's 429 does not make the run wait, nor say that it stopped early (SPEC C-8)."""
    world.alert(world.users(), "telegram")
    world.fault(retry_after=30)
    report = await world.run()
    assert (report.counts["retried"], report.counts["stopped_early"]) == (1, False)


async def test_being_too_fast_never_fails_a_message(world: World):
    """A 429 counts as an attempt, but never as the last one (SPEC C-5, C-8)."""
    world.alert(world.users(), "telegram")
    world.fault(status=429)
    for hour in range(4):
        await world.run({"max_attempts": 2}, now=datetime.now(UTC) + timedelta(hours=hour))
    assert [(row.status, row.attempts) for row in world.rows] == [("queued", 1)]
    assert len(world.sandbox.attempts) == 4


# --- rows that are not sent -----------------------------------------------------------------------------------------


async def test_an_unconfigured_channel_skips_its_due_rows(world: World):
    """No credentials: ``skipped``, ``channel_not_configured``; what is not due waits (SPEC C-10)."""
    users = world.users(3)
    world.alert(users, "sms")
    world.alert(users)
    ground.add_digests(world.url, users, "telegram")
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = now() + interval '1 hour' WHERE id = 1")
    report = await world.run({"twilio_auth_token": None, "telegram_bot_token": None})
    outcomes = Counter((row.channel, row.status, row.last_error) for row in world.rows)
    assert outcomes == {
        ("sms", "skipped", "channel_not_configured"): 2, ("sms", "queued", None): 1, ("email", "sent", None): 3,
        ("telegram", "skipped", "channel_not_configured"): 3,
    }  # fmt: skip
    assert report.counts["skipped_not_configured"] == 2
    assert report.counts["digests"]["skipped_not_configured"] == 3


async def test_fail_open_leaves_an_unconfigured_channel_queued(world: World):
    """``ALERTS_FAIL_OPEN_ON_CHANNEL_MISSING`` waits for the credentials, and never sends (SPEC C-10)."""
    world.alert(world.users(2), "sms")
    before = world.rows
    await world.run({"twilio_auth_token": None, "fail_open_on_channel_missing": True})
    assert (world.rows, world.got) == (before, [])
    await world.run()
    assert world.statuses == {"sent": 2}


@pytest.mark.parametrize("nothing", [None, "", " \t"])
async def test_a_missing_destination_is_skipped(world: World, nothing: str | None):
    """NULL, empty or blank: ``skipped``, ``missing_destination``, deliveries and digests (SPEC C-10)."""
    world.alert(world.users(), "telegram")
    ground.add_digests(world.url, world.users(), "telegram")
    with closing(ground.connect(world.url)) as db:
        db.execute("UPDATE users SET telegram_chat_id = %s", [nothing])
    report = await world.run()
    assert {(row.status, row.last_error) for row in world.rows} == {("skipped", "missing_destination")}
    assert report.counts["skipped_missing_destination"] == 1
    assert report.counts["digests"]["skipped_missing_destination"] == 1


async def test_a_channel_switched_off_since_is_skipped(world: World):
    """A user who switched the channel off after the fan-out gets nothing there (SPEC C-10)."""
    users = world.users(2)
    world.alert(users)
    world.alert(users, "telegram")
    ground.add_digests(world.url, users[:1], "email")
    world.execute("INSERT INTO user_channel_preferences (user_id, channel, enabled) VALUES (1, 'email', FALSE)")
    report = await world.run()
    skipped = [(row.queue, row.user_id, row.channel) for row in world.rows if row.status == "skipped"]
    assert skipped == [("deliveries", 1, "email"), ("digests", 1, "email")]
    assert {row.last_error for row in world.rows if row.status == "skipped"} == {"channel_disabled"}
    assert (report.counts["skipped_disabled"], report.counts["sent"]) == (1, 3)


async def test_an_allowlist_leaves_everybody_else_untouched(world: World):
    """Rows of other users stay queued, untouched, configured channel or not (SPEC C-15)."""
    users = world.users(3)
    world.alert(users)
    world.alert(users, "sms")
    ground.add_digests(world.url, users, "telegram")
    before = [row for row in world.rows if row.user_id != 2]
    await world.run({"send_allowlist_user_ids": "2", "twilio_auth_token": None})
    assert [row for row in world.rows if row.user_id != 2] == before
    assert sorted(world.got) == sorted([destination(2, "email"), destination(2, "telegram")])
