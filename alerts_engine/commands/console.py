"""Where a command's answer goes: tables and sentences for people, one JSON object when asked (SPEC section 3, CLI-6).

The one place that writes to stdout, and what it writes is :func:`visible`. rich is imported when something is drawn.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alerts_engine.plain_text import visible, visible_in_json
from alerts_engine.reports import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console as RichConsole
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.phases.context import Progress

_WIDTH_ELSEWHERE = 100
_LEAST_WIDTH = 20
_ANY_HEIGHT = 25
_SHOW_CURSOR = "\x1b[?25h"


class Console:
    """Where a command's answer goes. ``as_json`` writes it as one JSON object; else it is for people."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        if isinstance(sys.stdout, io.TextIOWrapper):  # an answer never breaks at a letter that the terminal lacks
            sys.stdout.reconfigure(errors="backslashreplace")

    def json(self, answer: Any) -> None:
        """The command's whole answer, a mapping or a dataclass, on stdout."""
        in_ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
        _write(visible_in_json(json.dumps(to_json(answer), ensure_ascii=in_ascii)) + "\n")

    def fail(self, message: str) -> None:
        """One line on stderr; stdout still gets its one JSON object, if any."""
        sys.stderr.write(f"error: {visible(' '.join(message.split()))}\n")
        if self.as_json:
            self.json({"status": "failed", "error": message})

    def say(self, *lines: str) -> None:
        """Lines on stdout, shown at once."""
        _write("".join(f"{visible(line)}\n" for line in lines))

    def hand_over(self, text: str) -> None:
        """A text that is itself the answer, such as a message: exact in a pipe or a file."""
        _write((visible(text) if sys.stdout.isatty() else text) + "\n")

    def draw(self, *blocks: Block) -> None:
        """Tables and the like on stdout, as wide as the terminal."""
        from alerts_engine.commands.tables.drawing import drawn

        width = terminal_width()
        out = _rich(sys.stdout, width)
        with out.capture() as captured:
            for number, block in enumerate(blocks):
                if number:
                    out.print()
                for piece in drawn(block, width):
                    out.print(piece, crop=False)
        _write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))

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


def terminal_width() -> int:
    """The columns of the terminal, and 100 where there is none."""
    if not sys.stdout.isatty():
        return _WIDTH_ELSEWHERE
    return max(_LEAST_WIDTH, shutil.get_terminal_size((_WIDTH_ELSEWHERE, 0)).columns)


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


def _rich(stream: Any, width: int | None = None) -> RichConsole:
    from rich.console import Console as RichConsole

    # With a height rich believes the width also where TERM=dumb.
    height = None if width is None else _ANY_HEIGHT
    return RichConsole(file=stream, width=width, height=height, markup=False, highlight=False, emoji=False)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
