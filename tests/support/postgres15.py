"""A PostgreSQL 15 of Debian's, where it is installed: the older server that SPEC DB-1 names, in any state."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
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
    with server15() as server:
        server.start()
        yield server.url


@contextmanager
def server15(password: str | None = None) -> Iterator[Server15]:
    """An empty server to be started as a test wants it; it wants a password of everybody when there is one."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed")
    with tempfile.TemporaryDirectory(prefix="alerts-engine-pg15-", ignore_cleanup_errors=True) as name:
        server = Server15(Path(name), password)
        try:
            yield server
        finally:
            server.stop()


class Server15:
    """A server in a folder of its own, reached by its socket, and by TCP at ``port``."""

    def __init__(self, folder: Path, password: str | None) -> None:
        self._folder = folder
        self._password = password
        self._user = _user(folder)
        self._data = folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options: list[str | Path] = [
            "-D",
            self._data,
            "-U",
            "postgres",
            "-N",
            "-A",
            "scram-sha-256" if password else "trust",
        ]
        if password:
            (folder / "password").write_text(password)
            (folder / "password").chmod(0o644)
            options.append(f"--pwfile={folder / 'password'}")
        _call("initdb", *options, user=self._user)

    @property
    def url(self) -> str:
        """Of its ``postgres`` database, by the socket."""
        secret = f":{self._password}" if self._password else ""
        return f"postgresql://postgres{secret}@/postgres?host={self._folder}&port={self.port}"

    def start(self, *settings: str, standby: bool = False, wait: bool = True) -> None:
        """Start it with ``settings`` such as ``hot_standby=off``; as a standby it waits for ever for a primary."""
        if standby:
            signal = self._data / "standby.signal"
            signal.touch()
            shutil.chown(signal, self._data.stat().st_uid)
        options = " ".join(f"-c {one}" for one in (f"port={self.port}", "listen_addresses=127.0.0.1", *settings))
        _call(
            "pg_ctl", "-D", self._data, "-w" if wait else "-W", "-l", self._folder / "log",
            "-o", f"-k {self._folder} -c fsync=off {options}", "start", user=self._user,
        )  # fmt: skip

    def stop(self) -> None:
        """Stop it if it runs; what was committed stays."""
        if (self._data / "postmaster.pid").exists():
            _call("pg_ctl", "-D", self._data, "-w", "-m", "fast", "stop", user=self._user)


def _user(folder: Path) -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return user.pw_name


def _call(program: str, *arguments: str | Path, user: str | None) -> None:
    subprocess.run([PROGRAMS / program, *arguments], user=user, cwd="/", stdout=subprocess.DEVNULL, check=True)
