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

from alerts_engine.embedded import POSE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

POOLER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_pooler = pytest.mark.skipif(POOLER is None, reason="PgBouncer is not installed")


@contextmanager
def pooler(connection: psycopg.Connection, mode: str, *more: str) -> Iterator[str]:
    """PgBouncer before the test's database; yields the URL through it."""
    with tempfile.TemporaryDirectory() as where:
        Path(where).chmod(0o777)  # PgBouncer is not root
        config = Path(where) / "pgbouncer.ini"
        config.write_text("\n".join([
            "[databases]", f"{connection.info.dbname} = host={connection.info.host} port=5432 user=postgres",
            "[pgbouncer]", "auth_type = any", "listen_port = 6432", f"unix_socket_dir = {where}",
            f"pool_mode = {mode}", *more,
        ]))  # fmt: skip
        process = subprocess.Popen(_command(Path(connection.info.host), config), stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines = []
            while "process up" not in (line := process.stderr.readline()):
                assert line, lines
                lines.append(line)
            yield f"postgresql://postgres@/{connection.info.dbname}?host={where}&port=6432"
        finally:
            process.kill()
            process.communicate()


def _command(server: Path, config: Path) -> list[str]:
    """PgBouncer refuses root: then it runs as whoever can reach the server's socket."""
    assert POOLER is not None
    if os.geteuid() != 0:
        return [POOLER, str(config)]
    if server.stat().st_uid == 0:
        return [*POSE, POOLER, str(config)]
    return [POOLER, "-u", "nobody", str(config)]
