"""Connections, transactions and named binding: the one importer of asyncpg (DESIGN section 1)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import socket
import ssl
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime  # noqa: TC003 - row types are read at run time
from enum import EnumType
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

import asyncpg

from alerts_engine.database_url import Target, target_of
from alerts_engine.errors import (
    AlertsEngineError,
    DatabaseError,
    DatabaseUnreachableError,
    DuplicateKeyError,
    LockTimeoutError,
    NotFoundError,
    NotOpenError,
    PoolerError,
    SchemaError,
    StatementTimeoutError,
    unchained,
)
from alerts_engine.masking import without_destinations
from alerts_engine.server_errors import (
    SAID_BY_POOLER,
    ServerError,
    about_connection,
    about_statement,
    advice_for_connection,
    advice_for_statement,
    pooler_problem,
)
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from alerts_engine.statements import Definition, Statement

Row = TypeVar("Row")
_COMMAND_TIMEOUT_SECONDS = 300.0
_CONNECT_TIMEOUT_SECONDS = 15.0
_GIVE_BACK_TIMEOUT_SECONDS = 5.0
_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncio.TimeoutError,
)
_QUERY_CANCELED, _LOCK_NOT_AVAILABLE = "57014", "55P03"
_CONNECT, _RULE = "connect", "the rule"
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

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        make: Callable[[Any], Row] = _maker(statement.row)  # type: ignore[arg-type]
        with _noted(statement.definition.name), _as_our_errors(statement.definition.name, self._target):
            records = await self._fetch(statement.definition, statement.definition.bind(values))
        return [make(record) for record in records]

    async def _fetch(self, definition: Definition, arguments: list[Any]) -> list[Any]:
        if definition.fresh_plan:
            # Prepared for this once: PostgreSQL plans the first executions of a statement for their values.
            prepared = await self._connection.prepare(definition.text)
            return list(await prepared.fetch(*arguments, timeout=definition.limit_seconds))
        return list(await self._connection.fetch(definition.text, *arguments, timeout=definition.limit_seconds))

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return _only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        definition = statement.definition
        with _noted(definition.name), _as_our_errors(definition.name, self._target):
            await self._connection.execute(definition.text, *definition.bind(values), timeout=definition.limit_seconds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        with _as_our_errors("transaction", self._target):
            async with self._connection.transaction():
                yield self

    @asynccontextmanager
    async def spare_transaction(self) -> AsyncIterator[None]:
        yield None  # one connection has none to spare

    async def select(self, text: str, arguments: Callable[[Sequence[str]], list[Any]]) -> Selection:
        """Begin a SELECT that is not ours (a rule), inside a transaction; its rows are fetched in portions.

        ``arguments`` gets the types of its parameters and gives their values.
        """
        with _noted(_RULE), _as_our_errors(_RULE, self._target):
            prepared = await self._connection.prepare(text)
            types = [parameter.name for parameter in prepared.get_parameters()]
            columns = tuple(column.name for column in prepared.get_attributes())
            return Selection(columns, await prepared.cursor(*arguments(types)), self._target)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection ends, whoever ended it."""
        self._connection.add_termination_listener(lambda _: callback())

    async def describe(self, statement: Statement[Any]) -> tuple[list[str], list[tuple[str, str]]]:
        """PostgreSQL's own view of a statement: the types of its parameters, the names and types of its columns."""
        prepared = await self._connection.prepare(statement.definition.text)
        return (
            [parameter.name for parameter in prepared.get_parameters()],
            [(column.name, column.type.name) for column in prepared.get_attributes()],
        )


class Selection:
    """The rows of a SELECT that has begun; only as many as are asked for leave the server."""

    def __init__(self, columns: tuple[str, ...], cursor: asyncpg.cursor.Cursor, target: Target) -> None:
        self.columns = columns
        self._cursor = cursor
        self._target = target

    async def next_rows(self, most: int) -> list[tuple[Any, ...]]:
        """Up to ``most`` rows more; none at the end."""
        with _noted(_RULE), _as_our_errors(_RULE, self._target):
            return [tuple(record) for record in await self._cursor.fetch(most)]


class Database:
    """A pool of connections; each call takes one for as long as its statement runs."""

    def __init__(self, pool: asyncpg.Pool, target: Target = _NOWHERE) -> None:
        self._pool = pool
        self._target = target

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """One connection for as long as the block runs; nothing of the session outlasts it, such as its locks."""
        async with self._lent() as connection:
            try:
                yield Session(connection, self._target)
            finally:
                await _reset(connection)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection as it comes, and goes: our own statements leave nothing behind that had to be reset."""
        if self._pool.is_closing():
            raise NotOpenError("the engine is closed, and its connections with it: open it again with 'async with'")
        with _as_our_errors(_CONNECT, self._target):
            connection = await self._pool.acquire(timeout=_CONNECT_TIMEOUT_SECONDS)
        try:
            yield connection
        finally:
            try:
                await self._pool.release(connection, timeout=_GIVE_BACK_TIMEOUT_SECONDS)
            except Exception:  # noqa: BLE001 - whatever a dead connection raises here, what it was for is over
                with suppress(Exception):
                    connection.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self.session() as session, session.transaction():
            yield session

    @asynccontextmanager
    async def spare_transaction(self) -> AsyncIterator[Session | None]:
        if self._pool.get_size() - self._pool.get_idle_size() >= self._pool.get_max_size():
            yield None
        else:
            async with self.transaction() as session:
                yield session

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        async with self._lent() as connection:
            return await Session(connection, self._target).rows(statement, **values)

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return _only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        async with self._lent() as connection:
            await Session(connection, self._target).run(statement, **values)

    async def is_direct(self) -> bool:
        """Whether the server itself answers; a pooler in between makes up the process id of the handshake."""
        async with self._lent() as connection:
            answer = await Session(connection, self._target).row(backend)
            return bool(answer.pid == connection.get_server_pid())


async def _reset(connection: asyncpg.Connection) -> None:
    """End what the session had; a connection on which that fails, or takes too long, is not used again."""
    try:
        resetting = asyncio.ensure_future(connection.reset(timeout=_GIVE_BACK_TIMEOUT_SECONDS))
        resetting.add_done_callback(_ask_for_its_error)
        await asyncio.shield(resetting)
    except BaseException as error:
        with suppress(Exception):
            connection.terminate()
        if not isinstance(error, Exception):
            raise


def _ask_for_its_error(done: asyncio.Future[None]) -> None:
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
            await asyncio.wait_for(pool.close(), _CONNECT_TIMEOUT_SECONDS)
        except _LOST:
            pool.terminate()


async def _open(url: str, target: Target, most_connections: int) -> asyncpg.Pool:
    try:
        with _as_our_errors(_CONNECT, target):
            return await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=most_connections,
                timeout=_CONNECT_TIMEOUT_SECONDS,
                command_timeout=_COMMAND_TIMEOUT_SECONDS,
                init=_prepare_connection,
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
        with _as_our_errors("transaction", target):
            connection = await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_SECONDS)
            try:
                await connection.execute("BEGIN")
            finally:
                connection.terminate()
    except PoolerError as error:
        return error
    except AlertsEngineError:
        return None
    return None


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    for type_name in ("json", "jsonb"):
        await connection.set_type_codec(type_name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _leave_as_is(_connection: asyncpg.Connection) -> None:
    """Spare each statement a round trip; asyncpg has ended an open transaction by then."""


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


# --- errors ---------------------------------------------------------------------------------------------------------


class _as_our_errors:  # noqa: N801 - used as a statement
    """Turn what asyncpg raises into the engine's errors, by class and SQLSTATE, never by words in a text.

    What was raised is forgotten: it may hold a row's contents, and half of a password.
    """

    def __init__(self, what: str, target: Target) -> None:
        self._what = what
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, AlertsEngineError):
            return
        translated = _translate(error, self._what, self._target)
        # The end of a connection is told by the statement that met it, not by the ROLLBACK behind it.
        if translated is not None and isinstance(error.__context__, DatabaseUnreachableError):
            translated = error.__context__
        if translated is not None:
            with unchained():
                raise translated


def _translate(error: BaseException, what: str, target: Target) -> AlertsEngineError | None:
    """The engine's error for ``error`` at ``what``, or ``None`` when it is not the database's."""
    sent = _sent_by_server(error)
    made: AlertsEngineError | None = None
    if sent is not None:
        made = _said_by_server(sent, what, target)
    elif isinstance(error, asyncpg.DataError | UnicodeEncodeError) and what != _CONNECT:
        made = DatabaseError(f"{what}: a value does not fit its parameter", sqlstate="22000")
    elif _is_timeout(error) and what != _CONNECT:
        made = StatementTimeoutError(f"{what} took longer than its limit and was broken off", sqlstate=_QUERY_CANCELED)
    elif isinstance(error, _LOST) and not isinstance(error, ValueError):
        made = _no_connection(_in_words(error, target), target)
    elif isinstance(error, asyncpg.PostgresError):
        made = DatabaseError(f"{what}: {type(error).__name__}", sqlstate=error.sqlstate)
    elif isinstance(error, Exception) and what == _CONNECT:
        name = type(error).__name__
        made = DatabaseUnreachableError(f"DATABASE_URL cannot be used ({name}): check its form and its parameters")
    return made


def _sent_by_server(error: BaseException) -> asyncpg.PostgresError | None:
    """What the server, or a pooler before it, sent; asyncpg makes it the cause when the connection ended with it."""
    for one in (error, error.__cause__):
        if isinstance(one, asyncpg.PostgresError) and one.severity is not None:
            return one
    return None


def _said_by_server(error: asyncpg.PostgresError, what: str, target: Target) -> AlertsEngineError:
    said = ServerError(
        type(error).__name__, error.sqlstate, error.message or "", error.constraint_name, error.server_source_function
    )
    problem = pooler_problem(said, target.user, connecting=what == _CONNECT)
    if problem is not None:
        return PoolerError(problem, sqlstate=said.sqlstate)
    # It ends a connection by FATAL, never by ERROR. So whatever the SQLSTATE of an ERROR says about a connection or a
    # password is about another server, which the statement asked.
    if (error.severity_en or error.severity) == "ERROR":
        return _statement_error(error, said, what)
    return _no_connection(about_connection(said, target.user), target, said.sqlstate)


def _statement_error(error: asyncpg.PostgresError, said: ServerError, what: str) -> AlertsEngineError:
    """The engine's error for what the server says of a statement."""
    sentence, sqlstate = about_statement(said), said.sqlstate
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError) and what != _RULE:
        return SchemaError(f"the database is not migrated ({what}: {sentence}): run alerts-engine migrate")
    if sqlstate == _QUERY_CANCELED:
        return StatementTimeoutError(
            f"{what} was broken off: it took longer than its limit, or somebody cancelled it", sqlstate=sqlstate
        )
    if sqlstate == _LOCK_NOT_AVAILABLE:
        return LockTimeoutError(f"{what} waited too long for a lock that another session holds", sqlstate=sqlstate)
    if isinstance(error, asyncpg.UniqueViolationError):
        return _collision(error, sentence, what)
    hint = advice_for_statement(sqlstate) if what != _RULE else None
    return DatabaseError(f"{what}: {sentence}{f': {hint}' if hint else ''}", sqlstate=sqlstate)


def _no_connection(sentence: str, target: Target, sqlstate: str | None = None) -> DatabaseUnreachableError:
    where = f" at {target.where}" if target.where else ""
    hint = advice_for_connection(sqlstate) or "is it running, and is DATABASE_URL right?"
    return DatabaseUnreachableError(f"no connection to the database{where}: {sentence}: {hint}", sqlstate=sqlstate)


def _is_timeout(error: BaseException) -> bool:
    """Whether the time for a statement is over; a TimeoutError of the network has a number."""
    return isinstance(error, asyncio.TimeoutError) and getattr(error, "errno", None) is None


def _collision(error: asyncpg.UniqueViolationError, sentence: str, what: str) -> DuplicateKeyError:
    """What collided. Statements name the keys by which a row may be known already, so this is another one."""
    table, is_id = error.table_name, error.constraint_name == f"{error.table_name}_pkey"
    text = f"{what}: {sentence}"
    if is_id:
        text = (
            f"{what}: the next id of {table} is taken, so its sequence is behind, as after a restore: run "  # noqa: S608
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
        )
    return DuplicateKeyError(text, sqlstate=error.sqlstate, is_id=is_id)


def _in_words(error: BaseException, target: Target) -> str:
    """Why there is no connection, when it was not the server that said so."""
    numbers = dict.fromkeys(int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error)))
    words = f"{type(error).__name__} ({without_destinations(str(error))})"
    if isinstance(error, socket.gaierror):
        words = f'could not translate host name "{target.host or target.where}" ({error.strerror})'
    elif isinstance(error, ssl.SSLError):
        words = f"TLS: {getattr(error, 'verify_message', None) or error.reason or 'the handshake failed'}"
    elif _is_timeout(error):
        words = f"no answer within {_CONNECT_TIMEOUT_SECONDS:.0f} seconds"
    elif isinstance(error, OSError) and numbers:
        # Several addresses of one host are one error with several numbers.
        words = ", ".join(os.strerror(number) for number in numbers)
        words += f" ({error.filename})" if error.filename else ""
    elif isinstance(error, asyncpg.InternalClientError):
        words = "the connection broke off"
    elif type(error) is ConnectionError and target.wants_tls:
        words = "the server does not support SSL, or broke off the handshake"
    return words


@cache
def _maker(row: Any) -> Callable[[Any], Any]:
    """A function from an asyncpg record to the dataclass ``row``, by column name."""
    if row is None:
        raise TypeError("a statement that returns nothing has no rows: use run()")
    hints = get_type_hints(row)
    fields = [(field.name, _converter(hints[field.name])) for field in dataclasses.fields(row)]

    def make(record: Any) -> Any:
        return row(*[record[name] if convert is None else convert(record[name]) for name, convert in fields])

    return make


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    for kind in _alternatives(hint):
        plain = get_origin(kind) or kind
        if isinstance(plain, EnumType) or plain is tuple:
            return lambda value: None if value is None else plain(value)
    return None


def _alternatives(hint: Any) -> Iterator[Any]:
    yield from (kind for kind in get_args(hint) if kind is not NoneType) if isinstance(hint, UnionType) else [hint]
