"""Where the tests work: in memory where there is room, since a database is 300 files that need not outlive the test."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
_MEMORY = Path("/dev/shm")  # noqa: S108 - every folder in it gets a name that cannot be guessed
_LEAST_ROOM = 2 * 2**30
_LINK = REPOSITORY / ".alerts-engine" / "workshop"


@cache
def fast_folder() -> Path:
    """The fastest folder that every user of the machine may work in."""
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _LEAST_ROOM
    return _MEMORY if in_memory else Path(tempfile.gettempdir())


@cache
def workshop() -> Path:
    """This checkout's folder for servers and temporary files, shared by all who test at the time."""
    link = _LINK
    link.parent.mkdir(mode=0o700, exist_ok=True)
    if link.is_symlink() and not link.exists():  # the machine was started again
        link.unlink(missing_ok=True)
    if not link.exists():
        _link_to_new(link)
    return link.resolve()


def _link_to_new(link: Path) -> None:
    made = Path(tempfile.mkdtemp(prefix="alerts-engine-", dir=fast_folder()))
    try:
        link.symlink_to(made)
    except FileExistsError:  # another process was faster
        made.rmdir()


def tidy_up() -> None:
    """Remove the folder, unless somebody's server still runs in it: nothing stays outside the checkout (SPEC F-1)."""
    folder = workshop()
    if not (folder / "server" / "postgres" / "postmaster.pid").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _LINK.unlink(missing_ok=True)
