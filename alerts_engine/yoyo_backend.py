"""How yoyo talks to PostgreSQL here: what it does for itself, and how it executes the statements of a migration.

Imports yoyo and psycopg, which an empty run must not wait for: import this module where it is needed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend

from alerts_engine.database_url import target_of
from alerts_engine.errors import DatabaseUnreachableError
from alerts_engine.server_errors import without_user

STEP_NAME = "alerts-engine migration"
"""The ``application_name`` of the connection that executes a migration's statements."""

IMPATIENT = "100ms"
"""How long a statement waits for a lock: meanwhile the application queues behind it. Below ``deadlock_timeout``, so
that it is never the application whose transaction a deadlock ends."""
PATIENT = "15min"
"""How long the building of an index waits for transactions that began earlier: that holds up nobody."""

_CONNECTION_DEFAULTS: dict[str, Any] = {"application_name": "alerts-engine migrate", "connect_timeout": 10}
_COMMENTS = r"(?:\s*--.*\n)*\s*"
_CONCURRENTLY = re.compile(_COMMENTS + r"(?:CREATE (?:UNIQUE )?|DROP )INDEX CONCURRENTLY (?:IF NOT EXISTS (\S+))?")


def connect(url: str) -> psycopg.Connection:
    """A connection without transactions of its own. Raises :class:`DatabaseUnreachableError`."""
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


class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """What yoyo does for PostgreSQL, with some differences."""

    def connect(self, dburi: str) -> psycopg.Connection:
        # The URL goes to libpq as it is: a parser in between loses sockets, several hosts and letter case.
        return connect(dburi)

    def init_connection(self, connection: psycopg.Connection) -> None:
        # A host's statement_timeout must not break off the building of an index.
        for setting in ("TimeZone = 'UTC'", f"lock_timeout = '{IMPATIENT}'", "statement_timeout = 0"):
            connection.execute(f"SET {setting}")

    def copy(self) -> Steps:
        # yoyo executes each migration's statements on a copy.
        return Steps(self.uri, self.migration_table)

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


class Steps(Backend):
    """The connection of one migration's statements."""

    def __init__(self, dburi: str, migration_table: str) -> None:
        super().__init__(dburi, migration_table)
        # When a statement outside a transaction fails, yoyo would undo those before it, such as an index that took
        # minutes. It does so for errors of this type. Every migration can be repeated instead.
        self.DatabaseError = ()

    def init_connection(self, connection: psycopg.Connection) -> None:
        super().init_connection(connection)
        connection.execute(f"SET application_name = '{STEP_NAME}'")
        with suppress(psycopg.Error):  # before PostgreSQL 14, and on systems that cannot look
            connection.execute("SET client_connection_check_interval = '1s'")

    def cursor(self) -> StepCursor:
        return StepCursor(self.connection)


class StepCursor(psycopg.Cursor[tuple[Any, ...]]):
    r"""Executes a statement of a migration; of a SELECT, each row as a statement, as ``\gexec`` does in psql.

    So a migration may build or drop an index CONCURRENTLY whose name only the database knows.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> StepCursor:
        if found := _CONCURRENTLY.match(query):
            self._execute_patiently(query, built=found[1])
            return self
        super().execute(query, params, **options)
        if super().description is not None:
            for (made,) in self.fetchall():
                self.execute(made)
        return self

    @property
    def description(self) -> None:
        """Nothing: yoyo prints the rows of what has a description."""
        return

    def _execute_patiently(self, query: str, built: str | None) -> None:
        super().execute(f"SET lock_timeout = '{PATIENT}'")
        if built is not None:
            self._drop_half_built(built)
        super().execute(query)
        super().execute(f"SET lock_timeout = '{IMPATIENT}'")

    def _drop_half_built(self, index: str) -> None:
        """Drop what a killed build left: it is never used, and ``IF NOT EXISTS`` would take it for the index."""
        super().execute("SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass(%s)", [index])
        if self.fetchone() is not None:
            super().execute(f"DROP INDEX CONCURRENTLY {index}")
