"""Connections, transactions and named binding: the one importer of asyncpg (DESIGN section 1)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime  # noqa: TC003 - row types are read at run time
from enum import EnumType
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

import asyncpg

from alerts_engine.errors import (
    AlertsEngineError,
    DatabaseError,
    DatabaseUnreachableError,
    DuplicateKeyError,
    LockTimeoutError,
    NotFoundError,
    SchemaError,
    StatementTimeoutError,
)
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from alerts_engine.statements import Definition, Statement

Row = TypeVar("Row")
_COMMAND_TIMEOUT_SECONDS = 300.0
_CONNECT_TIMEOUT_SECONDS = 15.0
_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncio.TimeoutError,
)
_SHUTTING_DOWN = {"57P01", "57P02", "57P03"}
_QUERY_CANCELED, _LOCK_NOT_AVAILABLE = "57014", "55P03"
_SYNTAX_OR_ACCESS = "42"
_CONNECT, _RULE = "connect", "the rule"


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    now: datetime


clock = statement("runs", "clock", Clock)


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

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        make: Callable[[Any], Row] = _maker(statement.row)  # type: ignore[arg-type]
        with _as_our_errors(statement.definition.name):
            records = await self._fetch(statement.definition, statement.definition.bind(values))
        return [make(record) for record in records]

    async def _fetch(self, definition: Definition, arguments: list[Any]) -> list[Any]:
        if definition.fresh_plan:
            # Prepared for this once: PostgreSQL plans the first executions of a statement for their values.
            prepared = await self._connection.prepare(definition.text)
            return list(await prepared.fetch(*arguments))
        return list(await self._connection.fetch(definition.text, *arguments))

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return _only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        with _as_our_errors(statement.definition.name):
            await self._connection.execute(statement.definition.text, *statement.definition.bind(values))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        with _as_our_errors("transaction"):
            async with self._connection.transaction():
                yield self

    @asynccontextmanager
    async def spare_transaction(self) -> AsyncIterator[None]:
        yield None  # one connection has none to spare

    async def select(self, text: str, arguments: Callable[[Sequence[str]], list[Any]]) -> Selection:
        """Begin a SELECT that is not ours (a rule), inside a transaction; its rows are fetched in portions.

        ``arguments`` gets the types of its parameters and gives their values.
        """
        with _as_our_errors(_RULE):
            prepared = await self._connection.prepare(text)
            types = [parameter.name for parameter in prepared.get_parameters()]
            columns = tuple(column.name for column in prepared.get_attributes())
            return Selection(columns, await prepared.cursor(*arguments(types)))

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

    def __init__(self, columns: tuple[str, ...], cursor: asyncpg.cursor.Cursor) -> None:
        self.columns = columns
        self._cursor = cursor

    async def next_rows(self, most: int) -> list[tuple[Any, ...]]:
        """Up to ``most`` rows more; none at the end."""
        with _as_our_errors(_RULE):
            return [tuple(record) for record in await self._cursor.fetch(most)]


class Database:
    """A pool of connections; each call takes one for as long as its statement runs."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """One connection for as long as the block runs; nothing of the session outlasts it, such as its locks."""
        async with self._lent() as connection:
            try:
                yield Session(connection)
            finally:
                try:
                    await asyncio.shield(connection.reset(timeout=_CONNECT_TIMEOUT_SECONDS))
                except Exception:  # noqa: BLE001 - a connection that cannot be reset is not used again
                    with suppress(Exception):
                        connection.terminate()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection as it comes, and goes: our own statements leave nothing behind that had to be reset."""
        with _as_our_errors(_CONNECT):
            connection = await self._pool.acquire(timeout=_CONNECT_TIMEOUT_SECONDS)
        try:
            yield connection
        finally:
            try:
                await self._pool.release(connection, timeout=_CONNECT_TIMEOUT_SECONDS)
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
            return await Session(connection).rows(statement, **values)

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return _only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        async with self._lent() as connection:
            await Session(connection).run(statement, **values)


async def database_now(database: Database) -> datetime:
    """The database's clock (SPEC C-14)."""
    return (await database.row(clock)).now


@asynccontextmanager
async def connect(url: str, *, most_connections: int = 10) -> AsyncIterator[Database]:
    """Open a pool; every connection runs with ``TimeZone=UTC`` (SPEC DB-4).

    Raises :class:`DatabaseUnreachableError`.
    """
    with _as_our_errors(_CONNECT):
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=most_connections,
            timeout=_CONNECT_TIMEOUT_SECONDS,
            command_timeout=_COMMAND_TIMEOUT_SECONDS,
            init=_prepare_connection,
            reset=_leave_as_is,
            server_settings={"TimeZone": "UTC", "application_name": "alerts-engine"},
        )
    try:
        yield Database(pool)
    finally:
        try:
            await asyncio.wait_for(pool.close(), _CONNECT_TIMEOUT_SECONDS)
        except _LOST:
            pool.terminate()


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    for type_name in ("json", "jsonb"):
        await connection.set_type_codec(type_name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _leave_as_is(_connection: asyncpg.Connection) -> None:
    """Spare each statement a round trip; asyncpg has ended an open transaction by then."""


def _only(rows: list[Row], statement: Statement[Row]) -> Row:
    if len(rows) != 1:
        raise NotFoundError(f"{statement.definition.name} returned {len(rows)} rows, not one")
    return rows[0]


class _as_our_errors:  # noqa: N801 - used as a statement
    """Turn what asyncpg raises into the engine's errors, by class and SQLSTATE, never by words in a text.

    Only the primary message of errors about our own SQL is kept: details may hold a row's contents.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, AlertsEngineError):
            return
        translated = _translate(error, self._what)
        if translated is not None:
            raise translated from error


def _translate(error: BaseException, what: str) -> AlertsEngineError | None:
    """The engine's error for ``error`` at ``what``, or ``None`` when it is not the database's."""
    name, sqlstate = type(error).__name__, getattr(error, "sqlstate", None)
    made: AlertsEngineError | None = None
    if _is_about_the_statement(error):
        made = _statement_error(error, what)
    elif isinstance(error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
        made = DatabaseUnreachableError(
            f"the database refuses the connection ({name}): check user, password and database name in DATABASE_URL"
        )
    elif _is_timeout(error) and what != _CONNECT:
        made = StatementTimeoutError(f"{what} took longer than its limit and was broken off", sqlstate=_QUERY_CANCELED)
    elif isinstance(error, _LOST) or sqlstate in _SHUTTING_DOWN:
        made = DatabaseUnreachableError(
            f"no connection to the database ({name} at {what}): is it running, and is DATABASE_URL right?"
        )
    elif isinstance(error, asyncpg.PostgresError):
        made = _statement_error(error, what)
    elif isinstance(error, ValueError | TypeError) and what == _CONNECT:
        made = DatabaseUnreachableError(f"DATABASE_URL cannot be used ({name}): check its form")
    elif isinstance(error, asyncpg.DataError | UnicodeEncodeError):
        made = DatabaseError(f"{what}: a value does not fit its parameter", sqlstate="22000")
    return made


def _is_about_the_statement(error: BaseException) -> bool:
    """Whether the server sent ``error`` and goes on listening: it ends a connection by FATAL, never by ERROR.

    So whatever its SQLSTATE says about a connection or a password is about another server, which the statement asked.
    """
    return isinstance(error, asyncpg.PostgresError) and (error.severity_en or error.severity) == "ERROR"


def _is_timeout(error: BaseException) -> bool:
    """Whether the time for a statement is over; a TimeoutError of the network has a number."""
    return isinstance(error, asyncio.TimeoutError) and getattr(error, "errno", None) is None


def _statement_error(error: BaseException, what: str) -> AlertsEngineError:
    """The engine's error for what the server says of a statement."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError) and what != _RULE:
        return SchemaError(f"the database is not migrated ({what}: {_primary(error)}): run alerts-engine migrate")
    if sqlstate == _QUERY_CANCELED:
        return StatementTimeoutError(
            f"{what} was broken off: it took longer than its limit, or somebody cancelled it", sqlstate=sqlstate
        )
    if sqlstate == _LOCK_NOT_AVAILABLE:
        return LockTimeoutError(f"{what} waited too long for a lock that another session holds", sqlstate=sqlstate)
    if isinstance(error, asyncpg.UniqueViolationError):
        return _collision(error, what)
    return DatabaseError(f"{what}: {_primary(error)}", sqlstate=sqlstate)


def _collision(error: asyncpg.UniqueViolationError, what: str) -> DuplicateKeyError:
    """What collided. Statements name the keys by which a row may be known already, so this is another one."""
    table, is_id = error.table_name, error.constraint_name == f"{error.table_name}_pkey"
    text = f"{what}: {_primary(error)}"
    if is_id:
        text = (
            f"{what}: the next id of {table} is taken, so its sequence is behind, as after a restore: run "  # noqa: S608
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
        )
    return DuplicateKeyError(text, sqlstate=error.sqlstate, is_id=is_id)


def _primary(error: BaseException) -> str:
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate.startswith(_SYNTAX_OR_ACCESS):
        return f"{getattr(error, 'message', '')} (SQLSTATE {sqlstate})"
    constraint = getattr(error, "constraint_name", None)
    return f"{type(error).__name__}{f' of {constraint}' if constraint else ''} (SQLSTATE {sqlstate})"


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
