"""What a run came to and what it left in the queue, in one value: for the page that CI shows (SPEC R-4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.channels import channels
from alerts_engine.operations.due import longest, oldest_due
from alerts_engine.phases.one_page import Count
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from datetime import datetime

    from alerts_engine.database import Database
    from alerts_engine.operations.runs import RecordedRun
    from alerts_engine.reports import RunReport
    from alerts_engine.types import Phase


@dataclass(frozen=True, slots=True)
class QueueState:
    """What waits now. The minutes are since a row became due; ``None`` where none is due."""

    oldest_delivery_minutes: float | None
    oldest_digest_minutes: float | None
    digests_queued: int


@dataclass(frozen=True, slots=True)
class PhaseSummary:
    """One phase; ``trouble`` is its error, or why it was skipped."""

    phase: str
    status: str
    duration_ms: int | None
    counts: dict[str, Any]
    trouble: str | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run that has just ended, or one of the history."""

    run_id: str
    status: str
    phase: str
    dry_run: bool
    triggered_by: str
    started_at: datetime
    duration_ms: int | None
    git_sha: str | None
    error: str | None
    """Why the run failed, where no phase says it, such as “interrupted”."""
    phases: tuple[PhaseSummary, ...]
    warnings: tuple[str, ...]
    queue: QueueState | None
    """``None`` where the database could not be asked."""


digests_queued = statement("summary", "digests_queued", Count)


async def queue_state(database: Database, now: datetime) -> QueueState:
    """What waits, on every channel that there is."""
    names = list(channels())
    due = await oldest_due(database, names, now)
    waiting = await database.row(digests_queued, channels=names)
    return QueueState(
        longest(one.delivery_minutes for one in due), longest(one.digest_minutes for one in due), waiting.count
    )


def summary_of_report(report: RunReport, phase: Phase, git_sha: str | None, queue: QueueState | None) -> RunSummary:
    """The summary of a run of ``phase`` that has just ended."""
    phases = tuple(
        PhaseSummary(one.phase, one.status, one.duration_ms, one.counts, one.error or one.reason)
        for one in report.phases
    )
    return RunSummary(
        run_id=report.run_id, status=report.status, phase=phase, dry_run=report.dry_run,
        triggered_by=report.triggered_by, started_at=report.started_at, duration_ms=report.duration_ms,
        git_sha=git_sha, error=None, phases=phases, warnings=report.warnings, queue=queue,
    )  # fmt: skip


def summary_of_record(run: RecordedRun, queue: QueueState | None) -> RunSummary:
    """The summary of a run of the history."""
    phases = tuple(
        PhaseSummary(one.phase, one.status, one.duration_ms, one.counts or {}, one.error_summary) for one in run.items
    )
    said = any(phase.trouble for phase in phases)
    return RunSummary(
        run_id=str(run.run_id), status=run.status, phase=run.phase, dry_run=run.dry_run,
        triggered_by=run.triggered_by, started_at=run.started_at, duration_ms=run.duration_ms,
        git_sha=run.git_sha, error=None if said else run.error_summary, phases=phases, warnings=run.warnings,
        queue=queue,
    )  # fmt: skip
