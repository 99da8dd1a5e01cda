"""Whether the server runs, what it says of itself, and its end."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

_START_SECONDS = 60
_STOP_SECONDS = {signal.SIGINT: 60, signal.SIGQUIT: 10, signal.SIGKILL: 10}
"""Each signal, and how long it may take; the first one ends sessions and writes everything."""
_POLL_SECONDS = 0.01


class ServerProcess:
    """The process that works on ``data``, if any.

    Whether it runs is asked of the kernel: each of its processes holds ``postgres.running``, which is locked. Process
    ids would lie after a crash, when another process has got the same one.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._data = data

    def becomes_ready(self) -> bool:
        """Wait for a server that is starting or recovering."""
        until = time.monotonic() + _START_SECONDS
        while self.is_running() and time.monotonic() < until:
            state = self._state()
            if state is not None and state.status == "ready":
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def is_running(self) -> bool:
        """Also while it starts, and while it ends."""
        with self.running_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def running_file(self) -> IO[str]:
        """What the server has to hold, locked, from its first moment to its last."""
        return (self._folder / "postgres.running").open("a")

    def id(self) -> int | None:
        """Its number, also that of one which locks nothing."""
        if not self.is_running():
            return self._older_server()
        state = self._state()
        return None if state is None else state.process

    def is_dying(self) -> bool:
        """Whether the server was killed, and some of its sessions have not noticed yet."""
        process = self.id()
        try:
            os.kill(process or 0, 0)
        except (ProcessLookupError, PermissionError):  # gone, or somebody else's by now
            return True
        return False

    def end(self) -> None:
        """Stop it, by force when it does not go by itself."""
        for number, seconds in _STOP_SECONDS.items():
            process = self.id()
            if process is None or self._ends(process, number, seconds):
                break

    def _ends(self, process: int, number: signal.Signals, seconds: float) -> bool:
        """Send the signal, and wait."""
        with suppress(ProcessLookupError):
            os.kill(process, number)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.id() is None:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _state(self) -> _State | None:
        """What the server says of itself; ``None`` when it says nothing, or not yet all."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        if len(lines) < _State.LINES or not lines[0].isdecimal():
            return None
        return _State(int(lines[0]), Path(lines[4]) / f".s.PGSQL.{lines[3]}", lines[7].strip())

    def _older_server(self) -> int | None:
        """The process of one that an earlier version has started: it locks nothing, but its socket answers."""
        state = self._state()
        if state is None:
            return None
        with socket.socket(socket.AF_UNIX) as knock:
            try:
                knock.connect(str(state.socket))
            except OSError:
                return None
        return state.process


@dataclass(frozen=True, slots=True)
class _State:
    """``postmaster.pid``, as far as it matters here."""

    LINES: ClassVar[int] = 8

    process: int
    socket: Path
    status: str
