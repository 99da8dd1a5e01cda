"""Fresh databases: one embedded server, one migrated template in it, and a clone of that for each test."""

from __future__ import annotations

import os
import re
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alerts_engine import schema
from alerts_engine.embedded import FOLDER, embedded_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

_UNSAFE_AND_FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
"""A test's database need not survive a power cut."""
_numbers = count(1)
"""Of this process's databases: names are the server's, and a process may start several playgrounds."""
_NAME = re.compile(r"alerts_([0-9]+)_[0-9]+")


@dataclass(frozen=True, slots=True)
class AlertsDatabase:
    """A fresh, migrated database."""

    url: str = field(repr=False)
    """With the password of the embedded server; the application's own pool may be opened on it."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement of psycopg's form (``%s``) and commit it; its rows, if it has any.

        >>> database.execute("SELECT email FROM users WHERE id = %s", [1])
        [('a@example.com',)]
        """
        with closing(_connect(self.url)) as connection:
            cursor = connection.execute(statement.encode(), list(parameters) or None)
            return cursor.fetchall() if cursor.description else []

    def add_user(
        self,
        email: str,
        *,
        plan: str = "pro",
        wants: Sequence[str] = ("HIGH_IMPACT_EVENT",),
        region: str = "global",
        telegram_chat_id: str | None = None,
        phone_number: str | None = None,
    ) -> int:
        """A user with a plan and a preference for each alert type in ``wants``; its id.

        Plan ``pro`` gets alerts at once, by email, Telegram and SMS; ``free`` gets one digest a day.

        >>> database.add_user("b@example.com", plan="free", region="Europe")
        2
        """
        added = self.execute(
            "INSERT INTO users (email, telegram_chat_id, phone_number, email_verified) VALUES (%s, %s, %s, TRUE)"
            " RETURNING id",
            (email, telegram_chat_id, phone_number),
        )
        user = int(added[0][0])
        self.execute("INSERT INTO user_plans (user_id, plan) VALUES (%s, %s)", (user, plan))
        for alert_type in wants:
            self.execute(
                "INSERT INTO user_alert_prefs (user_id, alert_type, region, enabled, cooldown_minutes)"
                " VALUES (%s, %s, %s, TRUE, 0)",
                (user, alert_type, region),
            )
        return user


class Databases:
    """The server's databases of this process."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._template = self._create()
        schema.apply(self._url(self._template))

    @contextmanager
    def fresh(self) -> Iterator[AlertsDatabase]:
        """A clone of the migrated template; it is dropped at the end, whoever is still connected."""
        name = self._create(self._template)
        try:
            yield AlertsDatabase(self._url(name))
        finally:
            self._drop(name)

    def close(self) -> None:
        """Drop the template."""
        self._drop(self._template)

    def _create(self, template: str = "template1") -> str:
        name = f"alerts_{os.getpid()}_{next(_numbers)}"
        with closing(_connect(self._server)) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return name

    def _drop(self, name: str) -> None:
        with closing(_connect(self._server)) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def _url(self, name: str) -> str:
        return self._server.replace("/postgres?", f"/{name}?")


@contextmanager
def databases(folder: Path | None = None) -> Iterator[Databases]:
    """Start the embedded server in ``folder`` (``.alerts-engine/testing`` of the working directory) and migrate once.

    Raises :class:`EmbeddedServerError`.
    """
    with embedded_postgres(folder or Path.cwd() / FOLDER / "testing") as server:
        with closing(_connect(server)) as connection:
            for setting in _UNSAFE_AND_FAST:
                connection.execute(f"ALTER SYSTEM SET {setting}".encode())
            connection.execute("SELECT pg_reload_conf()")
            _drop_leftovers(connection)
        made = Databases(server)
        try:
            yield made
        finally:
            made.close()


def _drop_leftovers(connection: psycopg.Connection) -> None:
    """Databases have the number of their process; those of processes that were killed only take up the disk."""
    import psycopg

    for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall():
        found = _NAME.fullmatch(name)
        if found and not _is_alive(int(found[1])):
            with suppress(psycopg.errors.InvalidCatalogName):  # another process was faster
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _connect(url: str) -> psycopg.Connection:
    import psycopg

    return psycopg.connect(url, autocommit=True)
