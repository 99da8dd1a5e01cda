"""What asyncpg raises, as the engine's errors: by class and SQLSTATE, never by words in a text."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING

import asyncpg

from alerts_engine.errors import (
    AlertsEngineError,
    ConflictError,
    DatabaseError,
    DatabaseUnreachableError,
    DuplicateKeyError,
    LockTimeoutError,
    PoolerError,
    SchemaError,
    StatementTimeoutError,
    unchained,
)
from alerts_engine.masking import without_destinations
from alerts_engine.server_errors import (
    ServerError,
    about_connection,
    about_statement,
    advice_for_connection,
    advice_for_statement,
    pooler_problem,
)

if TYPE_CHECKING:
    from alerts_engine.database_url import Target

CONNECT, RULE = "connect", "the rule"
"""What is being done, where it is no statement of the engine's own."""
CONNECT_TIMEOUT_SECONDS = 15.0
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncio.TimeoutError,
)
"""What shows that a connection is gone, or was never there."""
_QUERY_CANCELED, _LOCK_NOT_AVAILABLE = "57014", "55P03"
_CONFLICTS = {"23503", "40001", "40P01"}
"""A row that is referred to is gone, or who waits for whom goes round in a circle."""


class as_our_errors:  # noqa: N801 - used as a statement
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
    elif isinstance(error, asyncpg.DataError | UnicodeEncodeError) and what != CONNECT:
        made = DatabaseError(f"{what}: a value does not fit its parameter", sqlstate="22000")
    elif _is_timeout(error) and what != CONNECT:
        made = StatementTimeoutError(f"{what} took longer than its limit and was broken off", sqlstate=_QUERY_CANCELED)
    elif isinstance(error, LOST) and not isinstance(error, ValueError):
        made = _no_connection(_in_words(error, target), target)
    elif isinstance(error, asyncpg.PostgresError):
        made = DatabaseError(f"{what}: {type(error).__name__}", sqlstate=error.sqlstate)
    elif isinstance(error, Exception) and what == CONNECT:
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
    problem = pooler_problem(said, target.user, connecting=what == CONNECT)
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
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError) and what != RULE:
        return SchemaError(f"the database is not migrated ({what}: {sentence}): run alerts-engine migrate")
    if sqlstate == _QUERY_CANCELED:
        return StatementTimeoutError(
            f"{what} was broken off: it took longer than its limit, or somebody cancelled it", sqlstate=sqlstate
        )
    if sqlstate == _LOCK_NOT_AVAILABLE:
        return LockTimeoutError(f"{what} waited too long for a lock that another session holds", sqlstate=sqlstate)
    if isinstance(error, asyncpg.UniqueViolationError):
        return _collision(error, sentence, what)
    hint = advice_for_statement(sqlstate) if what != RULE else None
    kind = ConflictError if sqlstate in _CONFLICTS else DatabaseError
    return kind(f"{what}: {sentence}{f': {hint}' if hint else ''}", sqlstate=sqlstate)


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
        words = f"no answer within {CONNECT_TIMEOUT_SECONDS:.0f} seconds"
    elif isinstance(error, OSError) and numbers:
        # Several addresses of one host are one error with several numbers.
        words = ", ".join(os.strerror(number) for number in numbers)
        words += f" ({error.filename})" if error.filename else ""
    elif isinstance(error, asyncpg.InternalClientError):
        words = "the connection broke off"
    elif type(error) is ConnectionError and target.wants_tls:
        words = "the server does not support SSL, or broke off the handshake"
    return words
