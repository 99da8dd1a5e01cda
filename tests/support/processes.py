"""What another process, or another user of the machine, can do: forked, so that nobody needs rights on the checkout."""

from __future__ import annotations

import os
import pickle
import pwd
import signal
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from alerts_engine.embedded import embedded_postgres

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


def become(account: str | None) -> None:
    """Give up what the process is, for good."""
    if account is not None:
        user = pwd.getpwnam(account)
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def as_user(account: str, act: Callable[[], T]) -> T:
    """What ``act`` returns for the user of that name."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _end(lambda: _answer_as(account, writing, act))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "it failed: see the output"
    return cast("T", pickle.loads(answer))  # noqa: S301 - our own


def _answer_as(account: str, writing: int, act: Callable[[], object]) -> None:
    become(account)
    _write(writing, act())


@dataclass(frozen=True)
class ServerUser:
    """A process that uses the embedded server until it is told to leave, or is killed."""

    pid: int
    url: str
    error: str
    _leash: int

    def leave(self) -> None:
        with suppress(BrokenPipeError):  # it has left already
            os.write(self._leash, b"!")  # processes that were forked later hold the pipe open, too
        os.close(self._leash)
        assert os.waitpid(self.pid, 0)[1] == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._leash)
        os.waitpid(self.pid, 0)


def server_user(
    folder: Path, *, temporary: Path | None = None, account: str | None = None, path: str | None = None
) -> ServerUser:
    """Start using the server of ``folder``, as ``account``; its error when that does not work."""
    reading, writing = os.pipe()
    leash, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)

        def use() -> None:
            become(account)
            tempfile.tempdir = None if temporary is None else str(temporary)
            os.environ["PATH"] = path or os.environ["PATH"]
            try:
                with embedded_postgres(folder) as url:
                    _write(writing, (url, ""))
                    os.read(leash, 1)
            except Exception as error:  # noqa: BLE001 - it is what the test asks for
                _write(writing, ("", str(error)))

        _end(use)
    os.close(writing)
    os.close(leash)
    with os.fdopen(reading, "rb") as pipe:
        url, error = pickle.load(pipe)  # noqa: S301 - our own
    return ServerUser(child, url, error, end)


def _write(pipe: int, answer: object) -> None:
    os.write(pipe, pickle.dumps(answer))
    os.close(pipe)


def _end(act: Callable[[], object]) -> NoReturn:
    """Nothing of the parent's may be cleaned up by its child."""
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 - it must not go on as the test
        traceback.print_exc()
    finally:
        os._exit(code)
