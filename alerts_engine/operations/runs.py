"""What ran, when, and what came of it: reading the run history (SPEC O-1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from alerts_engine.errors import AmbiguousError, NotFoundError
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Database

LAST = "last"
_HEX_DIGITS = 32
_MOST_LISTED = 5


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
    host: str | None
    """Where it runs, or ran; ``None`` of a run of an older version."""
    pid: int | None
    at_phase: str | None
    """The phase that it is in, while it runs; of an interrupted run the one that it was in."""


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
runs_between = statement("runs", "runs_between", RunRow)
phases_of_runs = statement("runs", "phases_of_runs", RecordedPhase)


async def newest_runs(database: Database, most: int, before: UUID | None = None) -> list[RecordedRun]:
    """The newest runs first; ``before``: the last one of the page before."""
    return await _with_phases(database, await database.rows(recent_runs, most=most, before=before))


async def recorded_run(database: Database, run_id: UUID) -> RecordedRun:
    """One run. Raises :class:`NotFoundError`."""
    found = await _with_phases(database, await database.rows(run_by_id, run_id=run_id))
    if not found:
        raise NotFoundError(f"there is no run {run_id}: alerts-engine runs lists them")
    return found[0]


@dataclass(frozen=True, slots=True)
class RunName:
    """How an operator names a run: by its id, by the first characters of it, or as ``last``."""

    text: str
    first: UUID | None
    """The ids that begin so, from the first to the last; ``None``: the newest run, whatever its id."""
    last: UUID | None

    @classmethod
    def of(cls, text: str) -> RunName:
        """Raises :class:`ValueError` when no id can begin so."""
        if text == LAST:
            return cls(text, None, None)
        digits = text.replace("-", "")
        if not re.fullmatch(rf"[0-9A-Fa-f]{{1,{_HEX_DIGITS}}}", digits):
            raise ValueError
        return cls(text, UUID(digits.ljust(_HEX_DIGITS, "0")), UUID(digits.ljust(_HEX_DIGITS, "f")))


async def named_run(database: Database, name: RunName) -> RecordedRun:
    """The run that ``name`` means. Raises :class:`NotFoundError`, or :class:`AmbiguousError`, which lists the runs."""
    if name.first is None:
        rows = await database.rows(recent_runs, most=1, before=None)
    else:
        rows = await database.rows(runs_between, first=name.first, last=name.last, most=_MOST_LISTED + 1)
    if not rows:
        raise NotFoundError(_no_such_run(name))
    if len(rows) > 1:
        raise AmbiguousError(f"several runs begin with {name.text}: {_listed(rows)}; give more characters")
    return (await _with_phases(database, rows))[0]


def _no_such_run(name: RunName) -> str:
    if name.first is None:
        return "there are no runs yet: alerts-engine run makes the first one"
    return f"there is no run {name.text}: alerts-engine runs lists them"


def _listed(rows: list[RunRow]) -> str:
    listed = ", ".join(str(row.run_id) for row in rows[:_MOST_LISTED])
    return f"{listed} and more" if len(rows) > _MOST_LISTED else listed


async def _with_phases(database: Database, rows: list[RunRow]) -> list[RecordedRun]:
    phases: dict[UUID, list[RecordedPhase]] = {row.run_id: [] for row in rows}
    for phase in await database.rows(phases_of_runs, run_ids=list(phases)):
        phases[phase.run_id].append(phase)
    return [_recorded(row, tuple(phases[row.run_id])) for row in rows]


def _recorded(row: RunRow, items: tuple[RecordedPhase, ...]) -> RecordedRun:
    return RecordedRun(**{column.name: getattr(row, column.name) for column in fields(row)}, items=items)
