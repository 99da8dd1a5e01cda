"""What a command shows: tables on a terminal, one JSON object when piped or asked (SPEC section 3, CLI-6).

rich is imported when something is drawn: an empty run in a pipe must not wait for it.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console as RichConsole
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

    from alerts_engine.phases.context import Progress

_WIDTH_IN_A_PIPE = 120
_SHOW_CURSOR = "\x1b[?25h"


class Console:
    """Where a command's answer goes. ``as_json`` writes it as one JSON object; else it is drawn."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def json(self, answer: Mapping[str, Any]) -> None:
        """The command's whole answer, on stdout."""
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def fail(self, message: str) -> None:
        """One line on stderr; stdout still gets its one JSON object."""
        sys.stderr.write(f"error: {' '.join(message.split())}\n")
        if self.as_json:
            self.json({"status": "failed", "error": message})

    def say(self, *lines: str) -> None:
        """Plain lines on stdout, shown at once."""
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def draw(self, *tables: Table) -> None:
        """Tables on stdout."""
        out = _rich(sys.stdout)
        for table in tables:
            out.print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A progress bar on stderr when that is a terminal, never otherwise (SPEC CLI-6)."""
        from alerts_engine.phases.context import no_progress

        if not sys.stderr.isatty():
            yield no_progress
            return
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.close()


def restore_terminal() -> None:
    """Bring back the cursor that a progress bar hides: for an exit that runs no ``finally``."""
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
        sys.stderr.flush()


class _Bar:
    """A bar for each label, begun at its first word."""

    def __init__(self) -> None:
        self._drawn: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int | None, /) -> None:
        drawn = self._drawn or self._begin()
        if label not in self._tasks:
            self._tasks[label] = drawn.add_task(label, total=total)
        drawn.update(self._tasks[label], completed=done, total=total)

    def close(self) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    def _begin(self) -> RichProgress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._drawn = Progress(*columns, console=_rich(sys.stderr), transient=True)
        self._drawn.start()
        return self._drawn


def _rich(stream: Any) -> RichConsole:
    from rich.console import Console as RichConsole

    width = None if stream.isatty() else _WIDTH_IN_A_PIPE
    return RichConsole(file=stream, width=width, markup=False, highlight=False, emoji=False)
