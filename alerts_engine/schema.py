"""The database's shape: applies ``migrations/`` with yoyo (SPEC DB-2).

Both yoyo and psycopg are imported when they are needed: an empty run must not wait for them.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import SchemaError, unchained
from alerts_engine.server_errors import ServerError, about_statement, pooler_problem
from alerts_engine.statements import folder, migration_ids, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from alerts_engine.database import Database


@dataclass(frozen=True, slots=True)
class MigrationId:
    migration_id: str


migrations_applied = statement("runs", "migrations_applied", MigrationId)

LOCK_KEY = int.from_bytes(sha256(b"alerts_v2_migrate").digest()[:8], "big", signed=True)
"""The advisory lock of the one process that may migrate a database."""

_LOCK_POLL_SECONDS = 0.2
_LOCK_PAUSE_SECONDS = 1.0
_LOCK_PATIENCE_SECONDS = 15 * 60
_LOCK_NOT_AVAILABLE = "55P03"


def apply(url: str) -> list[str]:
    """Apply what is pending, oldest first, and return its ids; twice is a no-op (SPEC DB-2).

    Waits while another process migrates. Raises :class:`DatabaseUnreachableError` or :class:`SchemaError`; what was
    applied before the error stays applied, and the next call goes on from there.
    """
    if not pending(url):
        return []
    with _migrating(url) as backend:
        return _each(backend.to_apply(_migrations()), backend.apply_one, "applied")


def pending(url: str) -> list[str]:
    """The ids that :func:`apply` would apply, in order. Only reads: a bare database stays bare."""
    with _connection(url) as connection, _one_line("the record of migrations cannot be read"):
        applied = _applied(connection)
    return [name for name in _names() if name not in applied]


async def check_migrated(database: Database) -> None:
    """Raise :class:`SchemaError` unless every migration is applied; asks through the engine's own pool."""
    applied = {row.migration_id for row in await database.rows(migrations_applied)}
    missing = [name for name in migration_ids() if name not in applied]
    if missing:
        pending = f"{len(missing)} migrations are pending, from {missing[0]} on"
        if len(missing) == 1:
            pending = f"1 migration is pending ({missing[0]})"
        raise SchemaError(f"{pending}: run alerts-engine migrate")


def rollback(url: str, count: int | None = None) -> list[str]:
    """Undo the ``count`` newest applied migrations (all of them without it), newest first, and return their ids.

    The application's tables and rows stay; what only the engine knew goes. Stop every runner before.
    """
    with _migrating(url) as backend:
        newest_first = list(backend.to_rollback(_migrations()))
        return _each(newest_first[:count], backend.rollback_one, "rolled back")


def _each(migrations: Any, step: Callable[[Any], None], done: str) -> list[str]:
    names = []
    for migration in migrations:
        with _one_line(f"migration {migration.id} was not {done}"):
            _until_locks_are_free(partial(step, migration))
        names.append(migration.id)
    return names


def _until_locks_are_free(step: Callable[[], None]) -> None:
    """Wait for a lock in short turns: whoever waits for a table's lock has the application queue behind it."""
    from psycopg.errors import DeadlockDetected, LockNotAvailable

    give_up_at = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            return step()
        except (DeadlockDetected, LockNotAvailable):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(_LOCK_PAUSE_SECONDS)


def _names() -> list[str]:
    return sorted(path.stem for path in folder("migrations").glob("*.sql") if not path.stem.endswith(".rollback"))


@cache
def _migrations() -> Any:
    """The files, read and taken apart once in a process."""
    from yoyo import read_migrations

    return read_migrations(str(folder("migrations")))


def _applied(connection: psycopg.Connection) -> set[str]:
    record = connection.execute("SELECT to_regclass('_yoyo_migration')::text").fetchone()
    if record is None or record[0] is None:
        return set()
    return {row[0] for row in connection.execute("SELECT migration_id FROM _yoyo_migration")}


@contextmanager
def _migrating(url: str) -> Iterator[Any]:
    """A backend of yoyo, silent, while no other process migrates."""
    from alerts_engine.yoyo_backend import Backend

    with _connection(url) as guard, _silence(), _one_line("the migrations cannot begin"):
        _wait_for_lock(guard)
        with Backend(url, "_yoyo_migration") as backend:
            _end_leftovers(backend.connection)
            backend.init_database()
            # Whoever left a row in yoyo's own lock table is gone: it would hold the advisory lock.
            backend.break_lock()
            yield backend


def _wait_for_lock(guard: psycopg.Connection) -> None:
    # A transaction's lock, not the session's: a pooler would keep the session, and the lock with it, after we are gone.
    # CREATE INDEX CONCURRENTLY waits for every snapshot. So the lock is tried, not waited for, and last comes a SET:
    # it takes the snapshot of the query before it away.
    while True:
        guard.execute("BEGIN")
        if guard.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY]).fetchone() == (True,):
            guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            return
        guard.execute("ROLLBACK")
        time.sleep(_LOCK_POLL_SECONDS)


def _end_leftovers(connection: psycopg.Connection) -> None:
    """End what a killed process left running: the server would finish its statement first, such as an index's building.

    Nobody else executes a migration while this process holds the lock.
    """
    from alerts_engine.yoyo_backend import STEP_NAME

    leftovers = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = current_user AND application_name = %s"
    )
    while connection.execute(leftovers, [STEP_NAME]).fetchone() is not None:
        time.sleep(_LOCK_POLL_SECONDS)


def _connection(url: str) -> closing[psycopg.Connection]:
    from alerts_engine.yoyo_backend import connect

    return closing(connect(url))


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn PostgreSQL's errors into :class:`SchemaError`, without the rows that they may show."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        with unchained():
            raise SchemaError(f"{what}: {_reason(error)}") from None


def _reason(error: psycopg.Error) -> str:
    diagnosis = error.diag
    if diagnosis.sqlstate == _LOCK_NOT_AVAILABLE:
        return "other sessions keep its tables locked (see pg_stat_activity): try again"
    if diagnosis.message_primary is None or diagnosis.sqlstate is None:
        return "the connection was lost"
    said = ServerError(
        type(error).__name__,
        diagnosis.sqlstate,
        diagnosis.message_primary,
        diagnosis.constraint_name,
        diagnosis.source_function,
    )
    return pooler_problem(said, None, connecting=False) or about_statement(said)


@contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger("yoyo")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
