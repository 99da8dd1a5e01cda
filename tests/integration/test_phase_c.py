"""Phase C by example: a real database, and the sandbox as every provider (SPEC section 8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from alerts_engine import AlertsEngine, Phase
from alerts_engine.phases import lane
from alerts_engine.phases.context import Outlets, PhaseContext
from alerts_engine.phases.send import send
from alerts_engine.phases.send_counts import SendCounts
from alerts_engine.rendering import Renderer
from alerts_engine.sandbox import Fault, Sandbox
from alerts_engine.types import Channel, Retry, SendResult
from tests.chaos import ground
from tests.chaos.stage import CHANNELS, base_urls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from alerts_engine import PhaseReport
    from alerts_engine.types import Envelope

every_channel = pytest.mark.parametrize("channel", CHANNELS)
REQUESTS = {"email": "/v3/smtp/email", "telegram": "/bot", "sms": "/2010"}


@dataclass
class World:
    """A migrated database and the sandbox; users are numbered from 1."""

    url: str
    sandbox: Sandbox

    def users(self, count: int = 1) -> list[int]:
        return ground.add_users(self.url, count)

    def alert(self, users: list[int], channel: str = "email", **options: Any) -> int:
        """An instant delivery for each of the users."""
        return ground.add_deliveries(self.url, users, channel, **options)

    def execute(self, statement: str) -> list[Any]:
        with closing(ground.connect(self.url)) as db:
            cursor = db.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def fault(self, *arguments: Any, **fields: Any) -> None:
        self.sandbox.faults.add(Fault(*arguments, **fields))

    async def run(self, fields: dict[str, Any] | None = None, **order: Any) -> PhaseReport:
        values = {"send_timeout_seconds": 5, "send_lease_seconds": 60, "retry_base_seconds": 60, **(fields or {})}
        values["retry_max_seconds"] = 3600
        configured = ground.settings(self.url, self.sandbox.url, **values)
        return (await ground.run(configured, Phase.C, **order)).phases[0]

    @property
    def rows(self) -> list[Any]:
        return ground.all_rows(self.url)

    @property
    def statuses(self) -> Counter[str]:
        return ground.statuses(self.url)

    @property
    def got(self) -> list[str]:
        """Where messages arrived, in order."""
        return [message.destination for message in self.sandbox.messages]

    def seconds_until_retry(self, row_id: int = 1) -> float:
        (row,) = self.execute(
            f"SELECT extract(epoch FROM next_retry_at - now())::float8 AS wait FROM user_alert_deliveries WHERE id = {row_id}"
        )
        return row.wait


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with Sandbox.start() as sandbox:
        yield World(database_url, sandbox)


def destination(number: int, channel: str) -> str:
    """Where the messages of the ``number``-th user go."""
    return {"email": f"user{number}@example.com", "telegram": str(100000 + number), "sms": f"+1555{number:07}"}[channel]


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
    for column in ("window_start", "window_end", "next_retry_at"):
        world.execute(f"UPDATE user_alert_digests SET {column} = {column} - make_interval(days => id::int)")
    world.execute("UPDATE user_alert_digests SET next_retry_at = NULL WHERE id = 3")
    await world.run({"send_concurrency": 1})
    assert world.got == [destination(number, "email") for number in (3, 2, 1)]


# --- claims ---------------------------------------------------------------------------------------------------------


async def in_the_middle(
    world: World, requests: int, look: Callable[[], Any], fields: dict[str, Any], **order: Any
) -> Any:
    """What ``look`` sees once so many calls are under way; then the sandbox lets them go."""
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
    """At most ``ALERTS_MAX_SEND_PER_RUN`` messages in one run; the rest stays queued, and the run says so (SPEC C-15)."""
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


async def test_a_run_does_not_wait_for_a_chat_that_gets_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch):
    """The rest after a chat's last message keeps nobody, however long it is."""
    monkeypatch.setattr(lane, "CHAT_INTERVAL_SECONDS", 3600.0)
    world.alert(world.users(1), "telegram")
    report = await world.run({"max_run_seconds": 30})
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
    assert max(world.seconds_until_retry(row.id) or 0 for row in waiting) > 3600


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


# --- crash and reclaim ----------------------------------------------------------------------------------------------


def leave_sending(world: World, *, begun: bool, lease: str = "-1 second") -> None:
    """What a killed run leaves."""
    for table in ("user_alert_deliveries", "user_alert_digests"):
        world.execute(
            f"UPDATE {table} SET status = 'sending', claimed_by = 'a dead run', attempts = 1, last_error = 'brevo_500',"
            f" lease_expires_at = now() + interval '{lease}', send_started_at = {'now()' if begun else 'NULL'}"
            " WHERE status = 'queued'"
        )


@pytest.fixture
def crashed(world: World) -> World:
    world.alert(world.users())
    ground.add_digests(world.url, world.users(), "email")
    return world


@pytest.mark.parametrize("policy", ["retry", "fail"])
async def test_a_send_that_never_began_goes_back_as_it_was(crashed: World, policy: str):
    """Claimed, not begun: nothing was sent, no attempt is spent, whatever the policy (SPEC C-11)."""
    leave_sending(crashed, begun=False)
    report = await crashed.run({"channels_paused": "email", "uncertain_send": policy})
    assert [(r.status, r.attempts, r.last_error, r.claimed_by) for r in crashed.rows] == [
        ("queued", 1, "brevo_500", None)
    ] * 2
    assert report.counts["reclaimed"] == 2


async def test_an_uncertain_send_is_tried_again(crashed: World):
    """``retry``: one attempt spent, queued at once, and sent by this very run (SPEC C-11)."""
    leave_sending(crashed, begun=True)
    report = await crashed.run({"uncertain_send": "retry"})
    assert [(row.status, row.attempts, row.last_error) for row in crashed.rows] == [("sent", 3, None)] * 2
    assert (report.counts["reclaimed"], report.counts["sent"], report.counts["digests"]["sent"]) == (2, 1, 1)


async def test_an_uncertain_send_may_use_up_the_last_attempt(crashed: World):
    """The attempt that a crash spends counts: there is no endless crashing on one row (SPEC C-11)."""
    leave_sending(crashed, begun=True)
    report = await crashed.run({"uncertain_send": "retry", "max_attempts": 2})
    assert [(r.status, r.attempts, r.last_error) for r in crashed.rows] == [("failed", 2, "send_uncertain")] * 2
    assert {row.failure_kind for row in crashed.rows} == {"transient"}
    assert (report.counts["failed"], report.counts["digests"]["failed"], crashed.got) == (1, 1, [])


async def test_an_uncertain_send_is_given_up(crashed: World):
    """``fail``: ``failed`` with ``send_uncertain``, and never sent by anybody (SPEC C-11)."""
    leave_sending(crashed, begun=True)
    report = await crashed.run({"uncertain_send": "fail"})
    assert {(r.status, r.last_error, r.failure_kind) for r in crashed.rows} == {
        ("failed", "send_uncertain", "permanent")
    }
    assert (report.counts["reclaimed"], crashed.got) == (2, [])


@pytest.mark.parametrize("begun", [True, False])
async def test_a_lease_that_holds_is_respected(crashed: World, begun: bool):
    """What another run holds is not touched, though this one has the lock (SPEC C-2, C-11)."""
    leave_sending(crashed, begun=begun, lease="1 minute")
    before = crashed.rows
    report = await crashed.run()
    assert (crashed.rows, crashed.got, report.counts["reclaimed"]) == (before, [], 0)


async def test_a_late_outcome_still_tells_the_truth(world: World):
    """A row reclaimed as uncertain, that nobody took since, becomes ``sent`` when the answer comes late (SPEC C-13)."""
    await _answer_late(world, meanwhile="UPDATE user_alert_deliveries SET lease_expires_at = now() - interval '1 s'")
    assert [row.status for row in world.rows] == ["sent"]
    assert len(world.got) == 1


async def test_a_late_outcome_overwrites_nothing_that_another_run_did(world: World):
    """A settle is guarded by the lease: what another run holds now is its own (SPEC C-13)."""
    await _answer_late(world, meanwhile="UPDATE user_alert_deliveries SET claimed_by = 'another run'")
    assert [(row.status, row.claimed_by) for row in world.rows] == [("sending", "another run")]


async def _answer_late(world: World, meanwhile: str) -> None:
    world.alert(world.users())
    world.fault(delay=1, times=1)
    sender = asyncio.ensure_future(world.run({"send_timeout_seconds": 10}))
    await world.sandbox.wait_for_requests(1)
    world.execute(meanwhile)
    await _reclaim(world)
    assert not sender.done()
    await sender


async def _reclaim(world: World) -> None:
    """Another runner comes along without the lock, and finds every channel paused: it only reclaims."""
    configured = ground.settings(world.url, world.sandbox.url, channels_paused="email,telegram,sms")
    async with AlertsEngine(configured) as engine:
        context = PhaseContext(engine.database, configured, "another run", datetime.now(UTC))
        await send(context, SendCounts(), Outlets({}, Renderer(time_zone="UTC")))


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ground.PROVIDERS)
async def test_a_retry_has_the_same_key_and_the_same_bytes(world: World, provider: str):
    """What is sent again is the same request, byte for byte, deliveries and digests (SPEC C-12)."""
    channel, bodies = ground.PROVIDERS[provider], Counter[tuple[str, bytes]]()
    users = world.users(2)
    world.alert(users[:1], channel)
    if channel != "sms":
        ground.add_digests(world.url, users[1:], channel)

    async def refuse(request: web.Request) -> web.Response:
        bodies[request.headers.get("Idempotency-Key", ""), await request.read()] += 1
        return web.json_response({}, status=500)

    application = web.Application()
    application.router.add_post("/{path:.*}", refuse)
    async with TestServer(application) as server:
        elsewhere = base_urls(str(server.make_url("")).rstrip("/"))
        email = provider if channel == "email" else "brevo"
        for day in range(3):
            moment = datetime.now(UTC) + timedelta(days=day)
            await world.run({**elsewhere, "email_provider": email}, now=moment)
    assert list(bodies.values()) == [3] * (1 if channel == "sms" else 2)


@pytest.mark.parametrize("provider", ground.KEYED)
@pytest.mark.parametrize("lost", [{"reset": True}, {"status": 502}, {"truncate": True}])
async def test_a_used_key_means_that_it_was_accepted(world: World, provider: str, lost: dict[str, Any]):
    """The provider took the message and its answer was lost: the repeat is recognised, and is ``sent`` (SPEC C-12)."""
    world.alert(world.users())
    world.fault(accept=True, times=1, **lost)
    await world.run({"email_provider": provider})
    assert [row.status for row in world.rows] == ["queued"]
    await world.run({"email_provider": provider}, now=datetime.now(UTC) + timedelta(minutes=2))
    first, second = world.sandbox.attempts
    assert first.idempotency_key == second.idempotency_key is not None
    assert (len(world.got), [row.status for row in world.rows]) == (1, ["sent"])


async def test_keys_differ_between_messages(world: World):
    """Every delivery and every digest has a key of its own (SPEC C-12)."""
    users = world.users(5)
    world.alert(users, every_alert=True)
    ground.add_digests(world.url, users, "email")
    await world.run()
    keys = [message.idempotency_key for message in world.sandbox.messages]
    assert len(keys) == len(set(keys)) == 55


# --- time, counts, endings ------------------------------------------------------------------------------------------


async def test_now_decides_what_is_due_and_when_it_was_sent(world: World):
    """``--now`` stands for the database's clock in all that is decided and written (SPEC C-14)."""
    moment = datetime(2022, 2, 24, 6, tzinfo=UTC)
    world.alert(world.users(2))
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = '2022-02-24T06:00Z' WHERE id = 1")
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = '2022-02-24T06:01Z' WHERE id = 2")
    await world.run(now=moment)
    assert [(row.status, row.sent_at) for row in world.rows] == [("sent", moment), ("queued", None)]


async def test_the_counts_are_those_of_the_specification(world: World):
    """Every count, also when there is nothing to do (SPEC C-16)."""
    report = await world.run()
    assert report.counts == {
        "queued_selected": 0, "sent": 0, "failed": 0, "retried": 0, "skipped_not_configured": 0,
        "skipped_missing_destination": 0, "skipped_disabled": 0, "reclaimed": 0, "stopped_early": False,
        "stop_reason": None, "channels_down": {}, "by_channel": {},
        "digests": {
            "selected": 0, "sent": 0, "failed": 0, "retried": 0, "skipped_not_configured": 0,
            "skipped_missing_destination": 0, "skipped_disabled": 0, "skipped_empty": 0,
        },
    }  # fmt: skip
    assert report.status == "success"


async def test_a_claim_that_fails_lets_what_is_under_way_finish(world: World):
    """The database refuses a claim while sends are in flight: their outcomes are known and written (SPEC C-13)."""
    world.alert(world.users(12))
    for number in range(1, 13):
        world.fault(destination(number, "email"), delay=0.3 if number <= 6 else 1.0)
    running = asyncio.ensure_future(world.run({"send_concurrency": 12}))
    await world.sandbox.wait_for_requests(12)
    world.execute("ALTER TABLE users RENAME TO people")
    report = await running
    assert report.status == "failed"
    assert world.statuses == {"sent": 12}


class BrokenAdapter:
    """Breaks its promise never to raise."""

    channel = Channel.EMAIL
    provider = "broken"

    async def send(self, envelope: Envelope) -> SendResult:
        if envelope.destination == destination(1, "email"):
            raise KeyError(envelope.destination)
        return SendResult(Retry("later"))


async def test_an_adapter_that_breaks_stops_nothing(world: World):
    """Its row stays leased, as uncertain; the others go on, also at the cap, and the phase says so (SPEC C-5, C-11)."""
    world.alert(world.users(3))
    configured = ground.settings(
        world.url, world.sandbox.url, max_send_per_run=1, retry_base_seconds=60, retry_max_seconds=60
    )
    counts = SendCounts()
    async with AlertsEngine(configured) as engine:
        context = PhaseContext(engine.database, configured, "a run", datetime.now(UTC))
        outlets = Outlets({Channel.EMAIL: BrokenAdapter()}, Renderer(time_zone="UTC"))
        with pytest.raises(Exception, match="1 sends by email broke off"):
            await asyncio.wait_for(send(context, counts, outlets), 20)
    assert world.statuses["sending"] == 1
    assert destination(1, "email") not in str(counts)


async def test_a_run_leaves_no_task_behind(world: World):
    """An application that runs the engine again and again does not fill up (SPEC section 0)."""
    world.alert(world.users(3), "telegram")
    before = asyncio.all_tasks()
    await world.run()
    await asyncio.sleep(0)
    assert {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before} <= {"RequestHandler.start"}
