"""Who may reach the server: whoever may enter its socket's folder and knows its password, and that is its owner."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from alerts_engine.errors import EmbeddedServerError

USER = "postgres"
PORT = 5432
"""Names the socket; nobody listens on a TCP port."""
_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST_SOCKET = 103
"""Bytes that every system has room for in a Unix socket's address (Linux 107, macOS 103)."""


@dataclass(frozen=True, slots=True)
class Access:
    """The password and the socket of the server whose ``folder`` this is; both are kept there."""

    folder: Path

    @property
    def password_file(self) -> Path:
        """Where the password is, on a line of its own."""
        return self.folder / "postgres.password"

    def password(self) -> str:
        """The password, drawn at the first call."""
        known = self.password_file.read_text(encoding="ascii").strip() if self.password_file.exists() else ""
        if not known:  # the first time, or after a power cut
            known = secrets.token_urlsafe(32)
            write_private(self.password_file, f"{known}\n")
        return known

    def url(self, database: str = USER) -> str:
        """How to connect, password and all. Raises when there is no socket folder."""
        host = quote(str(self._folder_of_the_socket()), safe="/")
        return f"postgresql://{USER}:{self.password()}@/{database}?host={host}&port={PORT}"

    def socket_folder(self) -> Path | None:
        """The folder that was noted last, if it is still what it was made as: ours, and nobody else's."""
        try:
            folder = Path(self._note.read_text(encoding="utf-8"))
            found = folder.lstat()
        except (OSError, ValueError):
            return None
        private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
        return folder if private and found.st_uid == os.geteuid() else None

    def make_socket_folder(self) -> Path:
        """An empty folder for the socket, under a name that nobody can guess, and noted for other processes.

        Beside the data where the path is short enough for a socket's address, else in the temporary directory. A
        folder that a killed server left is taken again: other processes may hold a URL with it.
        """
        found = self.socket_folder()
        if found is not None:
            for name in (_SOCKET, f"{_SOCKET}.lock"):
                (found / name).unlink(missing_ok=True)
            return found
        for where in (self.folder, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - the name is safe
            if _has_room(where):
                made = where / f"pg-{secrets.token_hex(8)}"
                write_private(self._note, str(made))  # first: a folder that nobody knows of would stay for ever
                made.mkdir(mode=0o700)
                return made
        raise EmbeddedServerError(
            f"the path of {self.folder} is too long for a Unix socket, and so is that of the temporary directory: "
            "use a folder with a shorter path, or set DATABASE_URL"
        )

    def remove_socket_folder(self) -> None:
        """Leave nothing behind."""
        found = self.socket_folder()
        if found is not None:
            shutil.rmtree(found, ignore_errors=True)
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.folder / "postgres.socket"

    def _folder_of_the_socket(self) -> Path:
        found = self.socket_folder()
        if found is None:
            raise EmbeddedServerError(f"the embedded PostgreSQL in {self.folder} has no socket: start it again")
        return found


def _has_room(where: Path) -> bool:
    """Whether a socket in a folder there has an address; clients take a comma for the end of it."""
    path = os.fsencode(where / f"pg-{16 * 'x'}" / _SOCKET)
    return len(path) <= _LONGEST_SOCKET and b"," not in path and where.is_dir()


def write_private(path: Path, text: str, owner: int | None = None) -> None:
    """Replace a file, which only its owner may read; whoever is killed leaves the old one, or the new one."""
    handle, made = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is open already
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner, -1)
    Path(made).replace(path)
