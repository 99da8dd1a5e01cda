"""When a send begins: noted by its claim where a key makes a repeat safe, taken back where no call came (SPEC C-11)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine import AlertsEngine, Phase
from alerts_engine.channels import ChannelAdapter
from alerts_engine.phases.context import PhaseContext, Transports
from alerts_engine.phases.send.channel_sender import ChannelSender
from alerts_engine.phases.send.counts import SendCounts
from alerts_engine.phases.send.phase import send
from alerts_engine.rendering import Renderer
from alerts_engine.types import Channel
from tests.support import ground
from tests.support.ground import CHANNELS
from tests.support.shape import wait_until

if TYPE_CHECKING:
    from alerts_engine.types import Envelope, SendResult
    from tests.support.sending import World

WATCHED = """
CREATE TABLE written (row_id bigint, status text, is_begun bool, provider text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO written VALUES (NEW.id, NEW.status, NEW.send_started_at IS NOT NULL, NEW.sent_by);
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER UPDATE ON {0} FOR EACH ROW EXECUTE FUNCTION watch()
"""
SLOW = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
CREATE TRIGGER slowly AFTER UPDATE ON user_alert_deliveries FOR EACH STATEMENT EXECUTE FUNCTION slowly()
"""
IS_SLOW = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
UNREADABLE = "ALTER TABLE alert_events RENAME COLUMN headline TO title"
"""What the claim does not read, and the query behind it does."""
KEYED = {"email": "brevo"}
PROVIDERS = {**KEYED, "telegram": "telegram", "sms": "twilio"}


def contents(world: World) -> list[Any]:
    """Everything that stands in the rows; why an email came is found once, and kept."""
    return world.execute("SELECT to_jsonb(d) - 'reasons' FROM user_alert_deliveries AS d ORDER BY id")


@pytest.mark.parametrize(
    ("channel", "kind"), [*((channel, "delivery") for channel in CHANNELS), ("email", "digest"), ("telegram", "digest")]
)
async def test_a_first_send_under_a_key_is_written_twice_and_others_three_times(world: World, channel: str, kind: str):
    """Two updates where the claim notes that the send begins; the call never comes before that is committed."""
    users = world.users()
    if kind == "delivery":
        world.alert(users, channel)
    else:
        ground.add_digests(world.url, users, channel)
    world.execute(WATCHED.format("user_alert_deliveries" if kind == "delivery" else "user_alert_digests"))
    await world.run()
    claimed = [] if channel in KEYED else [("sending", False, None)]
    assert world.execute("SELECT status, is_begun, provider FROM written") == [
        *claimed,
        ("sending", True, PROVIDERS[channel]),
        ("sent", True, PROVIDERS[channel]),
    ]


async def test_a_repeat_is_begun_apart_and_keeps_the_first_use_of_its_key(world: World):
    """The key lives from its first use, whatever the repeats do (SPEC C-12)."""
    world.alert(world.users())
    world.fault(status=500, times=1)
    await world.run()
    first = world.execute("SELECT key_used_at FROM user_alert_deliveries")
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = now()")
    world.execute(WATCHED.format("user_alert_deliveries"))
    await world.run()
    assert world.execute("SELECT status, is_begun FROM written") == [
        ("sending", False),
        ("sending", True),
        ("sent", True),
    ]
    assert world.execute("SELECT key_used_at FROM user_alert_deliveries") == first


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_stop_between_claim_and_call_leaves_the_row_as_it_was(world: World, channel: str):
    """It goes back with nothing spent and nothing noted, so that it may still go into a bundle (SPEC CLI-7, D-5)."""
    world.alert(world.users(3), channel)
    before = contents(world)
    world.execute(SLOW)
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        running = asyncio.ensure_future(engine.run(Phase.C))
        await asyncio.to_thread(wait_until, world.url, IS_SLOW)
        engine.request_stop()
        await running
    assert contents(world) == before
    assert world.got == []


async def test_a_process_that_sleeps_between_claim_and_call_does_not_send(world: World, monkeypatch):
    """Its lease may be over by then, and the row another run's (SPEC C-2). Here the first claim counts as too old."""
    world.alert(world.users(2))
    before = contents(world)
    prepare = ChannelSender._prepare
    left = []

    def late(self: ChannelSender, source: Any, claimed: Any, holds_until: float) -> Any:
        left.append(holds_until - self._clock())
        return prepare(self, source, claimed, self._clock() if len(left) == 1 else holds_until)

    monkeypatch.setattr(ChannelSender, "_prepare", late)
    report = await world.run({"max_send_per_run": 1})
    assert left[0] > 50, "a lease of 60 seconds, less a call of 5"
    assert report.counts["sent"] == 1, "it is claimed again, by this run or the next"
    (given_back,) = [row for row in contents(world) if row[0]["status"] == "queued"]
    assert given_back in before


@pytest.mark.parametrize(
    ("why", "ended"),
    [
        ("UPDATE users SET email = ' '", ("skipped", "missing_destination", 0)),
        ("INSERT INTO user_channel_preferences (user_id, channel, enabled) VALUES (1, 'email', FALSE)",
         ("skipped", "channel_disabled", 0)),
    ],
)  # fmt: skip
async def test_a_row_that_ends_before_its_call_says_nothing_of_a_send(
    world: World, why: str, ended: tuple[str, str, int]
):
    """``explain`` must not tell of a send that never began."""
    world.alert(world.users())
    world.execute(why)
    await world.run()
    columns = "status, last_error, attempts, send_started_at, key_used_at, sent_by"
    assert world.execute(f"SELECT {columns} FROM user_alert_deliveries") == [(*ended, None, None, None)]


async def test_what_was_claimed_and_never_heard_of_goes_back_as_it_was(world: World):
    """The claim is committed, and what follows fails before the run knows its rows (SPEC C-11)."""
    world.alert(world.users(2))
    before = contents(world)
    world.execute(UNREADABLE)
    report = await world.run()
    assert report.status == "failed"
    assert contents(world) == before


class UnreadableMeanwhile(ChannelAdapter):
    """Its first call never comes to an answer, and the next claim fails."""

    channel = Channel.EMAIL
    provider = "broken"

    def __init__(self, world: World) -> None:
        self._world = world

    async def send(self, envelope: Envelope) -> SendResult:
        await asyncio.to_thread(self._world.execute, UNREADABLE)
        raise KeyError(envelope.destination)


async def test_what_was_called_without_an_answer_is_not_taken_for_unheard(world: World):
    """It keeps its lease, and is uncertain once that is over; the row of the claim that failed goes back."""
    world.alert(world.users(2))
    configured = ground.settings(world.url, world.sandbox.url, send_concurrency=1)
    async with AlertsEngine(configured) as engine:
        context = PhaseContext(engine.database, configured, "a run", datetime.now(UTC))
        adapter = UnreadableMeanwhile(world)
        transports = Transports({Channel.EMAIL: adapter}, {Channel.EMAIL: {}}, Renderer(time_zone="UTC"))
        with pytest.raises(Exception, match="broke off"):
            await asyncio.wait_for(send(context, SendCounts(), transports), 20)
    assert [(row.status, row.send_started_at is None) for row in world.rows] == [("sending", False), ("queued", True)]
