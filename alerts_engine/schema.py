"""The database's shape: applies ``migrations/`` with yoyo (SPEC DB-2).

Both yoyo and psycopg are imported when they are needed: an empty run must not wait for them.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from alerts_engine.database_url import target_of
from alerts_engine.errors import DatabaseUnreachableError, SchemaError, unchained
from alerts_engine.server_errors import ServerError, about_statement, pooler_problem, without_user
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
_CONNECTION_DEFAULTS: dict[str, Any] = {"application_name": "alerts-engine migrate", "connect_timeout": 10}


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
            step(migration)
        names.append(migration.id)
    return names


def _names() -> list[str]:
    return sorted(path.stem for path in folder("migrations").glob("*.sql") if not path.stem.endswith(".rollback"))


def _migrations() -> Any:
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
    with _connection(url) as guard, _silence(), _one_line("the migrations cannot begin"):
        _wait_for_lock(guard)
        with _backend_class()(url, "_yoyo_migration") as backend:
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


def _connection(url: str) -> closing[psycopg.Connection]:
    return closing(_connect(url))


def _connect(url: str) -> psycopg.Connection:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    url = url.strip()
    target = target_of(url)
    try:
        # Prepared statements do not hold through every connection pooler.
        return psycopg.connect(**_CONNECTION_DEFAULTS | conninfo_to_dict(url), autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        problem = (
            f"no connection to the database: {_in_words(error, target.user)}: is it running, and is DATABASE_URL right?"
        )
    except (psycopg.Error, ValueError):
        problem = "DATABASE_URL cannot be used: PostgreSQL's client does not understand what follows the ? in it"
    raise DatabaseUnreachableError(problem)


def _in_words(error: psycopg.OperationalError, user: str | None) -> str:
    """The first line of what libpq says, which names host and port but no password."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return without_user(first.removeprefix("connection failed: ").removeprefix("connection is bad: "), user)


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


@cache
def _backend_class() -> Any:
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend

    class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
        """What yoyo does for PostgreSQL, with four differences."""

        def connect(self, dburi: str) -> psycopg.Connection:
            # The URL goes to libpq as it is: a parser in between loses sockets, several hosts and letter case.
            return _connect(dburi)

        def init_connection(self, connection: psycopg.Connection) -> None:
            # A migration that cannot get its lock fails, and can be run again; waiting long would queue a live
            # application behind it. A host's statement_timeout must not break off the building of an index.
            for setting in ("TimeZone = 'UTC'", "lock_timeout = '10s'", "statement_timeout = 0"):
                connection.execute(f"SET {setting}")

        def list_tables(self, **_: object) -> list[str]:
            # The original wants a parsed URL.
            rows = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema").fetchall()
            return [row[0] for row in rows]

        def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, object]:
            # The original asks for the names of the user and the host: a container may have neither.
            return {
                "id": str(uuid4()),
                "migration_id": migration.id if migration else None,
                "migration_hash": migration.hash if migration else None,
                "username": "alerts-engine",
                "hostname": "",
                "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
                "operation": operation,
            }

    return Backend
