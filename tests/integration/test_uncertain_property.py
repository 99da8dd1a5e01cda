"""Whatever is lost, killed or refused, and whenever: one copy at most, and one in the end (SPEC C-17)."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts_engine.sandbox import Sandbox
from tests.support import ground
from tests.support.sending import World

EXAMPLES = int(os.environ.get("UNCERTAIN_EXAMPLES", "5"))
LOST = {
    "nothing": None,
    "reset": {"reset": True},
    "half": {"truncate": True},
    "hang": {"hang": True},
    "page": {"status": 502, "body": "<html>", "content_type": "text/html"},
}
"""How an answer is lost."""
LISTS = {
    "fine": None,
    "not allowed": {"status": 403},
    "too many": {"status": 429},
    "page": {"status": 200, "body": "<html>"},
    "gone": {"reset": True},
}
"""What a provider answers when it is asked."""
MOST_LAG = 50.0
"""Seconds: providers are asked a minute after a send, as their lists come late."""
_VANISH = """
CREATE TABLE IF NOT EXISTS killed (is_so BOOLEAN NOT NULL);
DELETE FROM killed; INSERT INTO killed VALUES (FALSE);
CREATE OR REPLACE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF (SELECT is_so FROM killed) THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER vanish BEFORE UPDATE ON user_alert_deliveries FOR EACH ROW
WHEN (OLD.status = 'sending' AND NEW.status <> 'sending') EXECUTE FUNCTION vanish();
"""


@dataclass(frozen=True)
class Run:
    """A run of phase C: whether its first message is accepted, and what becomes of the answer and of the process."""

    accepted: bool
    lost: str
    killed: bool
    lists: str
    lag: bool

    async def play(self, world: World, **fields: object) -> None:
        world.sandbox.faults.clear()
        world.sandbox.asking.lag_seconds = MOST_LAG if self.lag else 0.0
        if (loss := LOST[self.lost]) is not None:
            world.fault(accept=self.accepted, times=1, **loss)
        if (refusal := LISTS[self.lists]) is not None:
            world.fault(when_asked=True, **refusal)
        world.execute(f"UPDATE killed SET is_so = {self.killed}")
        await world.run({"send_timeout_seconds": 0.3, "max_attempts": 1000, **fields})


@dataclass(frozen=True)
class Wait:
    """Time passes, for the rows and for the provider."""

    seconds: float

    async def play(self, world: World, **_: object) -> None:
        ground.let_time_pass(world.url, self.seconds)
        world.sandbox.advance(self.seconds)


RUNS = st.builds(
    Run, st.booleans(), st.sampled_from(list(LOST)), st.booleans(), st.sampled_from(list(LISTS)), st.booleans()
)
# In all well below the 24 hours after which nobody is asked any more.
WAITS = st.sampled_from([1.0, 61.0, 700.0, 1_500.0, 1_900.0, 7_200.0]).map(Wait)
HEALTHY = Run(accepted=True, lost="nothing", killed=False, lists="fine", lag=False)


@pytest.mark.parametrize("provider", ["brevo", "resend", "twilio"])
@pytest.mark.parametrize("policy", ["retry", "fail"])
def test_one_copy_at_most_and_one_in_the_end(database_url: str, provider: str, policy: str):
    """By a provider that recognises a key or can be asked; the policy makes no difference (SPEC C-17)."""
    fields = {"email_provider": provider if provider in ground.KEYED else "brevo", "uncertain_send": policy}
    with closing(ground.connect(database_url)) as db:
        db.execute(_VANISH)
    users = ground.add_users(database_url, 1)

    async def play(sandbox: Sandbox, steps: list[Run | Wait]) -> None:
        world = World(database_url, sandbox)
        world.execute("DELETE FROM user_alert_deliveries")
        sandbox.clear()
        world.alert(users, ground.PROVIDERS[provider])
        for step in steps:
            await step.play(world, **fields)
            assert len(world.got) <= 1
        for _ in range(10):
            if world.statuses == {"sent": 1}:
                break
            await Wait(700).play(world)
            await HEALTHY.play(world, **fields)
        assert (world.statuses, len(world.got)) == ({"sent": 1}, 1)

    async def serve(answered: asyncio.Future[Sandbox]) -> None:
        async with Sandbox.start() as sandbox:
            answered.set_result(sandbox)
            await asyncio.Event().wait()

    with asyncio.Runner() as runner:

        async def start() -> tuple[Sandbox, asyncio.Task[None]]:
            answered = asyncio.get_running_loop().create_future()
            serving = asyncio.create_task(serve(answered))
            return await answered, serving

        sandbox, _serving = runner.run(start())

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.one_of(RUNS, WAITS), max_size=7))
        def scenes(steps: list[Run | Wait]) -> None:
            runner.run(play(sandbox, steps))

        scenes()
