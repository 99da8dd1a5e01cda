"""A real connection pooler between a test and its database, where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alerts_engine.embedded.guise import find_guise

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

POOLER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_pooler = pytest.mark.skipif(POOLER is None, reason="PgBouncer is not installed")


@contextmanager
def pooler(connection: psycopg.Connection, mode: str, *more: str) -> Iterator[str]:
    """PgBouncer before the test's database; yields the URL through it."""
    info = connection.info
    with tempfile.TemporaryDirectory() as where:
        config = Path(where) / "pgbouncer.ini"
        config.write_text("\n".join([
            "[databases]", f"{info.dbname} = host={info.host} port=5432 user=postgres password={info.password}",
            "[pgbouncer]", "auth_type = any", "listen_port = 6432", f"unix_socket_dir = {where}",
            f"pool_mode = {mode}", *more,
        ]))  # fmt: skip
        process = subprocess.Popen(_command(config), stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines: list[str] = []
            while "process up" not in (line := process.stderr.readline()):
                assert line, lines
                lines.append(line)
            yield f"postgresql://postgres@/{info.dbname}?host={where}&port=6432"
        finally:
            process.kill()
            process.communicate()


def _command(config: Path) -> list[str]:
    """PgBouncer refuses root, as PostgreSQL does: it runs under the same name, which may enter the socket's folder."""
    assert POOLER is not None
    return [*find_guise().prefix, POOLER, str(config)]
