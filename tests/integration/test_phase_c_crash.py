"""Phase C by example: crashes, leases, keys, time, and how a run ends (SPEC section 8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from alerts_engine import AlertsEngine, Phase
from alerts_engine.channels import ChannelAdapter
from alerts_engine.phases.context import PhaseContext, Transports
from alerts_engine.phases.send.counts import SendCounts
from alerts_engine.phases.send.phase import send
from alerts_engine.rendering import Renderer
from alerts_engine.types import Channel, Retry, SendResult
from tests.support import ground
from tests.support.ground import CHANNELS, base_urls
from tests.support.providers import refusal
from tests.support.sending import World, destination

if TYPE_CHECKING:
    from alerts_engine.types import Envelope

every_channel = pytest.mark.parametrize("channel", CHANNELS)


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
        await send(context, SendCounts(), Transports({}, {}, Renderer(time_zone="UTC")))


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
        return web.json_response(refusal(provider, 500), status=500)

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
        "skipped_missing_destination": 0, "skipped_disabled": 0, "reclaimed": 0, "uncertain": 0, "confirmed": 0,
        "repeated": 0, "cannot_ask": {}, "stopped_early": False, "stop_reason": None, "channels_down": {},
        "by_channel": {},
        "causes": {},
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
    await asyncio.to_thread(world.execute, "ALTER TABLE users RENAME TO people")
    report = await running
    assert report.status == "failed"
    assert world.statuses == {"sent": 12}


async def test_a_stop_does_not_wait_for_a_provider_that_hangs(world: World):
    """After ``ALERTS_SHUTDOWN_SECONDS`` sends are broken off; their rows keep their lease as uncertain (SPEC CLI-7)."""
    world.alert(world.users(3))
    world.fault(hang=True)
    patience = {"send_timeout_seconds": 50, "shutdown_seconds": 0.2, "send_lease_seconds": 60}
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url, **patience)) as engine:
        running = asyncio.ensure_future(engine.run(Phase.C))
        await world.sandbox.wait_for_requests(3)
        engine.request_stop()
        report = await running
    assert report.status == "failed"
    assert [(row.status, row.attempts, row.send_started_at is None) for row in world.rows] == [
        ("sending", 0, False)
    ] * 3


class BrokenAdapter(ChannelAdapter):
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
        transports = Transports({Channel.EMAIL: BrokenAdapter()}, {Channel.EMAIL: {}}, Renderer(time_zone="UTC"))
        with pytest.raises(Exception, match="1 sends by email broke off"):
            await asyncio.wait_for(send(context, counts, transports), 20)
    assert world.statuses["sending"] == 1
    assert destination(1, "email") not in str(counts)


async def test_a_run_leaves_no_task_behind(world: World):
    """An application that runs the engine again and again does not fill up (SPEC section 0)."""
    world.alert(world.users(3), "telegram")
    before = asyncio.all_tasks()
    await world.run()
    await asyncio.sleep(0)
    assert {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before} <= {"RequestHandler.start"}
