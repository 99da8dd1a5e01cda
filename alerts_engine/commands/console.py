"""What a command shows: tables on a terminal, one JSON object when piped or asked (SPEC section 3, CLI-6).

rich is imported when something is drawn: an empty run in a pipe must not wait for it.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rich.console import Console as RichConsole
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

    from alerts_engine.demo.story import Played
    from alerts_engine.operations.runs import RecordedPhase, RecordedRun
    from alerts_engine.phases.context import Progress
    from alerts_engine.reports import RunReport
    from alerts_engine.sandbox import SandboxMessage

_WIDTH_IN_A_PIPE = 120
_SHOW_CURSOR = "\x1b[?25h"
_STYLES = {
    "success": "green", "failed": "bold red", "skipped": "yellow", "running": "cyan",
    "✓": "green", "✗": "bold red", "!": "yellow",
}  # fmt: skip


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


# --- tables ---------------------------------------------------------------------------------------------------------


def run_table(report: RunReport) -> Table:
    """A run that has just ended: a row per phase."""
    title = f"run {report.run_id}{' (dry run)' if report.dry_run else ''}"
    rows = [
        (phase.phase, phase.status, _duration(phase.duration_ms), _words(phase.counts, phase.error or phase.reason))
        for phase in report.phases
    ]
    return _phases_table(title, rows, f"{report.status} in {_duration(report.duration_ms)}")


def recorded_run_table(run: RecordedRun, items: Sequence[RecordedPhase]) -> Table:
    """A run from the history: a row per phase."""
    rows = [(i.phase, i.status, _duration(i.duration_ms), _words(i.counts, i.error_summary)) for i in items]
    caption = (
        f"{run.status}, started {moment_text(run.started_at)} by {run.triggered_by}, took {_duration(run.duration_ms)}"
    )
    if run.error_summary:
        caption += f": {run.error_summary}"
    return _phases_table(f"run {run.run_id}{' (dry run)' if run.dry_run else ''}", rows, caption)


def runs_table(runs: Sequence[RecordedRun]) -> Table:
    """The run history, in the order given; two lines each, so that an id stays whole on a narrow terminal."""
    rows = [
        (
            f"{moment_text(run.started_at)} {run.triggered_by}{', dry run' if run.dry_run else ''}\n{run.run_id}",
            run.phase,
            run.status,
            _duration(run.duration_ms),
            _words(_of_all_phases(run.counts), run.error_summary),
        )
        for run in runs
    ]
    table = table_of("runs", ("started, by, id", "phase", "status", "took", "what"), rows)
    table.columns[0].min_width = len(str(UUID(int=0)))
    return table


def demo_tables(played: Played) -> Iterable[Table]:
    """What the demo came to: the phases, the totals, and who got what."""
    phases = [(t.phase, t.status, _duration(t.duration_ms), _words(t.counts, t.error)) for t in played.phases]
    yield _phases_table(f"{played.runs} runs over {played.days} days", phases, "")
    totals = played.totals
    words = {
        "events": totals.events, "deliveries": totals.deliveries, "digests": totals.digests,
        "messages sent": totals.sent, "still waiting": totals.waiting,
    }  # fmt: skip
    yield table_of("in the end", tuple(words), [tuple(map(str, words.values()))])
    audience = [
        (
            guest.who, guest.got.plan or "none", str(guest.got.email), str(guest.got.telegram), str(guest.got.sms),
            f"{guest.got.digests} ({guest.got.digest_items} alerts)",
        )
        for guest in played.audience
    ]  # fmt: skip
    yield table_of("who got what", ("user", "plan", "email", "telegram", "SMS", "digests"), audience)


def messages_table(messages: Sequence[SandboxMessage]) -> Table:
    """The last message of each channel, to give an idea."""
    last = {message.channel: message for message in messages}
    rows = [(channel, one.destination, one.subject or one.text.splitlines()[0]) for channel, one in last.items()]
    return table_of(f"{len(messages)} messages reached the sandbox, such as", ("channel", "to", "what"), rows)


def _phases_table(title: str, rows: Iterable[tuple[str, str, str, str]], caption: str) -> Table:
    return table_of(title, ("phase", "status", "took", "what"), rows, caption)


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title,
        caption=caption or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _words(counts: Mapping[str, Any] | None, trouble: str | None) -> str:
    """Counts that are not zero, a line for each group of them, and what went wrong."""
    lines = [line for line in _lines(counts or {}) if line]
    return "\n".join([*lines, trouble] if trouble else lines or ["nothing to do"])


def _lines(counts: Mapping[str, Any], group: str = "") -> Iterator[str]:
    numbers = ", ".join(_number(name, value) for name, value in counts.items() if _is_told(value))
    yield f"{group}: {numbers}" if group and numbers else numbers
    for name, value in counts.items():
        if isinstance(value, dict):
            # "by rule" and "by channel" say nothing that their members do not.
            inner = "" if name.startswith("by_") else name.replace("_", " ")
            yield from _lines(value, f"{group} {inner}".strip())


def _is_told(value: Any) -> bool:
    return bool(value) and not isinstance(value, dict | list)


def _number(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"{words} {value}"


def _of_all_phases(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The counts of a run's phases side by side, without their details."""
    phases = [phase for phase in (counts or {}).values() if isinstance(phase, dict)]
    return {name: value for phase in phases for name, value in phase.items() if not isinstance(value, dict | list)}


def _duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"  # noqa: PLR2004 - a second


def moment_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
