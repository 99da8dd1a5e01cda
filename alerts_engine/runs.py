"""The run history: what ran, when, and what came of it (SPEC O-1, O-2). History never stops a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003

import structlog

from alerts_engine.errors import AlertsEngineError, NotFoundError, SchemaError
from alerts_engine.locks import locked_phases
from alerts_engine.statements import command, migration_ids, statement

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from alerts_engine.database import Database
    from alerts_engine.settings import Settings
    from alerts_engine.types import Phase

log = structlog.get_logger("alerts_engine.runs")

LONGEST_SUMMARY = 2000


@dataclass(frozen=True, slots=True)
class Clock:
    now: datetime


@dataclass(frozen=True, slots=True)
class MigrationId:
    migration_id: str


@dataclass(frozen=True, slots=True)
class Run:
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
class RunItem:
    """A row of ``alerts_engine_run_items``: one phase of a run."""

    phase: str
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    counts: dict[str, Any] | None
    error_summary: str | None


clock = statement("runs", "clock", Clock)
migrations_applied = statement("runs", "migrations_applied", MigrationId)
open_run = command("runs", "open_run")
record_phase = command("runs", "record_phase")
close_run = command("runs", "close_run")
close_interrupted = command("runs", "close_interrupted")
recent_runs = statement("runs", "recent_runs", Run)
run_by_id = statement("runs", "run_by_id", Run)
items_of_run = statement("runs", "items_of_run", RunItem)


async def database_now(database: Database) -> datetime:
    """The database's clock (SPEC C-14)."""
    return (await database.row(clock)).now


async def check_migrated(database: Database) -> None:
    """Raise :class:`SchemaError` unless every migration is applied."""
    applied = {row.migration_id for row in await database.rows(migrations_applied)}
    missing = [name for name in migration_ids() if name not in applied]
    if missing:
        raise SchemaError(f"{len(missing)} migration(s) are pending ({missing[0]} …): run alerts-engine migrate")


def triggered_by(settings: Settings) -> str:
    """Who started this run, in the words of SPEC O-1."""
    if not settings.github_actions:
        return "local"
    return "github_actions_schedule" if settings.github_event_name == "schedule" else "github_actions_manual"


class History:
    """Writes one run's record through the pool; a write that fails is a warning and nothing else."""

    def __init__(self, database: Database, run_id: UUID, settings: Settings) -> None:
        self._database = database
        self._run_id = run_id
        self._settings = settings

    async def open(self, phase: Phase, *, dry_run: bool) -> None:
        """The run begins; runs whose process is gone are closed on the way."""
        await _or_warn("close_interrupted", self._close_interrupted())
        opening = self._database.run(
            open_run,
            run_id=self._run_id,
            triggered_by=triggered_by(self._settings),
            phase=phase,
            git_sha=self._settings.github_sha,
            dry_run=dry_run,
        )
        await _or_warn("open_run", opening)

    async def phase(self, **item: Any) -> None:
        """One phase has ended."""
        await _or_warn("record_phase", self._database.run(record_phase, run_id=self._run_id, **item))

    async def close(self, **outcome: Any) -> None:
        """The run has ended."""
        await _or_warn("close_run", self._database.run(close_run, run_id=self._run_id, **outcome))

    async def _close_interrupted(self) -> None:
        lease = timedelta(seconds=self._settings.send_lease_seconds)
        locked = [str(phase) for phase in await locked_phases(self._database)]
        await self._database.run(close_interrupted, lease=lease, locked_phases=locked)


def summary(text: str | None) -> str | None:
    """An error text as history keeps it (SPEC O-1)."""
    return None if text is None else text[:LONGEST_SUMMARY]


async def newest_runs(database: Database, most: int) -> list[Run]:
    """The newest runs first."""
    return await database.rows(recent_runs, most=most)


async def run_with_items(database: Database, run_id: UUID) -> tuple[Run, list[RunItem]]:
    """One run and its phases. Raises :class:`NotFoundError`."""
    found = await database.rows(run_by_id, run_id=run_id)
    if not found:
        raise NotFoundError(f"there is no run {run_id}: alerts-engine runs lists them")
    return found[0], await database.rows(items_of_run, run_id=run_id)


async def _or_warn(what: str, writing: Awaitable[None]) -> None:
    try:
        await writing
    except AlertsEngineError as error:
        log.warning("history_not_written", what=what, error=str(error))
