"""What ``run`` and ``runs`` show on a terminal. rich is imported when it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from alerts_engine.commands.tables.counts import counts_text, of_all_phases
from alerts_engine.commands.tables.drawing import duration_text, moment_text, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from alerts_engine.operations.runs import RecordedPhase, RecordedRun
    from alerts_engine.reports import RunReport


def run_table(report: RunReport) -> Table:
    """A run that has just ended: a row per phase."""
    title = f"run {report.run_id}{' (dry run)' if report.dry_run else ''}"
    rows = [
        (
            phase.phase,
            phase.status,
            duration_text(phase.duration_ms),
            counts_text(phase.counts, phase.error or phase.reason),
        )
        for phase in report.phases
    ]
    return phases_table(title, rows, f"{report.status} in {duration_text(report.duration_ms)}")


def recorded_run_table(run: RecordedRun, items: Sequence[RecordedPhase]) -> Table:
    """A run from the history: a row per phase."""
    rows = [(i.phase, i.status, duration_text(i.duration_ms), counts_text(i.counts, i.error_summary)) for i in items]
    caption = f"{run.status}, started {moment_text(run.started_at)} by {run.triggered_by}"
    caption += f", took {duration_text(run.duration_ms)}"
    if run.error_summary:
        caption += f": {run.error_summary}"
    return phases_table(f"run {run.run_id}{' (dry run)' if run.dry_run else ''}", rows, caption)


def runs_table(runs: Sequence[RecordedRun]) -> Table:
    """The run history, in the order given; two lines each, so that an id stays whole on a narrow terminal."""
    rows = [
        (
            f"{moment_text(run.started_at)} {run.triggered_by}{', dry run' if run.dry_run else ''}\n{run.run_id}",
            run.phase,
            run.status,
            duration_text(run.duration_ms),
            counts_text(of_all_phases(run.counts), run.error_summary),
        )
        for run in runs
    ]
    table = table_of("runs", ("started, by, id", "phase", "status", "took", "what"), rows)
    table.columns[0].min_width = len(str(UUID(int=0)))
    return table


def phases_table(title: str, rows: Iterable[tuple[str, str, str, str]], caption: str) -> Table:
    return table_of(title, ("phase", "status", "took", "what"), rows, caption)
