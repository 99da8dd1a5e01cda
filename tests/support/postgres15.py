"""A PostgreSQL 15 of Debian's, where it is installed: the older server that SPEC DB-1 names."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


@contextmanager
def postgres15() -> Iterator[str]:
    """Start an empty server and yield the URL of its ``postgres`` database; skip where the programs are missing."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed")
    with tempfile.TemporaryDirectory(prefix="alerts-engine-pg15-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        user = _user(folder)
        _call("initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N", user=user)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        _call("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start", user=user)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            _call("pg_ctl", "-D", folder / "data", "-w", "-m", "immediate", "stop", user=user)


def _user(folder: Path) -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return user.pw_name


def _call(program: str, *arguments: str | Path, user: str | None) -> None:
    subprocess.run([PROGRAMS / program, *arguments], user=user, cwd="/", stdout=subprocess.DEVNULL, check=True)
