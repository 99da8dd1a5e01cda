"""What ran, when, and what came of it: reading the run history (SPEC O-1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003

from alerts_engine.errors import NotFoundError
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Database


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A row of ``alerts_engine_runs``; times are aware, UTC."""

    run_id: UUID
    triggered_by: str
    phase: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    status: str
    counts: dict[str, Any] | None
    error_summary: str | None
    git_sha: str | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class RecordedPhase:
    """A row of ``alerts_engine_run_items``: one phase of a run."""

    phase: str
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    counts: dict[str, Any] | None
    error_summary: str | None


recent_runs = statement("runs", "recent_runs", RecordedRun)
run_by_id = statement("runs", "run_by_id", RecordedRun)
phases_of_run = statement("runs", "phases_of_run", RecordedPhase)


async def newest_runs(database: Database, most: int) -> list[RecordedRun]:
    """The newest runs first."""
    return await database.rows(recent_runs, most=most)


async def run_with_phases(database: Database, run_id: UUID) -> tuple[RecordedRun, list[RecordedPhase]]:
    """One run and its phases. Raises :class:`NotFoundError`."""
    found = await database.rows(run_by_id, run_id=run_id)
    if not found:
        raise NotFoundError(f"there is no run {run_id}: alerts-engine runs lists them")
    return found[0], await database.rows(phases_of_run, run_id=run_id)
