"""Connections, transactions and named binding: nothing else speaks to PostgreSQL (DESIGN section 1)."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import asyncpg

from alerts_engine.database.errors import CONNECT, CONNECT_TIMEOUT_SECONDS, LOST, RULE, as_our_errors
from alerts_engine.database.rows import parsed, row_maker
from alerts_engine.database_url import Target, target_of
from alerts_engine.errors import (
    AlertsEngineError,
    DatabaseUnreachableError,
    NotFoundError,
    NotOpenError,
    PoolerError,
    SettingsError,
)
from alerts_engine.server_errors import SAID_BY_POOLER
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence

    from alerts_engine.statements import Definition, Statement

    _Acquire = Callable[[], Awaitable[asyncpg.Connection]]

Row = TypeVar("Row")
Connection, Pool = asyncpg.Connection, asyncpg.Pool
"""As an application has them."""
_COMMAND_TIMEOUT_SECONDS = 300.0
_GIVE_BACK_TIMEOUT_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.5
"""Whether the server has room again, when nothing of ours comes back."""
_NOWHERE = Target()


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    now: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    pid: int


clock = statement("runs", "clock", Clock)
backend = statement("locks", "backend", Backend)


class Executor(Protocol):
    """What a phase needs of the database: statements by name, and transactions that nest."""

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        """All rows, each as the statement's row type."""
        ...

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        """The one row that the statement always returns."""
        ...

    async def run(self, statement: Statement[None], **values: Any) -> None:
        """Execute a statement that returns nothing."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Session]:
        """A transaction, or a savepoint inside one; its statements go through what it yields."""
        ...

    def spare_transaction(self) -> AbstractAsyncContextManager[Session | None]:
        """A transaction on another connection, or ``None`` when none is to spare; never waits for one in use."""
        ...


class Session:
    """One connection."""

    def __init__(self, connection: asyncpg.Connection, target: Target = _NOWHERE) -> None:
        self._connection = connection
        self._target = target
        self._listeners: list[Callable[[Any], None]] = []

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        make: Callable[[Any], Row] = row_maker(statement.row)  # type: ignore[arg-type]
        with _noted(statement.definition.name), as_our_errors(statement.definition.name, self._target):
            records = await self._fetch(statement.definition, statement.definition.bind(values))
        return [make(record) for record in records]

    async def _fetch(self, definition: Definition, arguments: list[Any]) -> list[Any]:
        if definition.fresh_plan:
            # Prepared for this once: PostgreSQL plans the first executions of a statement for their values.
            prepared = await self._connection.prepare(definition.text)
            return list(await prepared.fetch(*arguments, timeout=_limit(definition)))
        return list(await self._connection.fetch(definition.text, *arguments, timeout=_limit(definition)))

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return _only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        definition = statement.definition
        with _noted(definition.name), as_our_errors(definition.name, self._target):
            await self._connection.execute(definition.text, *definition.bind(values), timeout=_limit(definition))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        with as_our_errors("transaction", self._target):
            async with self._connection.transaction():
                yield self

    @asynccontextmanager
    async def spare_transaction(self) -> AsyncIterator[None]:
        yield None  # one connection has none to spare

    async def select(self, text: str, arguments: Callable[[Sequence[str]], list[Any]]) -> Selection:
        """Begin a SELECT that is not ours (a rule), inside a transaction; its rows are fetched in portions.

        ``arguments`` gets the types of its parameters and gives their values.
        """
        with _noted(RULE), as_our_errors(RULE, self._target):
            prepared = await self._connection.prepare(text)
            types = [parameter.name for parameter in prepared.get_parameters()]
            return Selection(prepared.get_attributes(), await prepared.cursor(*arguments(types)), self._target)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection ends during this session, whoever ended it."""

        def listener(_: Any) -> None:
            callback()

        self._listeners.append(listener)
        self._connection.add_termination_listener(listener)

    def forget_listeners(self) -> None:
        """The session is over; its connection goes on, with another session."""
        for listener in self._listeners:
            with suppress(asyncpg.InterfaceError):  # it has ended, and told them
                self._connection.remove_termination_listener(listener)

    async def describe(self, statement: Statement[Any]) -> tuple[list[str], list[tuple[str, str]]]:
        """PostgreSQL's own view of a statement: the types of its parameters, the names and types of its columns."""
        prepared = await self._connection.prepare(statement.definition.text)
        return (
            [parameter.name for parameter in prepared.get_parameters()],
            [(column.name, column.type.name) for column in prepared.get_attributes()],
        )


class Selection:
    """The rows of a SELECT that has begun; only as many as are asked for leave the server."""

    def __init__(self, attributes: Sequence[asyncpg.Attribute], cursor: asyncpg.cursor.Cursor, target: Target) -> None:
        self.columns = tuple(attribute.name for attribute in attributes)
        self._json = [place for place, one in enumerate(attributes) if one.type.name in {"json", "jsonb"}]
        self._cursor = cursor
        self._target = target

    async def next_rows(self, most: int) -> list[tuple[Any, ...]]:
        """Up to ``most`` rows more; none at the end."""
        with _noted(RULE), as_our_errors(RULE, self._target):
            return [self._plain(record) for record in await self._cursor.fetch(most)]

    def _plain(self, record: asyncpg.Record) -> tuple[Any, ...]:
        values = list(record)
        for place in self._json:
            with suppress(ValueError):  # an application's codec has made something else of it
                values[place] = parsed(values[place])
        return tuple(values)


class Database:
    """A pool of connections; each call takes one for as long as its statement runs."""

    def __init__(self, pool: asyncpg.Pool, target: Target = _NOWHERE) -> None:
        self._pool = pool
        self._target = target
        self._came_back = asyncio.Event()
        self._giving_back: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """One connection for as long as the block runs; nothing of the session outlasts it, such as its locks."""
        async with self._session(self._acquire_in_time) as session:
            yield session

    @asynccontextmanager
    async def _session(self, acquire: _Acquire) -> AsyncIterator[Session]:
        async with self._lent(acquire) as connection:
            session = Session(connection, self._target)
            try:
                yield session
            finally:
                session.forget_listeners()
                await or_terminate(connection, lambda: connection.reset(timeout=_GIVE_BACK_TIMEOUT_SECONDS))

    @asynccontextmanager
    async def _lent(self, acquire: _Acquire | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A connection as it comes, and goes: our own statements leave nothing behind that had to be reset."""
        if self._pool.is_closing():
            raise NotOpenError("the engine is closed, and its connections with it: open it again with 'async with'")
        with as_our_errors(CONNECT, self._target):
            connection = await (acquire or self._acquire_in_time)()
        try:
            yield connection
        finally:
            await self._give_back(connection)

    async def _give_back(self, connection: asyncpg.Connection) -> None:
        try:
            await self._pool.release(connection, timeout=_GIVE_BACK_TIMEOUT_SECONDS)
        except Exception:  # noqa: BLE001 - whatever a dead connection raises here, what it was for is over
            with suppress(Exception):
                connection.terminate()
        finally:
            self._came_back.set()

    async def _acquire_in_time(self) -> asyncpg.Connection:
        """A connection; one that comes back, where the server has no room for another one.

        Raises what the server said when none came back.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_TIMEOUT_SECONDS
        while True:
            self._came_back.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._acquire()
            except asyncpg.TooManyConnectionsError:
                if not self._pool.get_size() or loop.time() + _LOOK_AGAIN_SECONDS >= deadline:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came_back.wait(), _LOOK_AGAIN_SECONDS)

    async def _acquire(self) -> asyncpg.Connection:
        """A connection that is not in use, or a new one.

        The pool takes first what came back last, also the place of a connection that could not be made. That may hide
        one that is idle; so as many are asked for as there are such places, and what is too much is given back.
        """
        try:
            return await self._pool.acquire()
        except asyncpg.TooManyConnectionsError:
            if not self._pool.get_idle_size():
                raise
        places = self._pool.get_max_size() - self._pool.get_size() + 1
        acquiring = [asyncio.ensure_future(self._pool.acquire()) for _ in range(places)]
        try:
            await asyncio.wait(acquiring, return_when=asyncio.ALL_COMPLETED)
        except asyncio.CancelledError:
            for one in acquiring:
                one.add_done_callback(self._give_back_soon)
            raise
        made = [one.result() for one in acquiring if one.exception() is None]
        for more in made[1:]:
            await self._give_back(more)
        return made[0] if made else acquiring[0].result()

    def _give_back_soon(self, acquired: asyncio.Future[asyncpg.Connection]) -> None:
        if not acquired.cancelled() and acquired.exception() is None:
            giving_back = asyncio.ensure_future(self._give_back(acquired.result()))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self.session() as session, session.transaction():
            yield session

    @asynccontextmanager
    async def spare_transaction(self) -> AsyncIterator[Session | None]:
        async with AsyncExitStack() as stack:
            session = None
            if self._pool.get_size() - self._pool.get_idle_size() < self._pool.get_max_size():
                with suppress(DatabaseUnreachableError):  # such as too many connections
                    spare = await stack.enter_async_context(self._session(self._acquire))
                    session = await stack.enter_async_context(spare.transaction())
            yield session

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        async with self._lent() as connection:
            return await Session(connection, self._target).rows(statement, **values)

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return _only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        async with self._lent() as connection:
            await Session(connection, self._target).run(statement, **values)

    def check_room(self, connections: int) -> None:
        """Raise :class:`SettingsError` when the pool never has so many connections: a run would wait for itself."""
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


async def or_terminate(connection: asyncpg.Connection, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Do what must be done before somebody else gets the connection; where that fails, nobody gets it."""
    try:
        doing = asyncio.ensure_future(work())
        doing.add_done_callback(_ask_for_its_error)
        await asyncio.shield(doing)
    except BaseException as error:
        with suppress(Exception):
            connection.terminate()
        if not isinstance(error, Exception):
            raise


def _ask_for_its_error(done: asyncio.Future[Any]) -> None:
    """Nobody else may: whoever waited for it may have been cancelled meanwhile."""
    if not done.cancelled():
        done.exception()


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
                command_timeout=_COMMAND_TIMEOUT_SECONDS,
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


def _limit(definition: Definition) -> float:
    """Always given: an application's connection may have another limit of its own."""
    return definition.limit_seconds or _COMMAND_TIMEOUT_SECONDS


def _only(rows: list[Row], statement: Statement[Row]) -> Row:
    if len(rows) != 1:
        raise NotFoundError(f"{statement.definition.name} returned {len(rows)} rows, not one")
    return rows[0]


_under_way: ContextVar[list[str] | None] = ContextVar("statements under way", default=None)


@contextmanager
def statements_under_way() -> Iterator[list[str]]:
    """A list that holds, at any moment, the names of the statements that run in this block and its tasks."""
    names: list[str] = []
    token = _under_way.set(names)
    try:
        yield names
    finally:
        _under_way.reset(token)


@contextmanager
def _noted(name: str) -> Iterator[None]:
    """Let :func:`statements_under_way` have this one while it runs."""
    names = _under_way.get()
    if names is None:
        yield
        return
    names.append(name)
    try:
        yield
    finally:
        names.remove(name)
