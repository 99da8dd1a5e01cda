"""A PostgreSQL under ``.alerts-engine/``, from a pip package that ships the server (SPEC CLI-1).

It belongs to one user of the machine: its folder, its socket's folder and its password are that user's alone, and
whoever connects has to give the password. It stops when the last process that uses it leaves. One that is killed does
not count any more: each holds a shared ``flock``, which the kernel gives back whatever happens.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from alerts_engine.errors import EmbeddedServerError

try:
    import fcntl

    from alerts_engine.embedded.server import Server
except ModuleNotFoundError:  # Windows has no such locks
    raise EmbeddedServerError("the embedded PostgreSQL needs Linux or macOS: set DATABASE_URL") from None

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FOLDER", "embedded_postgres"]

FOLDER = ".alerts-engine"


@contextmanager
def embedded_postgres(folder: Path | None = None, *, keep_running: bool = False) -> Iterator[str]:
    """Start the server if it is not running, and yield the URL of its ``postgres`` database, with the password.

    ``folder`` defaults to ``.alerts-engine`` in the working directory; it is created, and closed to other users of the
    machine. The data stays; the server stops when its last user leaves, unless ``keep_running``.
    Raises :class:`EmbeddedServerError`.
    """
    folder = (folder or Path.cwd() / FOLDER).resolve()
    _prepare(folder)
    server = Server(folder)
    with (folder / "postgres.users").open("a") as users:
        try:
            with _starting(folder):
                alone = _is_only_user(users)
                fcntl.flock(users, fcntl.LOCK_SH)
                url = server.ensure_running(alone=alone)
            yield url
        finally:
            with _starting(folder):
                if not keep_running and _is_only_user(users):
                    server.stop()


def _prepare(folder: Path) -> None:
    """Make the folder the caller's alone: what is in it is as good as the database."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
            folder.chmod(stat.S_IRWXU)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EmbeddedServerError(
            f"the embedded PostgreSQL cannot use the folder {folder} ({reason}): use another folder, or set "
            "DATABASE_URL"
        ) from None
    if found.st_uid != os.geteuid():
        raise EmbeddedServerError(
            f"the embedded PostgreSQL's folder {folder} belongs to another user: remove it, run as that user, "
            "or set DATABASE_URL"
        )


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the server."""
    with (folder / "postgres.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_only_user(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
