"""The test database: one embedded PostgreSQL for all, one migrated template per worker, one clone of it per test."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pytest_postgresql import factories

from alerts_engine import schema
from alerts_engine.embedded import embedded_postgres
from tests.support.places import tidy_up, workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

_cleanup = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Point pytest-postgresql's ``noproc`` fixtures at the embedded server: ``pg_ctl`` refuses root."""
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(workshop())
    url = _cleanup.enter_context(embedded_postgres(workshop() / "server"))
    server = conninfo_to_dict(url)
    with psycopg.connect(url, autocommit=True) as connection:
        _make_quick(connection, server["password"])
        _drop_leftovers(connection)
    config.option.postgresql_host = server["host"]
    config.option.postgresql_port = server["port"]
    config.option.postgresql_user = server["user"]
    config.option.postgresql_password = server["password"]
    config.option.postgresql_dbname = f"tests_{os.getpid()}_"


def _make_quick(connection: psycopg.Connection, password: str) -> None:
    """A test database need not survive a power cut, nor a password a guess: each test connects several times."""
    quick = "fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_wal_size = '512MB'"
    for setting in (*quick, "scram_iterations = 1"):
        connection.execute(f"ALTER SYSTEM SET {setting}")
    connection.execute("SELECT pg_reload_conf()")
    stored = connection.execute("SELECT rolpassword LIKE 'SCRAM-SHA-256$1:%' FROM pg_authid WHERE rolname = 'postgres'")
    if stored.fetchone() != (True,):
        connection.execute("SET scram_iterations = 1")
        connection.execute(f"ALTER ROLE postgres PASSWORD '{password}'")


def _drop_leftovers(connection: psycopg.Connection) -> None:
    """Databases are named after their test process; those of processes that were killed only take up the disk."""
    names = connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^(tests|bare)_[0-9]+_'").fetchall()
    for (name,) in names:
        if not Path(f"/proc/{name.split('_')[1]}").exists():
            with suppress(psycopg.errors.InvalidCatalogName):  # another worker was faster
                connection.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE FALSE')
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def pytest_unconfigure() -> None:
    _cleanup.close()
    tidy_up()


def url_of(connection: psycopg.Connection, dbname: str | None = None) -> str:
    """The URL of a database of the test server."""
    info = connection.info
    return _url(host=info.host, password=info.password, dbname=dbname or info.dbname)


def _url(*, host: str, password: str, dbname: str, **_: object) -> str:
    return f"postgresql://postgres:{password}@/{dbname}?host={quote(host)}"


def _migrate(**server: Any) -> None:
    schema.apply(_url(**server))


postgresql_noproc = factories.postgresql_noproc(load=[_migrate])
postgresql = factories.postgresql("postgresql_noproc")
bare_noproc = factories.postgresql_noproc(dbname=f"bare_{os.getpid()}_")
bare_postgresql = factories.postgresql("bare_noproc")


@pytest.fixture
def database_url(postgresql: psycopg.Connection) -> Iterator[str]:
    """A fresh, migrated database."""
    return url_of(postgresql)


@pytest.fixture
def bare_database_url(bare_postgresql: psycopg.Connection) -> str:
    """A fresh database with nothing in it."""
    return url_of(bare_postgresql)
