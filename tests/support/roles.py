"""Roles that may do less than the one the other tests use."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

PASSWORD = "S3cr3tWord"


@contextmanager
def role(db: psycopg.Connection, *commands: str, options: str = "") -> Iterator[str]:
    """The URL of a role in the test's database alone; ``{role}`` in ``commands`` is its name."""
    name = f"role_of_{db.info.dbname}"
    db.execute(f"DROP ROLE IF EXISTS {name}")  # of a test process that was killed
    db.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {options}")
    try:
        for command in commands:
            db.execute(command.format(role=name).encode())
        yield f"postgresql://{name}:{PASSWORD}@/{db.info.dbname}?host={db.info.host}"
    finally:
        db.execute(f"DROP OWNED BY {name}")
        db.execute(f"DROP ROLE {name}")
