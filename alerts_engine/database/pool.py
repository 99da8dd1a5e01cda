"""A pool of connections, opened and closed."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING, Any

import asyncpg

from alerts_engine.database.errors import CONNECT, CONNECT_TIMEOUT_SECONDS, LOST, as_our_errors
from alerts_engine.database.lending import GIVE_BACK_TIMEOUT_SECONDS, Lender, or_terminate
from alerts_engine.database.session import (
    COMMAND_TIMEOUT_SECONDS,
    NOWHERE,
    Row,
    Session,
    only,
)
from alerts_engine.database_url import Target, target_of
from alerts_engine.errors import (
    AlertsEngineError,
    DatabaseUnreachableError,
    NotOpenError,
    PoolerError,
    SettingsError,
)
from alerts_engine.server_errors import SAID_BY_POOLER
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from alerts_engine.statements import Statement

    _Acquire = Callable[[], Awaitable[asyncpg.Connection]]

Connection, Pool = asyncpg.Connection, asyncpg.Pool
"""As an application has them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    now: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    pid: int


clock = statement("runs", "clock", Clock)
backend = statement("locks", "backend", Backend)


class Database:
    """A pool of connections; each call takes one for as long as its statement runs."""

    def __init__(self, pool: asyncpg.Pool, target: Target = NOWHERE) -> None:
        self._pool = pool
        self._target = target
        self._lender = Lender(pool)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """One connection for as long as the block runs; nothing of the session outlasts it, such as its locks."""
        async with self._session(self._lender.acquire_in_time) as session:
            yield session

    @asynccontextmanager
    async def _session(self, acquire: _Acquire) -> AsyncIterator[Session]:
        async with self._lent(acquire) as connection:
            session = Session(connection, self._target)
            try:
                yield session
            finally:
                session.forget_listeners()
                await or_terminate(connection, lambda: connection.reset(timeout=GIVE_BACK_TIMEOUT_SECONDS))

    @asynccontextmanager
    async def _lent(self, acquire: _Acquire | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A connection as it comes, and goes: our own statements leave nothing behind that had to be reset."""
        if self._pool.is_closing():
            raise NotOpenError("the engine is closed, and its connections with it: open it again with 'async with'")
        with as_our_errors(CONNECT, self._target):
            connection = await (acquire or self._lender.acquire_in_time)()
        try:
            yield connection
        finally:
            await self._lender.give_back(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self.session() as session, session.transaction():
            yield session

    @asynccontextmanager
    async def spare_transaction(self) -> AsyncIterator[Session | None]:
        async with AsyncExitStack() as stack:
            session = None
            if self._lender.has_spare:
                with suppress(DatabaseUnreachableError):  # such as too many connections
                    spare = await stack.enter_async_context(self._session(self._lender.acquire))
                    session = await stack.enter_async_context(spare.transaction())
            yield session

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        async with self._lent() as connection:
            return await Session(connection, self._target).rows(statement, **values)

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        async with self._lent() as connection:
            await Session(connection, self._target).run(statement, **values)

    def check_room(self, connections: int) -> None:
        """Raise :class:`SettingsError` when the pool never has this many connections: a run would wait for itself."""
        most = self._pool.get_max_size()
        if most < connections:
            raise SettingsError(
                f"the pool has {most} connections at most, and this run needs {connections}: give the engine a larger "
                "pool, or none at all"
            )

    async def is_direct(self) -> bool:
        """Whether the server itself answers; a pooler in between makes up the process id of the handshake."""
        async with self._lent() as connection:
            answer = await Session(connection, self._target).row(backend)
            return bool(answer.pid == connection.get_server_pid())


async def database_now(database: Database) -> datetime:
    """The database's clock (SPEC C-14)."""
    return (await database.row(clock)).now


@asynccontextmanager
async def connect(url: str, *, most_connections: int = 10) -> AsyncIterator[Database]:
    """Open a pool; every connection runs with ``TimeZone=UTC`` (SPEC DB-4).

    Raises :class:`DatabaseUnreachableError`.
    """
    url = url.strip()
    target = target_of(url)
    pool = await _open(url, target, most_connections)
    try:
        yield Database(pool, target)
    finally:
        try:
            await asyncio.wait_for(pool.close(), CONNECT_TIMEOUT_SECONDS)
        except LOST:
            pool.terminate()


async def _open(url: str, target: Target, most_connections: int) -> asyncpg.Pool:
    try:
        with as_our_errors(CONNECT, target):
            return await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=most_connections,
                timeout=CONNECT_TIMEOUT_SECONDS,
                command_timeout=COMMAND_TIMEOUT_SECONDS,
                reset=_leave_as_is,
                server_settings={"TimeZone": "UTC", "application_name": "alerts-engine"},
            )
    except PoolerError as error:
        problem = error
    if problem.sqlstate != SAID_BY_POOLER:
        problem = await _refused_transaction(url, target) or problem
    raise problem


async def _refused_transaction(url: str, target: Target) -> PoolerError | None:
    """What a pooler in statement mode says when a transaction begins; one in transaction mode says nothing."""
    try:
        with as_our_errors("transaction", target):
            connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
            try:
                await connection.execute("BEGIN")
            finally:
                connection.terminate()
    except PoolerError as error:
        return error
    except AlertsEngineError:
        return None
    return None


async def _leave_as_is(_connection: asyncpg.Connection) -> None:
    """Spare each statement a round trip; asyncpg has ended an open transaction by then."""
