"""Statements by name on one connection, and transactions that nest."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import asyncpg

from alerts_engine.database.errors import RULE, as_our_errors
from alerts_engine.database.rows import parsed, row_maker
from alerts_engine.database_url import Target
from alerts_engine.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from alerts_engine.statements import Call, Definition, Statement

Row = TypeVar("Row")
COMMAND_TIMEOUT_SECONDS = 300.0
NOWHERE = Target()


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

    def __init__(self, connection: asyncpg.Connection, target: Target = NOWHERE) -> None:
        self._connection = connection
        self._target = target
        self._listeners: list[Callable[[Any], None]] = []

    async def rows(self, statement: Statement[Row], **values: Any) -> list[Row]:
        make: Callable[[Any], Row] = row_maker(statement.row)  # type: ignore[arg-type]
        with _noted(statement.definition.name), as_our_errors(statement.definition.name, self._target):
            records = await self._fetch(statement.definition, statement.definition.call(values))
        return [make(record) for record in records]

    async def _fetch(self, definition: Definition, call: Call) -> list[Any]:
        if call.fresh_plan:
            # Prepared for this once: PostgreSQL plans the first executions of a statement for their values.
            prepared = await self._connection.prepare(call.text)
            return list(await prepared.fetch(*call.arguments, timeout=_limit(definition)))
        return list(await self._connection.fetch(call.text, *call.arguments, timeout=_limit(definition)))

    async def row(self, statement: Statement[Row], **values: Any) -> Row:
        return only(await self.rows(statement, **values), statement)

    async def run(self, statement: Statement[None], **values: Any) -> None:
        definition = statement.definition
        with _noted(definition.name), as_our_errors(definition.name, self._target):
            call = definition.call(values)
            await self._connection.execute(call.text, *call.arguments, timeout=_limit(definition))

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


def _limit(definition: Definition) -> float:
    """Always given: an application's connection may have another limit of its own."""
    return definition.limit_seconds or COMMAND_TIMEOUT_SECONDS


def only(rows: list[Row], statement: Statement[Row]) -> Row:
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
