"""Real workers, killed with SIGKILL at random moments and started again until nothing waits."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.chaos.runner_faults import start_worker
from tests.support import ground
from tests.support.ground import PROVIDERS, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

SEED = 20220224
TIMEOUT_SECONDS, LEASE_SECONDS = 2, 2.5
"""Small leases, so that what a killed worker held is soon free; and far longer than the sandbox takes to answer."""
LONGEST_ANSWER_SECONDS = 0.08
_ROUNDS_AFTER_THE_STORM = 200
_IN_FLIGHT = "SELECT id, claimed_by FROM {} WHERE status = 'sending' AND send_started_at IS NOT NULL"
_SLOW_BUILDING = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER INSERT ON user_alert_digest_items FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""
_USUAL_BUILDING = "DROP FUNCTION slow CASCADE"
_IS_BUILDING = """
SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep')
"""


@dataclass
class RemoteSandbox:
    """A sandbox in a process of its own, steered by its control API."""

    url: str
    session: aiohttp.ClientSession

    async def requests(self) -> int:
        return (await self._get("/api/attempts?limit=0"))["requests"]

    async def received(self) -> list[tuple[str, str]]:
        messages = (await self._get("/api/messages"))["messages"]
        return [(message["channel"], message["destination"]) for message in messages]

    async def add_fault(self, **fault: Any) -> None:
        async with self.session.post(f"{self.url}/api/faults", json=fault) as answer:
            assert answer.status == 201, await answer.text()

    async def advance(self, seconds: float) -> None:
        async with self.session.post(f"{self.url}/api/clock", json={"seconds": seconds}) as answer:
            assert answer.status == 200, await answer.text()

    async def _get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as answer:
            return await answer.json()


@asynccontextmanager
async def remote_sandbox() -> AsyncIterator[RemoteSandbox]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "alerts_engine", "sandbox", "--port", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = (await process.stdout.readline()).decode().split()[2]
        async with aiohttp.ClientSession() as session:
            yield RemoteSandbox(url, session)
    finally:
        process.terminate()
        await process.wait()


class Storm:
    """One worker after the other on one queue."""

    def __init__(
        self, name: str, url: str, sandbox: RemoteSandbox, fields: dict[str, Any], chance: random.Random
    ) -> None:
        self.result = Result(name)
        self.in_flight: set[tuple[str, int, str]] = set()
        """Sends that were under way at the kills, as the database saw it: table, row, run."""
        self.chance = chance
        self._url = url
        self.sandbox = sandbox
        self._environment = ground.environment(url, sandbox.url, **fields)

    async def worker(self, phase: str) -> asyncio.subprocess.Process:
        return await start_worker(self._environment, "-m", "alerts_engine", "run", "--phase", phase, "--json")

    async def worker_to_its_end(self, phase: str) -> bytes:
        output, _ = await (await self.worker(phase)).communicate()
        return output

    async def kill(self, phase: str, moment: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        """Start a worker and kill it at ``moment``; false when it had ended before."""
        worker = await self.worker(phase)
        ended = asyncio.ensure_future(worker.communicate())
        while not ended.done():
            if await moment():
                await asyncio.sleep(self.chance.uniform(0, LONGEST_ANSWER_SECONDS / 4))
                break
            await asyncio.wait([ended], timeout=0.005)
        if worker.returncode is None:
            worker.send_signal(signal.SIGKILL)
        await ended
        if worker.returncode != -signal.SIGKILL:
            return False
        self.result.kills += 1
        self._count_in_flight()
        return True

    async def rage(self, phase: str, kills: int, sends: int) -> None:
        """Kill this many times, or until nothing waits any more; each time after a few more calls of a provider."""
        while self.result.kills < kills and self._is_something_left():
            goal = await self.sandbox.requests() + self.chance.randint(1, max(2, 2 * sends // kills))

            async def reached(goal: int = goal) -> bool:
                return await self.sandbox.requests() >= goal

            if not await self.kill(
                phase, reached
            ):  # what is left waits for a dead worker's lease, or to be asked about
                await self._let_a_minute_pass()

    async def _let_a_minute_pass(self) -> None:
        """For the rows, and for the providers."""
        await asyncio.sleep(0.1)
        await self.sandbox.advance(ground.MINUTE)
        ground.let_time_pass(self._url, ground.MINUTE)

    def _is_something_left(self) -> bool:
        return bool(ground.statuses(self._url).keys() & {"queued", "sending"})

    async def calm(self, phase: str) -> None:
        """Let workers run to their ends, a minute apart, until nothing waits and no lease is left."""
        for _ in range(_ROUNDS_AFTER_THE_STORM):
            output = await self.worker_to_its_end(phase)
            if not self._is_something_left():
                return
            await self._let_a_minute_pass()
        raise AssertionError(f"{self.result.fault}: {ground.statuses(self._url)}; {output.decode()}")

    async def settle(self, started: float, *, doubles_possible: bool) -> Result:
        self.result.allowed = len(self.in_flight) + self.result.answers_lost if doubles_possible else 0
        self.result.notes.append(f"{len(self.in_flight)} in flight at the kills")
        return ground.judge(self.result, self._url, await self.sandbox.received(), started)

    def _count_in_flight(self) -> None:
        with closing(ground.connect(self._url)) as db:
            for table in ("user_alert_deliveries", "user_alert_digests"):
                self.in_flight |= {(table, *row) for row in db.execute(_IN_FLIGHT.format(table))}


@asynccontextmanager
async def storm(name: str, url: str, **fields: Any) -> AsyncIterator[Storm]:
    defaults = {
        "send_timeout_seconds": TIMEOUT_SECONDS, "shutdown_seconds": 0, "send_lease_seconds": LEASE_SECONDS,
        "send_concurrency": 16,
        # A begun row that is reclaimed spends an attempt, and here a row may be hit many times.
        "max_attempts": 1000,
    }  # fmt: skip
    async with remote_sandbox() as sandbox:
        yield Storm(name, url, sandbox, defaults | fields, random.Random(SEED))  # noqa: S311


async def sending_storm(url: str, provider: str, policy: str, sends: int, kills: int) -> Result:
    """Kill workers while they send by ``provider``, deliveries and a few digests, under ``ALERTS_UNCERTAIN_SEND``.

    Of each tenth call the message is accepted and the answer is lost.
    """
    channel, started = PROVIDERS[provider], time.monotonic()
    digests = 0 if channel == "sms" else sends // 10
    users = ground.add_users(url, sends)
    ground.add_deliveries(url, users[digests:], channel)
    if digests:
        ground.add_digests(url, users[:digests], channel)
    email = provider if channel == "email" else "brevo"
    async with storm(
        f"kills, lost answers: {provider}, {policy}", url, uncertain_send=policy, email_provider=email
    ) as play:
        await _answer_unevenly(play, sends)
        await play.rage("c", kills, sends)
        await play.calm("c")
        return await play.settle(started, doubles_possible=policy == "retry" and provider == "telegram")


LOST = ({"reset": True}, {"truncate": True}, {"status": 502, "body": "<html>", "content_type": "text/html"})
"""Three ways to lose an answer at once; a fourth is a kill."""


async def _answer_unevenly(play: Storm, sends: int) -> None:
    """Every call takes a moment, before or after its message is kept; and each tenth answer is lost."""
    for number in range(sends // 4):
        await play.sandbox.add_fault(
            delay=play.chance.uniform(0.002, LONGEST_ANSWER_SECONDS), accept=play.chance.random() < 0.5,
            times=play.chance.randint(1, 8),
        )  # fmt: skip
        if number % 2:
            await play.sandbox.add_fault(accept=True, times=1, **LOST[number % len(LOST)])
            play.result.answers_lost += 1
    await play.sandbox.add_fault(delay=LONGEST_ANSWER_SECONDS / 4)


async def digest_storm(url: str, sends: int, kills: int) -> Result:
    """Kill workers while they build digests, and while they send them: one message for each user, with all items."""
    started = time.monotonic()
    users = ground.add_users(url, sends)
    items = ground.add_deliveries(url, users, "email", "digest", every_alert=True)
    with closing(ground.connect(url)) as db:
        db.execute("UPDATE alert_events SET created_at = created_at - interval '2 days'")
        async with storm("kill -9, building digests", url) as play:
            db.execute(_SLOW_BUILDING)

            async def is_building() -> bool:
                return db.execute(_IS_BUILDING).fetchone()[0]

            while play.result.kills < kills // 2 and await play.kill("d", is_building):
                pass
            db.execute(_USUAL_BUILDING)
            await play.worker_to_its_end("d")
            await play.rage("all", kills, sends)
            await play.calm("all")
            built = db.execute("SELECT count(*) FROM user_alert_digest_items").fetchone()[0]
            if built != items:
                raise AssertionError(f"{built} of {items} items are in a digest")
            return await play.settle(started, doubles_possible=False)
