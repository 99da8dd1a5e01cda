"""The engine beside an application: on its pool, opened again, several at once, cancelled anywhere (SPEC I-1, I-3)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from alerts_engine import AlertsEngine, AlertsEngineError, NewEvent, Phase, RunReport
from alerts_engine.errors import NotOpenError, SettingsError
from alerts_engine.sandbox import Sandbox
from alerts_engine.testing.sandbox import sandbox_thread
from tests.support import ground
from tests.support.world import add_news, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import psycopg

    from alerts_engine.testing import AlertsSandbox


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def outage(name: str = "freeport") -> NewEvent:
    return NewEvent(
        alert_type="HIGH_IMPACT_EVENT", severity=4, headline="Outage", event_fingerprint=f"outage:{name}",
        scope_region="Europe", payload={"value": 71},
    )  # fmt: skip


HELD = (
    "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


# --- the application's pool -----------------------------------------------------------------------------------------


async def upper_case_json(connection: asyncpg.Connection) -> None:
    """A codec that would spoil whatever of the engine's went through it."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str.upper, decoder=str.upper)


async def keep_everything(_connection: asyncpg.Connection) -> None:
    """An application that resets nothing: what the engine leaves behind stays."""


@asynccontextmanager
async def pool_of(url: str, **options: Any) -> AsyncIterator[asyncpg.Pool]:
    """A pool that is unlike the engine's own in all that matters."""
    given = {
        "min_size": 1, "max_size": 4, "init": upper_case_json, "reset": keep_everything,
        "server_settings": {"TimeZone": "Asia/Tokyo", "application_name": "the application"},
    }  # fmt: skip
    async with asyncpg.create_pool(url, **given | options) as pool:
        yield pool


async def state_of(pool: asyncpg.Pool) -> list[Any]:
    """What an application could notice of every connection: settings, locks, channels, codecs, time."""
    connections = [await pool.acquire() for _ in range(pool.get_max_size())]
    found = []
    for connection in connections:
        found += await connection.fetch("SELECT name, setting FROM pg_settings ORDER BY name")
        found += await connection.fetch(HELD + " AND pid = pg_backend_pid()")
        found += await connection.fetch("SELECT * FROM pg_listening_channels()")
        found += [await connection.fetchval("""SELECT '{"a": 1}'::jsonb"""), connection.is_in_transaction()]
    for connection in connections:
        await pool.release(connection)
    return found


async def test_connections_of_the_applications_pool_come_back_as_they_were(db, database_url):
    """Settings, locks, codecs and time zone, after everything that the engine does (SPEC I-1)."""
    user = add_user(db, "pro", email="a@example.com")
    async with Sandbox.start() as sandbox, pool_of(database_url) as pool:
        before = await state_of(pool)
        processes = {connection.pid for connection in db.execute(BACKENDS)}
        async with AlertsEngine(settings(database_url, **own(sandbox)), pool=pool) as engine:
            await engine.publish(outage())
            report = await engine.run(Phase.ALL)
            await engine.explain(user)
            await engine.recorded_runs()
        assert not pool.is_closing()
        assert await state_of(pool) == before
        # One on which something took too long is replaced, and never given back as it is.
        assert {connection.pid for connection in db.execute(BACKENDS)} & processes
    assert [(phase.phase, phase.status, phase.error) for phase in report.phases] == [
        (phase, "success", None) for phase in Phase.ALL.steps
    ]
    assert [message.destination for message in sandbox.messages] == ["a@example.com"]
    (event,) = db.execute("SELECT created_at FROM alert_events")
    assert abs(event.created_at.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)


BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'the application'"


def own(sandbox: Sandbox) -> dict[str, Any]:
    return {name.lower(): value for name, value in sandbox.settings.items()}


async def test_three_connections_are_enough_for_a_run(db, database_url):
    """And where there are fewer, the error says how many it takes, before anything is done (SPEC I-1)."""
    add_news(db)
    add_user(db, "pro")
    async with pool_of(database_url, max_size=3) as pool, AlertsEngine(settings(database_url), pool=pool) as engine:
        assert (await engine.run()).status == "success"
        with pytest.raises(SettingsError, match="3 connections at most, and this run needs 7"):
            await engine.run(dry_run=True)
    async with pool_of(database_url, max_size=7) as pool, AlertsEngine(settings(database_url), pool=pool) as engine:
        assert (await engine.run(dry_run=True)).status == "success"


async def test_a_pool_needs_no_database_url(database_url):
    """What the engine has is the pool (SPEC I-1)."""
    configured = settings(database_url).model_copy(update={"database_url": None})
    async with pool_of(database_url) as pool, AlertsEngine(configured, pool=pool) as engine:
        assert (await engine.publish(outage())).created


async def test_publishing_on_the_last_connection_waits_for_no_other(database_url):
    """A handler that holds the pool's only connection does not wait for itself (SPEC I-1)."""
    async with (
        pool_of(database_url, max_size=1) as pool,
        AlertsEngine(settings(database_url), pool=pool) as engine,
        pool.acquire() as connection,
        connection.transaction(),
        asyncio.timeout(10),
    ):
        assert (await engine.publish(outage(), connection=connection)).created


async def test_a_pool_with_other_transactions_is_refused(database_url):
    """It is said what is wrong with it (SPEC I-1)."""
    serializable = {"default_transaction_isolation": "serializable"}
    async with pool_of(database_url, server_settings=serializable) as pool:
        with pytest.raises(SettingsError, match="are serializable, and the engine needs read committed"):
            await AlertsEngine(settings(database_url), pool=pool).__aenter__()


async def test_a_pool_that_is_closed_is_named(database_url):
    """Not the engine, which is open (SPEC I-3)."""
    async with pool_of(database_url) as pool, AlertsEngine(settings(database_url), pool=pool) as engine:
        await pool.close()
        with pytest.raises(NotOpenError, match="the pool that the engine was given is closed"):
            await engine.run()


async def test_a_lock_that_is_given_up_late_does_not_stay_on_the_applications_connection(db, database_url):
    """Also where the run is cancelled, and the application's pool resets nothing (SPEC I-1, L-1)."""
    async with pool_of(database_url) as pool, AlertsEngine(settings(database_url), pool=pool) as engine:
        for _ in range(10):
            running = asyncio.create_task(engine.run(Phase.B))
            while not db.execute(HELD).rowcount and not running.done():  # noqa: ASYNC110 - the database knows
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await no_lock_is_left(db)


# --- opened, closed, opened -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("borrowed", [True, False])
async def test_an_engine_can_be_opened_again(database_url, borrowed):
    """With its own connections and with the application's (SPEC I-3)."""
    async with pool_of(database_url) as pool:
        engine = AlertsEngine(settings(database_url), pool=pool if borrowed else None)
        for number in range(3):
            async with engine:
                assert (await engine.publish(outage(str(number)))).created
                assert (await engine.run()).status == "success"
            with pytest.raises(NotOpenError, match="it was closed"):
                await engine.publish(outage())


async def test_an_engine_is_not_opened_twice_at_once(database_url):
    """The second would take the first one's connections away (SPEC I-3)."""
    async with AlertsEngine(settings(database_url)) as engine:
        with pytest.raises(AlertsEngineError, match="open already"):
            await engine.__aenter__()
        assert (await engine.publish(outage())).created


async def test_several_engines_in_one_process_do_not_disturb_each_other(db, database_url):
    """Each event has one delivery, each message is sent once (SPEC I-3, B-2)."""
    users = [add_user(db, "enterprise") for _ in range(20)]
    async with Sandbox.start() as sandbox:
        engines = [AlertsEngine(settings(database_url, **own(sandbox))) for _ in range(3)]

        async def work(engine: AlertsEngine, name: str) -> None:
            async with engine:
                await engine.publish(outage(name))
                await engine.run(Phase.B)
                await engine.run(Phase.C)

        await asyncio.gather(*(work(engine, str(number)) for number, engine in enumerate(engines)))
        async with engines[0] as engine:
            await engine.run()
        assert len(sandbox.messages) == 3 * len(users)


def test_two_event_loops_may_each_have_one(db, database_url):
    """Also two loops in two threads, and one engine in one loop after the other (SPEC I-3)."""
    engine = AlertsEngine(settings(database_url))
    reports: list[RunReport] = []

    async def work(which: AlertsEngine) -> None:
        async with which:
            reports.append(await which.run(Phase.A))

    for _ in range(2):
        asyncio.run(work(engine))
    threads = [
        threading.Thread(target=lambda: asyncio.run(work(AlertsEngine(settings(database_url))))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 4
    assert {report.status for report in reports} <= {"success", "skipped"}


# --- cancellation ---------------------------------------------------------------------------------------------------

READERS = 5
STEPS_OF_A_RUN = 650
"""About as many as the first run has; a later one has less to do."""
EMPTY = "TRUNCATE alert_events, users, user_alert_quotas, alerts_engine_runs RESTART IDENTITY CASCADE"


class Steps:
    """Counts how often a task of the loop goes on after an await, and does something at one of these moments."""

    def __init__(self) -> None:
        self.taken = 0
        self._at: int | None = None
        self._action: Callable[[], object] = bool
        asyncio.get_running_loop().set_task_factory(self._task)

    def at(self, step: int, action: Callable[[], object]) -> None:
        self.taken, self._at, self._action = 0, step, action

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Counted(work, self._step), loop=loop, **options)

    def _step(self) -> None:
        self.taken += 1
        if self.taken == self._at:
            self._action()


class _Counted(Coroutine[Any, Any, Any]):
    def __init__(self, work: Any, step: Callable[[], None]) -> None:
        self._work = work
        self._step = step

    def send(self, value: Any) -> Any:
        self._step()
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()


@pytest.mark.slow
def test_a_run_may_be_cancelled_at_any_await(db, database_url):
    """No claim without a lease, no lock that stays, nothing lost and nothing sent twice (SPEC I-3, C-11, C-12)."""
    cut: set[str] = set()

    @how(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(moments=st.lists(st.integers(1, STEPS_OF_A_RUN), min_size=1, max_size=3), borrowed=st.booleans())
    def holds(moments: list[int], borrowed: bool) -> None:
        db.execute(EMPTY)
        for number in range(READERS):
            add_user(db, "pro", email=f"reader{number}@example.com")
        with sandbox_thread() as sandbox:  # on its own loop: the steps are those of the run
            asyncio.run(cancel(database_url, db, sandbox, moments, borrowed=borrowed, cut=cut))

    holds()
    assert cut >= {"nothing done", "fanned out", "sending", "sent"}


async def cancel(
    url: str,
    db: psycopg.Connection,
    sandbox: AlertsSandbox,
    moments: list[int],
    *,
    borrowed: bool,
    cut: set[str],
) -> None:
    """Cancel one run after the other, each after one step more; then let one finish."""
    configured = ground.settings(url, sandbox.url, send_timeout_seconds=5, send_lease_seconds=30)
    async with pool_of(url) as pool, AlertsEngine(configured, pool=pool if borrowed else None) as engine:
        steps = Steps()
        await engine.publish_many([outage("one"), outage("two")])
        for moment in moments:
            running = asyncio.create_task(engine.run())
            steps.at(moment, running.cancel)
            await asyncio.gather(running, return_exceptions=True)
            await nothing_is_held(db)
            cut.add(how_far(db))
        steps.at(0, bool)
        await engine.run()
        await engine.run(Phase.C, now=datetime.now(UTC) + timedelta(hours=1))  # what was left with a lease
        assert pool.get_idle_size() == pool.get_size()
    got = sorted(message.destination for message in sandbox.inbox.messages)
    assert got == sorted([f"reader{number}@example.com" for number in range(READERS)] * 2)
    assert {row.status for row in db.execute("SELECT status FROM user_alert_deliveries")} == {"sent"}


def how_far(db: psycopg.Connection) -> str:
    """Where a cancellation met the work."""
    statuses = {row.status for row in db.execute("SELECT status FROM user_alert_deliveries")}
    if not statuses:
        return "nothing done"
    return "sending" if "sending" in statuses else "sent" if "sent" in statuses else "fanned out"


async def nothing_is_held(db: psycopg.Connection) -> None:
    """But leases, which end: no phase's lock, no transaction."""
    held = db.execute("SELECT FROM user_alert_deliveries WHERE status = 'sending' AND lease_expires_at IS NULL")
    assert not held.rowcount
    late = db.execute(
        "SELECT FROM user_alert_deliveries WHERE status = 'sending' AND lease_expires_at > now() + interval '31 s'"
    )
    assert not late.rowcount
    await no_lock_is_left(db)


async def no_lock_is_left(db: psycopg.Connection) -> None:
    """The server may take a moment to notice that a connection was ended."""
    async with asyncio.timeout(20):
        while db.execute(HELD).rowcount:  # noqa: ASYNC110 - the database knows
            await asyncio.sleep(0.01)
