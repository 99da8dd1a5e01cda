"""What ``run`` and ``runs`` show to people: what each phase did, and what nobody should overlook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.counts import PHASE_NAMES, words_of
from alerts_engine.commands.tables.drawing import Facts, Marked, Table
from alerts_engine.commands.tables.words import duration_text, moment_text
from alerts_engine.reports import PhaseSkip, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.runs import RecordedPhase, RecordedRun
    from alerts_engine.reports import RunReport

_NOTHING = "nothing to do"
_TROUBLES = {
    PhaseSkip.LOCK_NOT_ACQUIRED: "another run holds its lock, and does its work",
    "interrupted": "interrupted: the process was killed, or lost, before the end",
}
WHO = {
    "local": "local",
    "github_actions_schedule": "GitHub, scheduled",
    "github_actions_manual": "GitHub, by hand",
}
_DRY_RUN = "A dry run: nothing was changed, and nothing was sent."


def run_blocks(report: RunReport) -> Iterator[Block]:
    """A run that has just ended: a row per phase."""
    rows = [
        phase_row(one.phase, one.status, one.duration_ms, one.counts, one.error or one.reason) for one in report.phases
    ]
    summary = f"{report.status} in {duration_text(report.duration_ms)}"
    yield phases_table(f"run {report.run_id}", rows, summary, dry_run=report.dry_run)
    yield from _warnings(report.warnings)


def recorded_run_blocks(run: RecordedRun) -> Iterator[Block]:
    """A run from the history: what is known of it, and a row per phase."""
    yield Facts(f"run {run.run_id}", list(_facts_of(run)))
    rows = [phase_row(one.phase, one.status, one.duration_ms, one.counts, one.error_summary) for one in run.items]
    yield phases_table("", rows, "", dry_run=run.dry_run)
    yield from _warnings(run.warnings)


def runs_table(runs: Sequence[RecordedRun]) -> Table:
    """The run history, in the order given."""
    rows = [
        (
            f"{moment_text(run.started_at)}\n{_who(run)}",
            run.phase,
            f"{run.status}\n{duration_text(run.duration_ms)}",
            "\n".join([*_in_short(run), str(run.run_id)]),
        )
        for run in runs
    ]
    columns = ("started (UTC)", "phase", "status", "what it did")
    caption = "alerts-engine runs show ID has the details of one." if rows else ""
    return Table("", columns, rows, caption, "There are no runs yet.")


def phases_table(title: str, rows: Sequence[Sequence[str]], caption: str, *, dry_run: bool = False) -> Table:
    """A row per phase, as :func:`phase_row` makes it."""
    lines = [_DRY_RUN] if dry_run else []
    lines += [caption] if caption else []
    what = "what it would do" if dry_run else "what it did"
    return Table(title, ("phase", "status", "took", what), rows, "\n".join(lines), "No phase of it has ended.")


def phase_row(
    phase: str, status: str, duration_ms: int | None, counts: Mapping[str, Any] | None, trouble: str | None
) -> tuple[str, str, str, str]:
    """One phase: its name, its status, how long it took, and what it did with all details."""
    words = words_of(phase, counts)
    said = [*words.done, *words.details, *([trouble_text(trouble)] if trouble else [])]
    name = f"{phase} {PHASE_NAMES[phase]}" if phase in PHASE_NAMES else phase
    return name, status, duration_text(duration_ms), "\n".join(said or [_NOTHING])


def _facts_of(run: RecordedRun) -> Iterator[tuple[str, str]]:
    yield "status", run.status
    if run.error_summary:
        yield "because", trouble_text(run.error_summary)
    yield "phase", f"{run.phase}, a dry run" if run.dry_run else run.phase
    yield "started", f"{moment_text(run.started_at)} UTC, {WHO.get(run.triggered_by, run.triggered_by)}"
    if run.host is not None:
        yield "host", f"{run.host}, process {run.pid}"
    if run.at_phase is not None:
        yield ("holds" if run.status == RunStatus.RUNNING else "was in"), f"phase {run.at_phase}"
    if run.finished_at is not None:
        yield "finished", f"{moment_text(run.finished_at)} UTC"
    if run.duration_ms is not None:
        yield "took", duration_text(run.duration_ms)
    if run.git_sha:
        yield "commit", run.git_sha


def _in_short(run: RecordedRun) -> Iterator[str]:
    """What a run did, would have done, or is at; why it failed, and what to beware of."""
    did = [words for phase, counts in _counts_of(run) for words in words_of(phase, counts).done]
    if run.status == RunStatus.RUNNING:
        yield running_text(run)
        yield from [f"so far: {'; '.join(did)}"] if did else []
    elif did:
        yield f"{'dry run: ' if run.dry_run else ''}{'; '.join(did)}"
    yield from (f"{phase.phase} skipped: {trouble_text(phase.error_summary)}" for phase in _skipped(run))
    if run.error_summary:
        yield trouble_text(run.error_summary)
    elif run.status != RunStatus.RUNNING and not did and not _skipped(run):
        yield _NOTHING
    yield from (f"! {warning}" for warning in run.warnings)


def running_text(run: RecordedRun) -> str:
    """Since when, where, and what it holds."""
    where = "" if run.host is None else f" on host {run.host}, process {run.pid}"
    holds = "" if run.at_phase is None else f", holds phase {run.at_phase}"
    return f"running since {moment_text(run.started_at)} UTC{where}{holds}"


def _counts_of(run: RecordedRun) -> list[tuple[str, Any]]:
    """By phase; those of the run itself where its phases could not be written."""
    return [(phase.phase, phase.counts) for phase in run.items] or [
        (phase, (run.counts or {})[phase]) for phase in PHASE_NAMES if phase in (run.counts or {})
    ]


def _skipped(run: RecordedRun) -> list[RecordedPhase]:
    return [phase for phase in run.items if phase.status == RunStatus.SKIPPED]


def _who(run: RecordedRun) -> str:
    return f"{WHO.get(run.triggered_by, run.triggered_by)}{', dry run' if run.dry_run else ''}"


def trouble_text(text: str | None) -> str:
    return _TROUBLES.get(text or "", text or "")


def _warnings(warnings: Sequence[str]) -> Iterator[Block]:
    if warnings:
        yield Marked("warnings", [("!", warning) for warning in warnings])
