"""``make soak``: a night in small, on a PostgreSQL of its own. Exit 1 unless everybody got exactly what they should.

Four runners of the console script work on one database and are killed with SIGKILL at random moments. Meanwhile events
arrive, an application writes beside and deletes users, an analyst's snapshot stays open, digests fall due, and the
providers fail. Afterwards runs go on undisturbed until nothing is due. Then every message that arrived is held against
what the oracle of the fan-out says of every user that is left: each event once, on each channel, with its text.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.table import Table

from alerts_engine import PlanQuota
from alerts_engine.embedded import embedded_postgres
from alerts_engine.types import Channel
from tests.chaos.runner_faults import start_worker
from tests.chaos.storm import SEED, remote_sandbox
from tests.support import ground
from tests.support.databases import fresh_database
from tests.support.oracle.fan_out import fan_out
from tests.support.oracle.world import Event, Preference, User, World

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.chaos.storm import RemoteSandbox

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "soak"
RUNNERS = 4
SETTLING_SECONDS = 240
"""For what a killed runner left uncertain. Between two runs all rows get a minute older: then a provider is asked."""
TIMEOUT_SECONDS, LEASE_SECONDS = 2, 3
QUOTAS = {
    plan: PlanQuota(email=1000, telegram=1000, sms=sms, digests=24, alert_types=("ALL",))
    for plan, sms in (("trader", None), ("pro", 1000))
}
"""Nobody reaches them: which of two events gets the last place depends on when a runner was killed."""
TYPES = ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE")
REGIONS = ("Europe", "Asia")
REST = re.compile(r"…and (\d+) more")
TOKEN = re.compile(r"soak-(\d+)-end")
FAULTS: tuple[dict[str, Any], ...] = (
    {"status": 500},
    {"status": 503},
    {"retry_after": 1},
    {"reset": True},
    {"reset": True, "accept": True},
    {"truncate": True, "accept": True},
    {"delay": 0.3, "accept": True},
    {"delay": 2 * TIMEOUT_SECONDS, "accept": True},
)
WRITES = (
    "UPDATE users SET email_verified = email_verified WHERE id = %(user)s",
    "UPDATE user_alert_prefs SET cooldown_minutes = 0 WHERE user_id = %(user)s",
    """INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, sent_at)
       SELECT u.id, (SELECT max(id) FROM alert_events), 'account', 'sent', now() FROM users AS u
        WHERE u.id = %(user)s AND EXISTS (SELECT FROM alert_events) ON CONFLICT DO NOTHING""",
    """INSERT INTO users (email, email_verified)
       VALUES ('late' || %(user)s || '@example.com', FALSE) ON CONFLICT DO NOTHING""",
)
"""Of one user each, so that the application never deadlocks with itself."""
IN_FLIGHT = """
SELECT channel, id, claimed_by FROM {} WHERE status = 'sending' AND send_started_at IS NOT NULL
"""
ITEMS = """
SELECT g.user_id, g.channel, array_agg(d.alert_event_id) AS events
  FROM user_alert_digests AS g
  JOIN user_alert_digest_items AS i ON i.digest_id = g.id
  JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
 GROUP BY g.id
"""
FALL_DUE = """
UPDATE user_alert_digests SET next_retry_at = now() WHERE status = 'queued' AND attempts = 0 AND next_retry_at > now()
"""
UNFINISHED = """
SELECT (SELECT count(*) FROM alert_events WHERE fanout_completed_at IS NULL)
       + (SELECT count(*) FROM user_alert_deliveries WHERE status IN ('queued', 'sending'))
       + (SELECT count(*) FROM user_alert_digests WHERE status IN ('queued', 'sending'))
"""
LEFT_OVER = """
SELECT to_jsonb(d) FROM user_alert_deliveries AS d WHERE d.status IN ('queued', 'sending')
UNION ALL
SELECT to_jsonb(g) FROM user_alert_digests AS g WHERE g.status IN ('queued', 'sending')
UNION ALL
SELECT to_jsonb(e) - 'body' FROM alert_events AS e WHERE e.fanout_completed_at IS NULL
 LIMIT 10
"""


@dataclass
class Outcome:
    """What came of a soak."""

    users: int = 0
    deleted: int = 0
    events: int = 0
    expected: int = 0
    """Alerts that somebody who is still there should get, each on one channel."""
    messages: int = 0
    """That arrived for them; a digest tells of several alerts."""
    lost: int = 0
    """Alerts that did not arrive and that no row reports as failed."""
    never_wanted: int = 0
    """Alerts that somebody got who should not have, or got in two different messages."""
    doubled: dict[str, int] = field(default_factory=dict)
    """Messages that arrived more than once, by channel."""
    uncertain: Counter[str] = field(default_factory=Counter)
    """By channel: sends that were under way at a kill, and answers that were lost. So many may be doubled there."""
    runs: int = 0
    kills: int = 0
    writes: int = 0
    deadlocks: int = 0
    """Of the application."""
    settling_runs: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Email has keys by which its provider knows a repeat; the others cannot always be asked (SPEC C-17)."""
        unavoidable = all(self.doubled[channel] <= self.uncertain[channel] for channel in ("telegram", "sms"))
        return not (self.lost or self.never_wanted or self.doubled["email"] or self.deadlocks) and unavoidable


class Soak:
    def __init__(self, url: str, sandbox: RemoteSandbox, users: int, seconds: float) -> None:
        self.outcome = Outcome(users=users)
        self._url = url
        self._sandbox = sandbox
        self._seconds = seconds
        self._chance = random.Random(SEED)  # noqa: S311 - no secret
        self._in_flight: set[tuple[str, int, str]] = set()
        self._environment = ground.environment(
            url, sandbox.url,
            send_timeout_seconds=TIMEOUT_SECONDS, send_lease_seconds=LEASE_SECONDS, shutdown_seconds=0,
            send_concurrency=16, max_attempts=1000,
            plan_quotas="{" + ", ".join(f'"{name}": {quota.model_dump_json()}' for name, quota in QUOTAS.items()) + "}",
        )  # fmt: skip
        self._end = time.monotonic() + seconds
        self._users = {user.id: user for user in _add_users(url, users)}
        self._events: list[Event] = []

    async def rage(self) -> None:
        """Everything at once, for as long as it was asked for."""
        trades: list[Coroutine[Any, Any, None]] = [
            self._publish(), self._write(), self._delete(), self._fall_due(), self._break_provider(),
            *(self._kill_runners() for _ in range(RUNNERS)),
        ]  # fmt: skip
        with closing(ground.connect(self._url)) as analyst:
            analyst.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            analyst.execute("SELECT count(*) FROM users")
            async with asyncio.TaskGroup() as tasks:
                for trade in trades:
                    tasks.create_task(trade)

    async def settle(self) -> None:
        """Runs to their ends, until nothing waits; the digests of open windows fall due."""
        async with self._sandbox.session.delete(f"{self._sandbox.url}/api/faults") as answer:
            assert answer.status < 300, answer.status
        deadline = time.monotonic() + SETTLING_SECONDS
        with closing(ground.connect(self._url)) as db:
            while True:
                worker = await self._worker()
                output, _ = await worker.communicate()
                self.outcome.settling_runs += 1
                due = db.execute(FALL_DUE).rowcount
                left = db.execute(UNFINISHED).fetchone()[0]
                if not due and not left:
                    return
                if time.monotonic() > deadline:
                    rows = "\n".join(str(row[0]) for row in db.execute(LEFT_OVER))
                    raise AssertionError(f"{left} rows are not done: {rows}\nthe last run: {output.decode()}")
                await self._sandbox.advance(ground.MINUTE)
                await asyncio.to_thread(ground.let_time_pass, self._url, ground.MINUTE)

    # --- trades -----------------------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Seconds. No trade is cancelled: what the application has done must be known."""
        return max(0.0, self._end - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self._left()))

    async def _worker(self) -> asyncio.subprocess.Process:
        self.outcome.runs += 1
        return await start_worker(self._environment, "-m", "alerts_engine", "run", "--phase", "all", "--json")

    async def _kill_runners(self) -> None:
        """One runner after the other; two of three are killed."""
        while self._left():
            worker = await self._worker()
            ended = asyncio.ensure_future(worker.communicate())
            try:
                lifetime = self._chance.uniform(0.5, 4) if self._chance.random() < 0.67 else self._seconds
                await asyncio.wait({ended}, timeout=min(lifetime, self._left()))
            finally:
                if worker.returncode is None:
                    worker.send_signal(signal.SIGKILL)
                await ended
            self.outcome.kills += worker.returncode == -signal.SIGKILL
            await asyncio.to_thread(self._note_in_flight)

    def _note_in_flight(self) -> None:
        with closing(ground.connect(self._url)) as db:
            for table in ("user_alert_deliveries", "user_alert_digests"):
                self._in_flight |= set(map(tuple, db.execute(IN_FLIGHT.format(table)).fetchall()))

    async def _publish(self) -> None:
        """An event now and then, some two of them at once."""
        while self._left():
            for _ in range(self._chance.randint(1, 2)):
                self._events.append(await asyncio.to_thread(_add_event, self._url, len(self._events) + 1, self._chance))
            await self._pause(max(1.0, self._seconds / 40))

    async def _write(self) -> None:
        with closing(ground.connect(self._url)) as db:
            while self._left():
                write, user = self._chance.choice(WRITES), self._chance.randint(1, self.outcome.users)
                await asyncio.to_thread(self._beside, db, [(write, {"user": user})])
                self.outcome.writes += 1
                await self._pause(0.02)

    async def _delete(self) -> None:
        """A third of the users, some at a time in one transaction."""
        doomed = self._chance.sample(sorted(self._users), len(self._users) // 3)
        portion = max(1, len(doomed) // 20)
        with closing(ground.connect(self._url)) as db:
            while doomed and self._left():
                gone, doomed = doomed[:portion], doomed[portion:]
                deletes = [("DELETE FROM users WHERE id = %(id)s", {"id": user}) for user in gone]
                if await asyncio.to_thread(self._beside, db, deletes):
                    self.outcome.deleted += len(gone)
                    for user in gone:
                        del self._users[user]
                await self._pause(self._seconds / 25)

    def _beside(self, db: psycopg.Connection[Any], statements: list[tuple[str, dict[str, int]]]) -> bool:
        try:
            with db.transaction():
                for text, values in statements:
                    db.execute(text.encode(), values)
        except psycopg.errors.DeadlockDetected:
            self.outcome.deadlocks += 1
            return False
        except psycopg.errors.ForeignKeyViolation:  # it has deleted the user itself
            return False
        return True

    async def _fall_due(self) -> None:
        """A window of digests ends, three times in all."""
        with closing(ground.connect(self._url)) as db:
            while self._left():
                await self._pause(self._seconds / 4)
                await asyncio.to_thread(db.execute, FALL_DUE)

    async def _break_provider(self) -> None:
        while self._left():
            provider = self._chance.choice(("brevo", "telegram", "twilio"))
            fault, times = self._chance.choice(FAULTS), self._chance.randint(1, 5)
            await self._sandbox.add_fault(provider=provider, times=times, **fault)
            if fault.get("accept"):
                self.outcome.uncertain[ground.PROVIDERS[provider]] += times
            await self._pause(max(0.3, self._seconds / 200))

    # --- judging ----------------------------------------------------------------------------------------------------

    async def judge(self) -> Outcome:
        """Hold what arrived against the oracle."""
        outcome = self.outcome
        outcome.events = len(self._events)
        outcome.uncertain.update(channel for channel, _, _ in self._in_flight)
        expected = self._expected()
        messages = await self._messages()
        got = Counter((user, channel, number) for user, channel, told in messages for number in told)
        outcome.expected, outcome.messages = len(expected), sum(messages.values())
        missing = {alert for alert in expected if alert not in got} - self._reported()
        strange = {alert for alert, count in got.items() if alert not in expected or count > 1}
        outcome.lost, outcome.never_wanted = len(missing), len(strange)
        outcome.examples = [f"lost {one}" for one in sorted(missing)[:3]]
        outcome.examples += [f"never wanted {one}" for one in sorted(strange)[:3]]
        outcome.doubled = dict.fromkeys(Channel, 0)
        for (_, channel, _), count in messages.items():
            outcome.doubled[channel] += count - 1
        return outcome

    def _expected(self) -> set[tuple[int, str, int]]:
        """User, channel and number of the event."""
        numbers = {event.id: number for number, event in enumerate(self._events, start=1)}
        world = World(self._events[-1].created_at, tuple(self._users.values()), tuple(self._events), plan_quotas=QUOTAS)
        return {(one.user_id, one.channel, numbers[one.event_id]) for one in fan_out(world).created}

    async def _messages(self) -> Counter[tuple[int, str, frozenset[int]]]:
        """What arrived for those who are still there: user, channel and the numbers of the events."""
        owners = {
            destination: user.id
            for user in self._users.values()
            for destination in (user.email, user.telegram_chat_id, user.phone_number)
        }
        async with self._sandbox.session.get(f"{self._sandbox.url}/api/messages") as answer:
            messages = (await answer.json())["messages"]
        digests = self._digests()
        found: Counter[tuple[int, str, frozenset[int]]] = Counter()
        for message in messages:
            owner, channel = owners.get(message["destination"]), message["channel"]
            if owner is not None:
                found[owner, channel, _told(message["text"], digests.get((owner, channel), []))] += 1
        return found

    def _digests(self) -> dict[tuple[int, str], list[frozenset[int]]]:
        """The events in each digest of a user on a channel."""
        numbers = {event.id: number for number, event in enumerate(self._events, start=1)}
        digests: dict[tuple[int, str], list[frozenset[int]]] = {}
        with closing(ground.connect(self._url)) as db:
            for user, channel, events in db.execute(ITEMS).fetchall():
                digests.setdefault((user, channel), []).append(frozenset(numbers[event] for event in events))
        return digests

    def _reported(self) -> set[tuple[int, str, int]]:
        """Deliveries that ended as failed, with a reason that an operator sees."""
        numbers = {event.id: number for number, event in enumerate(self._events, start=1)}
        with closing(ground.connect(self._url)) as db:
            failed = db.execute(
                "SELECT user_id, channel, alert_event_id FROM user_alert_deliveries"
                " WHERE status = 'failed' AND last_error = 'send_uncertain'"
            ).fetchall()
        return {(user, channel, numbers[event]) for user, channel, event in failed}


def _told(text: str, digests: list[frozenset[int]]) -> frozenset[int]:
    """The events that a message tells of; a long digest names some, and counts the rest."""
    named = frozenset(int(number) for number in TOKEN.findall(text))
    rest = REST.search(text)
    if rest is None:
        return named
    size = len(named) + int(rest[1])
    return next((items for items in digests if named <= items and len(items) == size), named)


# --- the world ------------------------------------------------------------------------------------------------------


def _add_users(url: str, count: int) -> list[User]:
    """Users of all kinds; what they are does not change, so that the time of a run does not decide on anything."""
    made = []
    with closing(ground.connect(url)) as db, db.transaction():
        for number in range(1, count + 1):
            user = _user(number)
            db.execute(
                "INSERT INTO users (id, email, telegram_chat_id, phone_number, email_verified)"
                " VALUES (%s, %s, %s, %s, %s)",
                [user.id, user.email, user.telegram_chat_id, user.phone_number, user.email_verified],
            )
            if user.plan is not None:
                db.execute("INSERT INTO user_plans (user_id, plan) VALUES (%s, %s)", [user.id, user.plan])
            if user.digest_only is not None:
                db.execute(
                    "INSERT INTO user_notification_settings (user_id, digest_only) VALUES (%s, %s)",
                    [user.id, user.digest_only],
                )
            for channel, enabled in user.switches:
                db.execute("INSERT INTO user_channel_preferences VALUES (%s, %s, %s)", [user.id, channel, enabled])
            for one in user.preferences:
                db.execute(
                    "INSERT INTO user_alert_prefs (user_id, region, alert_type, threshold, enabled, cooldown_minutes)"
                    " VALUES (%s, %s, %s, %s, %s, 0)",
                    [user.id, one.region, one.alert_type, one.threshold, one.enabled],
                )
            made.append(user)
        db.execute("SELECT setval(pg_get_serial_sequence('users', 'id'), 1000000)")
    return made


def _user(number: int) -> User:
    preferences = (
        (),
        (Preference("global", TYPES[0]), Preference("global", TYPES[1], threshold=60)),
        (Preference("Asia", TYPES[0]), Preference("Europe", TYPES[1])),
        (Preference("global", TYPES[0], enabled=False),),
    )[number % 4]
    return User(
        number,
        f"soak{number}@example.com",
        str(500_000 + number) if number % 3 else None,
        f"+1555{number:07}" if number % 5 == 0 else None,
        email_verified=number % 11 != 0,
        plan=("pro", "trader", None)[number % 3],
        digest_only=True if number % 7 == 0 else None,
        switches=((Channel.TELEGRAM, False),) if number % 13 == 0 else (),
        preferences=preferences,
    )


def _add_event(url: str, number: int, chance: random.Random) -> Event:
    kind, region, value = chance.choice(TYPES), chance.choice(REGIONS), chance.choice((40, 70))
    with closing(ground.connect(url)) as db:
        row = db.execute(
            "INSERT INTO alert_events (alert_type, scope_region, severity, headline, body, cooldown_key,"
            " event_fingerprint, payload) VALUES (%s, %s, %s, %s, 'Body', %s, %s, %s)"
            " RETURNING id, created_at::timestamptz AS created_at",
            [kind, region, chance.randint(3, 5), f"soak-{number}-end", f"soak {number}", f"soak {number}",
             Jsonb({"value": value})],
        ).fetchone()  # fmt: skip
    payload = f'{{"value": {value}}}'
    return Event(row.id, row.created_at, kind, region, cooldown_key=f"soak {number}", payload=payload)


async def soak(url: str, *, seconds: float, users: int) -> Outcome:
    """Let it all happen on a migrated database for ``seconds``, then settle and judge."""
    started = time.monotonic()
    async with remote_sandbox() as sandbox:
        play = Soak(url, sandbox, users, seconds)
        await play.rage()
        await play.settle()
        outcome = await play.judge()
    outcome.seconds = time.monotonic() - started
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--users", type=int, default=300)
    options = parser.parse_args()
    with embedded_postgres(FOLDER) as server:
        outcome = asyncio.run(soak(fresh_database(server, "soak"), seconds=options.seconds, users=options.users))
    table = Table(title="a night in small: " + ("everybody got what they should" if outcome.holds else "FAILED"))
    table.add_column("")
    table.add_column("", justify="right")
    for name in Outcome.__dataclass_fields__:
        value = getattr(outcome, name)
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else value
        table.add_row(name.replace("_", " "), f"{shown:.0f}" if isinstance(shown, float) else str(shown))
    Console(width=100).print(table)
    sys.exit(0 if outcome.holds else 1)


if __name__ == "__main__":
    main()
