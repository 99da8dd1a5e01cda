"""A send whose answer is lost, until it is known what became of it (SPEC C-17); over a real database and real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine import AlertsEngine, Phase
from alerts_engine.phases.send.claims import DELIVERIES
from alerts_engine.phases.send.outcome_writer import OutcomeStatements, PendingOutcome
from alerts_engine.types import Failed, Sent
from tests.support import ground
from tests.support.sending import destination

if TYPE_CHECKING:
    from alerts_engine import PhaseReport, SendOutcome
    from tests.support.sending import World

ASKED = ("brevo", "resend", "twilio")
"""The providers that can be asked."""
HOUR, DAY = 3600, 86_400

every_asked = pytest.mark.parametrize("provider", ASKED)
both_policies = pytest.mark.parametrize("policy", ["retry", "fail"])


class Scene:
    """One alert on its way by one provider, with a clock that can be moved."""

    def __init__(self, world: World, provider: str, **fields: Any) -> None:
        self.world = world
        self._provider = provider
        self._fields = {"email_provider": provider if provider in ground.KEYED else "brevo", **fields}

    async def run(self, **fields: Any) -> PhaseReport:
        return await self.world.run({**self._fields, **fields})

    async def lose_an_answer(self, *, accepted: bool) -> None:
        """Send, and hear nothing of it."""
        self.world.fault(accept=accepted, reset=True, times=1)
        report = await self.run()
        assert report.counts["uncertain"] == 1
        (row,) = self.rows
        assert (row.status, row.uncertain_since is not None, row.failure_kind) == ("queued", True, "transient")

    def outlive_the_key(self) -> None:
        """From now on nothing but a question can settle it."""
        if self._provider == "resend":
            # Its key lives as long as the shortest of its lists; sooner it is asked where a key has met other bytes.
            self.world.execute("UPDATE user_alert_deliveries SET key_used_at = '-infinity'")
            self.world.execute("UPDATE user_alert_digests SET key_used_at = '-infinity'")
        self.wait(HOUR if self._provider == "brevo" else 2 * ground.MINUTE)

    def wait(self, seconds: float) -> None:
        ground.let_time_pass(self.world.url, seconds)
        self.world.sandbox.advance(seconds)

    @property
    def rows(self) -> list[Any]:
        return self.world.execute(
            " UNION ALL ".join(
                f"SELECT status, attempts, uncertain_since, failure_kind, last_error, provider_message_id FROM {table}"
                for table in ("user_alert_deliveries WHERE delivery_kind = 'instant'", "user_alert_digests")
            )
        )

    @property
    def arrived(self) -> int:
        return len(self.world.got)

    @property
    def questions(self) -> int:
        return len(self.world.sandbox.asking.questions)


@pytest.fixture
def scene(world: World, provider: str) -> Scene:
    world.alert(world.users(), ground.PROVIDERS[provider])
    return Scene(world, provider)


@every_asked
@both_policies
async def test_what_the_provider_has_is_sent(scene: Scene, provider: str, policy: str):
    """Found: ``sent`` with the provider's id, and counted as confirmed; whatever the policy (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.outlive_the_key()
    report = await scene.run(uncertain_send=policy)
    (row,) = scene.rows
    (message,) = scene.world.sandbox.messages
    assert (row.status, row.uncertain_since, row.last_error) == ("sent", None, None)
    assert row.provider_message_id == message.provider_message_id
    assert (report.counts["confirmed"], scene.arrived) == (1, 1)


@every_asked
@both_policies
async def test_what_the_provider_does_not_have_is_sent_by_the_same_run(scene: Scene, provider: str, policy: str):
    """Not found: it was not sent, so it is due again (SPEC C-17)."""
    await scene.lose_an_answer(accepted=False)
    scene.outlive_the_key()
    report = await scene.run(uncertain_send=policy)
    (row,) = scene.rows
    assert (row.status, row.attempts, row.uncertain_since) == ("sent", 2, None)
    assert (report.counts["confirmed"], report.counts["sent"], scene.arrived) == (0, 1, 1)


@every_asked
async def test_nobody_is_asked_within_a_minute(scene: Scene, provider: str):
    """How long the lists lag is documented by nobody (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.wait(30)
    await scene.run()
    assert (scene.questions, scene.arrived) == (0, 1)


@pytest.mark.parametrize("provider", ground.KEYED)
@both_policies
async def test_a_living_key_needs_no_question(scene: Scene, provider: str, policy: str):
    """The repeat is recognised, and settles it; a later question would only cost time (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.wait(5 * 60)
    report = await scene.run(uncertain_send=policy)
    assert (scene.rows[0].status, report.counts["repeated"], scene.questions, scene.arrived) == ("sent", 1, 0, 1)


@pytest.mark.parametrize("provider", ground.KEYED)
async def test_the_next_try_is_planned_while_the_key_lives(scene: Scene, provider: str):
    """Whatever the backoff says (SPEC C-17)."""
    scene.world.fault(reset=True, times=1)
    async with AlertsEngine(
        ground.settings(
            scene.world.url, scene.world.sandbox.url, email_provider=provider, retry_base_seconds=DAY,
            retry_max_seconds=DAY,
        )
    ) as engine:  # fmt: skip
        await engine.run(Phase.C)
    assert 0 < scene.world.seconds_until_retry() < {"brevo": 30 * 60, "resend": 24 * HOUR}[provider]


@pytest.mark.parametrize("provider", ["telegram"])
async def test_telegram_repeats_without_a_sound(scene: Scene, provider: str):
    """Nobody can tell, so the policy does: ``retry`` (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.wait(DAY)
    await scene.run(uncertain_send="retry")
    assert [message.silent for message in scene.world.sandbox.messages] == [False, True]
    assert (scene.rows[0].status, scene.rows[0].uncertain_since) == ("sent", None)


@pytest.mark.parametrize("provider", ["telegram"])
async def test_telegram_is_not_repeated_when_that_is_the_policy(scene: Scene, provider: str):
    """``fail``: nothing is ever sent twice (SPEC C-17)."""
    scene.world.fault(accept=True, reset=True, times=1)
    await scene.run(uncertain_send="fail")
    scene.wait(DAY)
    await scene.run(uncertain_send="fail")
    (row,) = scene.rows
    assert (row.status, row.last_error, row.failure_kind) == ("failed", "send_uncertain", "permanent")
    assert scene.arrived == 1


@every_asked
@both_policies
async def test_a_refused_question_is_put_again_for_a_day(scene: Scene, provider: str, policy: str):
    """Reported once in a run; after 24 hours nobody can tell, and the policy decides (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.world.fault(provider=provider, when_asked=True, status=403)
    scene.outlive_the_key()
    before = scene.questions
    report = await scene.run(uncertain_send=policy)
    assert report.counts["cannot_ask"] == {provider: f"{provider}_ask_403"}
    assert (report.status, scene.questions - before) == ("success", 1)
    assert (scene.rows[0].status, scene.rows[0].uncertain_since is not None) == ("queued", True)
    again = await scene.run(uncertain_send=policy)
    assert again.counts["cannot_ask"] == {}, "not sooner than in ten minutes"
    scene.wait(25 * HOUR)
    await scene.run(uncertain_send=policy)
    if policy == "fail":
        assert (scene.rows[0].status, scene.rows[0].last_error, scene.arrived) == ("failed", "send_uncertain", 1)
    else:
        assert (scene.rows[0].status, scene.arrived) == ("sent", 2)


@every_asked
@pytest.mark.parametrize("accepted", [True, False])
async def test_the_last_attempt_is_asked_about(world: World, provider: str, accepted: bool):
    """It ends as what it was, not as ``send_uncertain`` (SPEC C-17)."""
    world.alert(world.users(), ground.PROVIDERS[provider])
    scene = Scene(world, provider, max_attempts=1)
    await scene.lose_an_answer(accepted=accepted)
    scene.outlive_the_key()
    await scene.run()
    (row,) = scene.rows
    assert (row.status, scene.arrived) == (("sent", 1) if accepted else ("failed", 0))
    assert (row.failure_kind, row.uncertain_since) == (None if accepted else "transient", None)


@pytest.mark.parametrize("provider", ["brevo"])
async def test_questions_are_bounded_and_hold_up_nobody(world: World, provider: str):
    """``ALERTS_ASK_PER_RUN`` is per provider and run; what is due is sent beside them (SPEC C-17)."""
    world.alert(world.users(8))
    scene = Scene(world, provider, ask_per_run=3)
    world.fault(accept=True, reset=True, times=8)
    await scene.run()
    scene.wait(HOUR)
    world.alert(world.users(5))
    report = await scene.run()
    assert (report.counts["confirmed"], report.counts["sent"]) == (3, 5)
    for _ in range(2):
        await scene.run()
    assert (world.statuses, scene.arrived) == ({"sent": 13}, 13)


@every_asked
async def test_a_list_that_cannot_be_read_proves_nothing(scene: Scene, provider: str):
    """A gateway's page is no empty list: the row is asked about again (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.world.fault(provider=provider, when_asked=True, status=200, body="<html>", times=1)
    scene.outlive_the_key()
    await scene.run()
    assert (scene.rows[0].status, scene.arrived) == ("queued", 1)
    scene.wait(11 * 60)
    await scene.run()
    assert (scene.rows[0].status, scene.arrived) == ("sent", 1)


@every_asked
async def test_a_killed_sender_is_settled_like_a_lost_answer(scene: Scene, provider: str):
    """Accepted, and the process is gone before it could note that (SPEC C-11, C-17)."""
    await _killed_before_the_settle(scene)
    scene.outlive_the_key()
    report = await scene.run()
    assert (report.counts["reclaimed"], report.counts["confirmed"]) == (1, 1)
    assert (scene.rows[0].status, scene.arrived) == ("sent", 1)


async def _killed_before_the_settle(scene: Scene) -> None:
    """Every write of an outcome vanishes, as if the process had died; then its lease expires."""
    scene.world.execute(
        "CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER vanish BEFORE UPDATE ON user_alert_deliveries FOR EACH ROW"
        " WHEN (OLD.status = 'sending' AND NEW.status <> 'sending') EXECUTE FUNCTION vanish()"
    )
    await scene.run()
    scene.world.execute("DROP FUNCTION vanish CASCADE")
    scene.world.execute("UPDATE user_alert_deliveries SET lease_expires_at = now() - interval '1 second'")


@pytest.mark.parametrize("provider", ["resend"])
async def test_a_changed_message_is_no_second_message(scene: Scene, provider: str):
    """A setting changes what the message is made of: the key settles nothing, and it is asked (C-12)."""
    await scene.lose_an_answer(accepted=True)
    scene.wait(10 * 60)
    await scene.run(app_base_url="https://elsewhere.example")
    (row,) = scene.rows
    assert (row.status, row.uncertain_since is not None, scene.arrived) == ("queued", True, 1)
    scene.wait(ground.MINUTE)
    report = await scene.run(app_base_url="https://elsewhere.example")
    assert (scene.rows[0].status, report.counts["confirmed"], scene.arrived) == ("sent", 1, 1)


@pytest.mark.parametrize("provider", ["brevo"])
async def test_the_provider_that_was_used_is_asked(scene: Scene, provider: str):
    """Email has moved to Resend meanwhile; Brevo still knows what it accepted (SPEC C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.wait(5 * 60)
    report = await scene.run(email_provider="resend")
    assert (scene.rows[0].status, report.counts["confirmed"], scene.arrived) == ("sent", 1, 1)
    assert {attempt.provider for attempt in scene.world.sandbox.attempts} == {"brevo"}


@pytest.mark.parametrize("provider", ["twilio"])
async def test_one_message_never_confirms_two_sends(world: World, provider: str):
    """Two users share a number and get the same text: one arrived, and the other is known not to have (SPEC C-17)."""
    world.alert(world.users(2), "sms")
    world.execute(f"UPDATE users SET phone_number = '{destination(1, 'sms')}'")
    world.execute("UPDATE user_alert_deliveries SET alert_event_id = 1")
    scene = Scene(world, provider, send_concurrency=1)
    world.fault(reset=True, times=1)
    await scene.run()
    assert sorted(row.status for row in scene.rows) == ["queued", "sent"]
    scene.wait(ground.MINUTE)
    report = await scene.run()
    assert (report.counts["confirmed"], world.statuses, scene.arrived) == (0, {"sent": 2}, 2)


@pytest.mark.parametrize("provider", ["brevo", "resend"])
async def test_digests_are_settled_alike(world: World, provider: str):
    """A digest has the same life (SPEC C-1, C-17)."""
    ground.add_digests(world.url, world.users(), "email")
    scene = Scene(world, provider)
    await scene.lose_an_answer(accepted=True)
    scene.outlive_the_key()
    report = await scene.run()
    assert (scene.rows[-1].status, report.counts["confirmed"], scene.arrived) == ("sent", 1, 1)


@every_asked
async def test_a_paused_channel_asks_nobody(scene: Scene, provider: str):
    """Its rows stay as they are until it is open again (SPEC section 4)."""
    await scene.lose_an_answer(accepted=True)
    scene.outlive_the_key()
    await scene.run(channels_paused=ground.PROVIDERS[provider])
    assert (scene.questions, scene.rows[0].status) == (0, "queued")


@pytest.mark.parametrize("provider", ["twilio"])
@pytest.mark.parametrize("accepted", [True, False])
async def test_whoever_listens_hears_what_a_question_settled(world: World, provider: str, accepted: bool):
    """First that it is uncertain, then what it came to (SPEC I-5, C-17)."""
    world.alert(world.users(), ground.PROVIDERS[provider])
    scene = Scene(world, provider, max_attempts=1)
    await scene.lose_an_answer(accepted=accepted)
    scene.outlive_the_key()
    heard: list[SendOutcome] = []
    patient = {"send_timeout_seconds": 5, "send_lease_seconds": 60, "max_attempts": 1}
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url, **patient), pace=0) as engine:
        engine.on_outcome(heard.append)
        await engine.run()
    (one,) = heard
    (row,) = scene.rows
    assert one.channel == "sms"
    assert one.outcome == (Sent(row.provider_message_id) if accepted else Failed(row.last_error))


@pytest.mark.parametrize("provider", ["telegram"])
async def test_a_repeat_that_is_given_back_is_repeated_by_the_next_run(scene: Scene, provider: str):
    """Held at the last moment, by a pause for example: nobody can be asked, so it does not wait (SPEC C-7, C-17)."""
    await scene.lose_an_answer(accepted=True)
    scene.world.execute(
        "UPDATE user_alert_deliveries SET status = 'sending', claimed_by = 'held', send_started_at = now(), "
        "sent_by = 'telegram', next_retry_at = now(), lease_expires_at = now() + interval '1 minute'"
    )
    async with AlertsEngine(ground.settings(scene.world.url, scene.world.sandbox.url)) as engine:
        await OutcomeStatements(engine.database, "held", None, ["telegram"]).write(
            [PendingOutcome(DELIVERIES, 1, None, called=True)]
        )
    report = await scene.run()
    assert (scene.rows[0].status, report.counts["repeated"], scene.arrived) == ("sent", 1, 2)
