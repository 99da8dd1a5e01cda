"""What is done is counted when it is settled, exactly, whatever happens (SPEC O-4a)."""

from __future__ import annotations

from alerts_engine import Phase
from tests.support import ground
from tests.support.counters import counted, there
from tests.support.sending import destination


async def test_every_end_is_counted_with_it(world):
    """Sent, failed, retried, and skipped for each reason, on deliveries and digests."""
    users = world.users(8)
    for channel in ("email", "telegram", "sms"):
        world.alert(users, channel)
    ground.add_digests(world.url, users[:3], "email")
    world.execute("UPDATE users SET email = '' WHERE id = 2")
    world.execute("INSERT INTO user_channel_preferences (user_id, channel, enabled) VALUES (3, 'email', FALSE)")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(4, "email"), status=503, times=1)
    world.fault(destination(5, "telegram"), status=503)
    fields = {"twilio_auth_token": None, "max_attempts": 3}
    for _ in range(3):
        await world.run(fields)
        ground.let_time_pass(world.url, 4000)
    assert {(outcome, retried) for _, _, _, outcome, retried, _ in there(world.url)} == {
        ("sent", False), ("sent", True), ("failed", False), ("failed", True), ("skipped", False),
    }  # fmt: skip
    assert counted(world.url) == there(world.url)


async def test_batching_into_a_digest_is_counted_too(world):
    """A digest delivery ends when its digest takes it (SPEC D-1)."""
    ground.add_deliveries(world.url, world.users(3), "email", "digest")
    await ground.run(ground.settings(world.url, world.sandbox.url), Phase.D)
    assert [(kind, outcome, rows) for (_, _, kind, outcome, *_), rows in counted(world.url).items()] == [
        ("digest", "skipped", 3)
    ]
    assert counted(world.url) == there(world.url)
