"""What is wrong now, by cause, and one delivery's life (SPEC O-6)."""

from __future__ import annotations

import pytest

from alerts_engine import AlertsEngine, NotFoundError, SettingsError
from tests.support import ground
from tests.support.sending import destination


def engine(world, **fields) -> AlertsEngine:
    return AlertsEngine(ground.settings(world.url, world.sandbox.url, **fields))


async def failures(world, **asked):
    async with engine(world) as opened:
        return await opened.failures(**asked)


async def life(world, row_id: int = 1, **fields):
    async with engine(world, **fields) as opened:
        return await opened.delivery_life(row_id)


def told(found) -> list[tuple[str, ...]]:
    return [(step.step.value, step.detail) for step in found.steps]


async def test_nothing_is_wrong(world):
    """A success is no cause."""
    world.alert(world.users(3), "email")
    await world.run()
    found = await failures(world)
    assert (found.causes, found.deliveries, found.digests) == ((), None, None)


async def test_every_state_is_a_cause_of_its_own(world):
    """Permanent, used up, waiting, uncertain, not configured: how many, for whom, what helps."""
    users = world.users(7)
    world.alert(users, "email")
    world.alert(users[:2], "sms")
    world.alert(users[:3], "telegram")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(2, "email"), status=400)
    world.fault(destination(3, "email"), status=503)
    world.fault(destination(4, "email"), reset=True, accept=True)
    world.fault(destination(1, "telegram"), status=500)
    fields = {"twilio_auth_token": None}
    await world.run(fields)
    world.execute("UPDATE user_alert_deliveries SET attempts = 4, next_retry_at = now() WHERE channel = 'telegram'"
                  " AND status = 'queued'")  # fmt: skip
    await world.run(fields)
    found = {(one.channel, one.state.value): one for one in (await failures(world)).causes}
    assert set(found) == {
        ("email", "permanent"), ("email", "waiting"), ("email", "uncertain"), ("sms", "not_configured"),
        ("telegram", "exhausted"),
    }  # fmt: skip
    permanent = found["email", "permanent"]
    assert (permanent.code, permanent.count, permanent.users) == ("brevo_invalid_parameter", 2, 2)
    assert set(permanent.newest_user_ids) == {1, 2}
    assert permanent.command == f"alerts-engine delivery show {permanent.sample_id}"
    assert permanent.meaning == "the provider refuses this message or this address"
    assert found["sms", "not_configured"].command.endswith("--reason channel_not_configured")
    assert "retry-failed" in found["telegram", "exhausted"].command
    assert found["email", "waiting"].since <= found["email", "waiting"].newest_at


async def test_a_channel_that_is_down_comes_first_with_those_who_wait(world):
    """Its rows have no error of their own (SPEC C-7)."""
    world.alert(world.users(4), "email")
    world.fault(status=401)
    await world.run()
    await world.run()
    (cause,) = (await failures(world)).causes
    assert (cause.channel, cause.code, cause.state.value) == ("email", "auth_failed", "channel_down")
    assert (cause.count, cause.users) == (4, 4)
    first_run = world.execute("SELECT min(started_at) FROM alerts_engine_run_items")[0][0]
    assert cause.since == first_run


async def test_since_when_is_the_first_attempt_that_failed(world):
    """Also after it was tried again."""
    world.alert(world.users(2), "email")
    world.fault(status=503)
    await world.run()
    first = world.execute("SELECT min(known_at) FROM alerts_engine_attempts")[0][0]
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = now()")
    await world.run()
    (cause,) = (await failures(world)).causes
    assert (cause.since, cause.count) == (first, 2)


async def test_a_run_keeps_its_counts_by_cause(world):
    """In its report and its item, deliveries and digests together."""
    users = world.users(4)
    world.alert(users, "email")
    ground.add_digests(world.url, users[:1], "email")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(2, "email"), status=503)
    report = await world.run()
    causes = {"email": {"brevo_invalid_parameter": 2, "brevo_internal_server_error": 1}}
    assert report.counts["causes"] == causes
    assert report.typed_counts.causes == causes
    assert world.execute("SELECT counts -> 'causes' AS causes FROM alerts_engine_run_items")[0][0] == causes


async def test_one_cause_lists_its_rows_in_pages(world):
    """Digests and deliveries, the newest first, each once."""
    users = world.users(5)
    world.alert(users, "email")
    ground.add_digests(world.url, users[:3], "email")
    world.fault(status=400)
    await world.run()
    seen: list[int] = []
    digests: list[int] = []
    cursor = None
    for _ in range(3):
        page = await failures(world, cause="brevo_invalid_parameter", limit=2, cursor=cursor)
        assert [one.count for one in page.causes] == [5, 3]
        seen += [row.id for row in page.deliveries]
        digests += [row.id for row in page.digests]
        cursor = page.cursor
    assert cursor is None
    assert (len(seen), seen) == (5, sorted(seen, reverse=True))
    assert digests == [3, 2, 1]


async def test_the_hours_and_the_channel_narrow_it(world):
    """What failed before is history; what waits counts always."""
    world.alert(world.users(2), "email")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(2, "email"), status=503)
    await world.run()
    world.execute("UPDATE user_alert_deliveries SET ended_at = now() - interval '5 hours' WHERE status = 'failed'")
    assert [one.state.value for one in (await failures(world, since_hours=4)).causes] == ["waiting"]
    assert len((await failures(world, since_hours=6)).causes) == 2
    assert (await failures(world, channel="sms")).causes == ()


@pytest.mark.parametrize(
    "asked", [{"channel": "fax"}, {"since_hours": 0}, {"cause": "x", "limit": 0}, {"cause": "x", "cursor": "a"}]
)
async def test_what_cannot_be_asked(world, asked):
    with pytest.raises(SettingsError):
        await failures(world, **asked)


# --- a delivery's life ----------------------------------------------------------------------------------------------


async def test_a_plain_success_is_known_without_a_row_of_its_own(world):
    """Created, begun, sent: all of it from the delivery."""
    world.alert(world.users(1), "email")
    await world.run()
    found = await life(world)
    assert [step for step, _ in told(found)] == ["event", "created", "begun", "sent"]
    assert world.execute("SELECT count(*) FROM alerts_engine_attempts")[0][0] == 0
    assert found.next == "nothing: the provider has accepted it"
    assert found.event.headline.startswith("Pipeline outage")


async def test_each_attempt_is_told_with_what_came_of_it(world):
    """A retry, an uncertain send that the provider was asked about, a success."""
    world.alert(world.users(1), "sms")
    world.fault(status=503, times=1)
    await world.run()
    world.execute("UPDATE user_alert_deliveries SET next_retry_at = now()")
    world.fault(reset=True, accept=True, times=1)
    await world.run()
    waiting = await life(world)
    assert waiting.next.startswith("it may have been accepted")
    ground.let_time_pass(world.url, 100)
    world.sandbox.advance(100)
    await world.run()
    found = await life(world)
    assert [step for step, _ in told(found)] == [
        "event", "created", "begun", "retry", "begun", "uncertain", "found", "sent",
    ]  # fmt: skip
    assert [step.attempt for step in found.steps] == [None, None, 1, 1, 2, 2, 2, 2]


async def test_a_send_whose_process_was_killed_is_told(world):
    """The lease expired after the send began (SPEC C-11)."""
    world.alert(world.users(1), "sms")
    world.execute(
        "UPDATE user_alert_deliveries SET status = 'sending', claimed_by = 'gone', sent_by = 'twilio',"
        " lease_expires_at = now() - interval '1 second', send_started_at = now() - interval '1 minute'"
    )
    await world.run({"ask_per_run": 0})
    found = await life(world)
    (lost,) = (step for step in found.steps if step.detail == "lease_expired")
    assert (lost.step.value, lost.attempt, lost.run_id) == ("uncertain", 1, "gone")
    assert ("begun", "twilio") in told(found)


async def test_a_batched_delivery_names_its_digest_and_the_digest_its_items(world):
    """From one to the other."""
    from alerts_engine import Phase

    ground.add_deliveries(world.url, world.users(1), "email", "digest")
    await ground.run(ground.settings(world.url, world.sandbox.url), Phase.D)
    found = await life(world)
    assert told(found)[-1] == ("batched", "digest 1")
    assert found.next == "it is in digest 1: alerts-engine digest show 1"
    async with engine(world) as opened:
        digest = await opened.digest_life(1)
    assert (digest.source, digest.items, digest.delivery_ids) == ("digest", 1, (1,))
    assert told(digest)[-1] == ("waiting", None)


async def test_what_is_not_there(world):
    with pytest.raises(NotFoundError, match="no delivery 7"):
        await life(world, 7)
