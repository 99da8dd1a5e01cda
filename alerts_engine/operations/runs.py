"""What ran, when, and what came of it: reading the run history (SPEC O-1)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003

from alerts_engine.errors import NotFoundError
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Database


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of ``alerts_engine_runs``; times are aware, UTC."""

    run_id: UUID
    triggered_by: str
    phase: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    status: str
    counts: dict[str, Any] | None
    """Each phase's counts by its name, once the run has ended; and its ``warnings``, if any."""
    error_summary: str | None
    git_sha: str | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class RecordedPhase:
    """A row of ``alerts_engine_run_items``: one phase of a run."""

    run_id: UUID
    phase: str
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    counts: dict[str, Any] | None
    error_summary: str | None


@dataclass(frozen=True, slots=True)
class RecordedRun(RunRow):
    """A run of the history with its phases; of a run that was killed, those that had ended."""

    items: tuple[RecordedPhase, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may have cost somebody an alert, although the run succeeded (SPEC CLI-6c)."""
        return tuple((self.counts or {}).get("warnings", ()))


recent_runs = statement("runs", "recent_runs", RunRow)
run_by_id = statement("runs", "run_by_id", RunRow)
phases_of_runs = statement("runs", "phases_of_runs", RecordedPhase)


async def newest_runs(database: Database, most: int) -> list[RecordedRun]:
    """The newest runs first."""
    return await _with_phases(database, await database.rows(recent_runs, most=most))


async def recorded_run(database: Database, run_id: UUID) -> RecordedRun:
    """One run. Raises :class:`NotFoundError`."""
    found = await _with_phases(database, await database.rows(run_by_id, run_id=run_id))
    if not found:
        raise NotFoundError(f"there is no run {run_id}: alerts-engine runs lists them")
    return found[0]


async def _with_phases(database: Database, rows: list[RunRow]) -> list[RecordedRun]:
    phases: dict[UUID, list[RecordedPhase]] = {row.run_id: [] for row in rows}
    for phase in await database.rows(phases_of_runs, run_ids=list(phases)):
        phases[phase.run_id].append(phase)
    return [_recorded(row, tuple(phases[row.run_id])) for row in rows]


def _recorded(row: RunRow, items: tuple[RecordedPhase, ...]) -> RecordedRun:
    return RecordedRun(**{column.name: getattr(row, column.name) for column in fields(row)}, items=items)
