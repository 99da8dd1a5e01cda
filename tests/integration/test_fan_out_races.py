"""Fan-outs at the same time without the phase lock, and an application that goes on writing beside one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from alerts_engine import PlanQuota
from alerts_engine.database import connect
from alerts_engine.errors import DatabaseUnreachableError
from alerts_engine.locks import FAN_OUT_KEYS
from alerts_engine.phases import fan_out as phase
from alerts_engine.phases import group, one_page
from alerts_engine.phases import pages as paging
from alerts_engine.phases.context import PhaseContext
from alerts_engine.phases.plans import channels_as_json, plans_as_json
from alerts_engine.types import Channel, Kind, Status
from tests.support.oracle.fan_out import fan_out as decide
from tests.support.oracle.world import Delivery, Event, Preference, User, World
from tests.support.world import (
    HOUR,
    NOW,
    add_delivery,
    add_event,
    add_preference,
    add_user,
    prepared,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import psycopg

RUNNERS = 4
QUOTAS = {
    "pro": PlanQuota(email=3, telegram=2, digests=1, alert_types=("ALL",)),
    "trader": PlanQuota(email=2, telegram=2, digests=1, alert_types=("ALL",)),
}
BEFORE_MIDNIGHT = NOW.replace(hour=22, minute=59, second=59)
AFTER_MIDNIGHT = BEFORE_MIDNIGHT + timedelta(seconds=2)
"""23:59:59 and 00:00:01 in Amsterdam."""


@pytest.fixture
def db(postgresql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    """A database in which a page has two users, and goes together with the next one."""
    monkeypatch.setattr(group, "LARGEST_PAGE", 2)
    monkeypatch.setattr(group, "SMALLEST_PAGE", 2)
    monkeypatch.setattr(paging, "WORTH_TWO_PAGES", 2)
    return prepared(postgresql)


WAITING = """
SELECT FROM pg_locks
 WHERE locktype = 'advisory' AND NOT granted AND (classid::int8 << 32 | objid::int8) = %s::int8
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def fan_out_together(url: str, moments: Iterable[datetime]) -> list[phase.FanOutCounts]:
    """One runner for each moment, all at once; their counts."""
    counts = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for number, now in enumerate(moments):
            database = await stack.enter_async_context(connect(url))
            runner = PhaseContext(database, settings(url, plan_quotas=QUOTAS), f"run {number}", now, lock=None)
            counts.append(phase.FanOutCounts())
            tasks.create_task(phase.fan_out(runner, counts[-1]))
    return counts


def deliveries(db: psycopg.Connection) -> set[Delivery]:
    rows = db.execute(
        "SELECT alert_event_id, user_id, channel, delivery_kind, status, created_at::timestamptz"
        " FROM user_alert_deliveries"
    )
    return {Delivery(*row[:3], Kind(row[3]), Status(row[4]), row[5]) for row in rows}


def crowd(db: psycopg.Connection) -> World:
    """Users whose quotas are nearly used, some with a cooldown, and events of several severities and two matters."""
    users = [_user(db, number) for number in range(16)]
    old = _event(db, severity=5, cooldown_key="old", created_at=NOW - 20 * HOUR, fanned_out=True)
    pending = [
        _event(db, severity=3 + number % 3, cooldown_key=f"matter {number % 4}", created_at=NOW - (9 - number) * HOUR)
        for number in range(6)
    ]
    earlier = [_earlier(db, user, old) for user in users[::2] if user.plan is not None]
    return World(NOW, tuple(users), (old, *pending), tuple(earlier), plan_quotas=QUOTAS)


def _user(db: psycopg.Connection, number: int) -> User:
    plan = ("pro", "trader", "personal", None)[number % 4]
    telegram = str(number) if number % 3 else None
    email = f"crowd{number}@example.test"
    user = add_user(db, plan, email=email, telegram=telegram)
    wanted = Preference("global", "HIGH_IMPACT_EVENT", cooldown_minutes=600) if number % 5 == 0 else None
    if wanted is not None:
        add_preference(db, user, wanted.alert_type, region=wanted.region, cooldown_minutes=wanted.cooldown_minutes)
    return User(user, email, telegram, plan=plan, preferences=() if wanted is None else (wanted,))


def _event(
    db: psycopg.Connection, *, severity: int, cooldown_key: str, created_at: datetime, fanned_out: bool = False
) -> Event:
    event = add_event(db, created_at, severity=severity, cooldown_key=cooldown_key, fanned_out=fanned_out)
    return Event(event, created_at, severity=severity, cooldown_key=cooldown_key, fanned_out=fanned_out)


def _earlier(db: psycopg.Connection, user: User, event: Event) -> Delivery:
    add_delivery(db, user.id, event.id, status="sent", created_at=NOW - HOUR)
    return Delivery(event.id, user.id, Channel.EMAIL, Kind.INSTANT, Status.SENT, NOW - HOUR)


async def test_runners_at_the_same_time_decide_as_one_alone_would(db: psycopg.Connection, database_url: str):
    """Four of them make exactly the deliveries of the specification, each once (SPEC B-2, B-7)."""
    world = crowd(db)
    counts = await fan_out_together(database_url, [NOW] * RUNNERS)
    outcome = decide(world)
    assert deliveries(db) == {*world.deliveries, *outcome.created}
    assert sum(own.deliveries_created for own in counts) == len(outcome.created) > 0
    assert sum(own.events_processed for own in counts) == len(outcome.completed_event_ids)


async def test_nothing_is_decided_while_a_page_of_another_runner_is_open(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """Also when only the second of its two transactions is left, of a runner that was killed (SPEC B-7)."""
    monkeypatch.setattr(paging, "_NEIGHBOUR_TIMEOUT_SECONDS", 0.05)
    world = crowd(db)
    async with connect(database_url) as database:
        async with database.transaction() as left_behind:
            await left_behind.run(one_page.begin_page, key=FAN_OUT_KEYS[1], lock_patience="20s", patience="60s")
            runner = asyncio.create_task(fan_out_together(database_url, [NOW]))
            async with asyncio.timeout(20):
                while not db.execute(WAITING, [str(FAN_OUT_KEYS[1])]).rowcount:  # noqa: ASYNC110 - the database knows
                    await asyncio.sleep(0.01)
            await asyncio.sleep(4 * paging._NEIGHBOUR_TIMEOUT_SECONDS)  # also when it gives up the second connection
            assert not runner.done()
            assert deliveries(db) == set(world.deliveries)
        await runner
    assert deliveries(db) == {*world.deliveries, *decide(world).created}


@pytest.fixture
def one_at_a_time(db: psycopg.Connection, database_url: str) -> Iterator[str]:
    """The URL of somebody who may do all with the tables, on one connection."""
    role = f"{db.info.dbname}_once"
    db.execute(f'CREATE ROLE "{role}" LOGIN CONNECTION LIMIT 1')
    for kind in ("TABLES", "SEQUENCES"):
        db.execute(f'GRANT ALL ON ALL {kind} IN SCHEMA public TO "{role}"')
    yield database_url.replace("postgres@", f"{role}@")
    db.execute(f'DROP OWNED BY "{role}"')
    db.execute(f'DROP ROLE "{role}"')


@pytest.mark.parametrize("limited_by", ["pool", "server"])
async def test_a_fan_out_needs_one_connection_and_takes_two_where_it_can(
    db: psycopg.Connection, database_url: str, one_at_a_time: str, limited_by: str
):
    """With none to spare the pages come one by one, to the same end (SPEC B-2)."""
    world = crowd(db)
    url, most = (database_url, 1) if limited_by == "pool" else (one_at_a_time, 5)
    async with connect(url, most_connections=most) as database:
        runner = PhaseContext(database, settings(database_url, plan_quotas=QUOTAS), "run", NOW)
        await phase.fan_out(runner, phase.FanOutCounts())
    assert deliveries(db) == {*world.deliveries, *decide(world).created}


async def test_a_neighbour_that_dies_leaves_both_pages_undone(
    db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """The upper page is not committed before the lower one, so that the position passes nobody over (SPEC B-2)."""
    users = [add_user(db) for _ in range(4)]
    event = add_event(db)
    db.execute(
        "CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN IF NEW.user_id = {users[1]} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
        " RETURN NULL; END $$"
    )
    db.execute("CREATE TRIGGER kill AFTER INSERT ON user_alert_deliveries FOR EACH ROW EXECUTE FUNCTION kill()")
    with pytest.raises(ExceptionGroup) as caught:
        await fan_out_together(database_url, [NOW])
    assert caught.group_contains(DatabaseUnreachableError)
    assert deliveries(db) == set()
    db.execute("DROP TRIGGER kill ON user_alert_deliveries")
    (counts,) = await fan_out_together(database_url, [NOW])
    assert counts.deliveries_created == len(users)
    assert {delivery.event_id for delivery in deliveries(db)} == {event}


async def test_quotas_of_both_days_hold_when_midnight_passes_between_runners(db: psycopg.Connection, database_url: str):
    """Whoever decides on a user counts the runner's own day; the most severe events get what is left (SPEC B-7)."""
    users = [add_user(db, "pro") for _ in range(16)]
    old = add_event(db, BEFORE_MIDNIGHT - 20 * HOUR, fanned_out=True)
    for user in users:
        add_delivery(db, user, old, status="sent", created_at=BEFORE_MIDNIGHT - HOUR)
    events = [add_event(db, BEFORE_MIDNIGHT - HOUR, severity=severity) for severity in (5, 5, 5, 4, 4)]
    await fan_out_together(database_url, [BEFORE_MIDNIGHT, AFTER_MIDNIGHT] * (RUNNERS // 2))
    made = [delivery for delivery in deliveries(db) if delivery.event_id != old]
    for user in users:
        own = {delivery.event_id: delivery.created_at for delivery in made if delivery.user_id == user}
        (moment,) = set(own.values())
        left = 2 if moment == BEFORE_MIDNIGHT else 3
        assert set(own) == set(events[:left])
    assert _fullest_day(db) <= 3


def _fullest_day(db: psycopg.Connection) -> int:
    """The most instant deliveries of one user, channel and local day."""
    zone = ZoneInfo("Europe/Amsterdam")
    days = [(one.user_id, one.channel, one.created_at.astimezone(zone).date()) for one in deliveries(db)]
    return max(map(days.count, days))


async def test_the_application_goes_on_writing_while_a_page_is_decided(db: psycopg.Connection, database_url: str):
    """What a page locks stops no one from changing users, plans and preferences (SPEC B-2)."""
    users = [add_user(db, "pro") for _ in range(4)]
    add_preference(db, users[0])
    event = add_event(db)
    async with connect(database_url) as database, database.transaction() as page:
        plans = await plans_as_json(database, settings(database_url))
        await page.run(one_page.begin_page, key=FAN_OUT_KEYS[0], lock_patience="20s", patience="60s")
        made = await page.row(
            one_page.fan_out_page, event_ids=[event], after_user=0, last_user=users[-1], now=NOW,
            time_zone="Europe/Amsterdam", plans=plans, allowlist=None, record=True,
            channels=channels_as_json(), overflow=False,
        )  # fmt: skip
        await page.row(one_page.advance_fan_out, event_ids=[event], last_user=users[-1], completed=True, now=NOW)
        assert made.created_instant == len(users)
        db.execute("SET lock_timeout = '2s'")
        db.execute("UPDATE users SET telegram_chat_id = '1', email_verified = FALSE")
        db.execute("UPDATE user_plans SET plan = 'free'")
        db.execute("UPDATE user_alert_prefs SET enabled = FALSE")
        add_preference(db, users[1])
        add_user(db, "trader")
    assert len(deliveries(db)) == len(users)
