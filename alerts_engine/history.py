"""Writing the run history: what runs, and what came of it (SPEC O-1, O-2). History never stops a run."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from alerts_engine.errors import AlertsEngineError, LockTimeoutError, StatementTimeoutError
from alerts_engine.locks import locked_phases
from alerts_engine.statements import command

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from alerts_engine.database import Database
    from alerts_engine.reports import PhaseReport, RunReport
    from alerts_engine.settings import Settings
    from alerts_engine.types import Phase

log = structlog.get_logger("alerts_engine.history")

LONGEST_SUMMARY = 2000
_LONGEST_HOST = 255
_MOST_WAITS = 2
"""A history that let a run wait so often in vain is left alone until the run's end: alerts must not wait for it."""

open_run = command("runs", "open_run")
enter_phase = command("runs", "enter_phase")
record_phase = command("runs", "record_phase")
close_run = command("runs", "close_run")
close_interrupted = command("runs", "close_interrupted")


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
        self._waits = 0

    async def open(self, phase: Phase, *, dry_run: bool) -> None:
        """The run begins; runs whose process is gone are closed on the way."""
        await self._or_warn("close_interrupted", self._close_interrupted())
        opening = self._database.run(
            open_run,
            run_id=self._run_id,
            triggered_by=triggered_by(self._settings),
            phase=phase,
            git_sha=self._settings.github_sha,
            dry_run=dry_run,
            host=socket.gethostname()[:_LONGEST_HOST],
            pid=os.getpid(),
        )
        await self._or_warn("open_run", opening)

    async def enter(self, phase: Phase) -> None:
        """The run has the lock of a phase, and begins it."""
        await self._or_warn("enter_phase", self._database.run(enter_phase, run_id=self._run_id, phase=phase))

    async def phase(self, report: PhaseReport) -> None:
        """One phase has ended."""
        recording = self._database.run(
            record_phase,
            run_id=self._run_id,
            phase=report.phase,
            status=report.status,
            started_at=report.started_at,
            finished_at=report.finished_at,
            duration_ms=report.duration_ms,
            counts=report.counts,
            error_summary=_summary(report.error or report.reason),
        )
        await self._or_warn("record_phase", recording)

    async def close(self, report: RunReport, error: str) -> None:
        """The run has ended; ``error`` says why where no phase does."""
        closing = self._database.run(
            close_run,
            run_id=self._run_id,
            status=report.status,
            duration_ms=report.duration_ms,
            counts=_counts(report),
            error_summary=_summary(report.error or error or None),
        )
        self._waits = 0
        await self._or_warn("close_run", closing)

    async def _or_warn(self, what: str, writing: Coroutine[Any, Any, None]) -> None:
        if self._waits >= _MOST_WAITS:
            writing.close()
            return
        try:
            await writing
        except AlertsEngineError as error:
            self._waits += isinstance(error, LockTimeoutError | StatementTimeoutError)
            log.warning("history_not_written", what=what, error=str(error))

    async def _close_interrupted(self) -> None:
        lease = timedelta(seconds=self._settings.send_lease_seconds)
        locked = [str(phase) for phase in await locked_phases(self._database)]
        await self._database.run(close_interrupted, lease=lease, locked_phases=locked)


def _counts(report: RunReport) -> dict[str, Any]:
    """Each phase's counts by its name, and beside them what the run warned of (SPEC CLI-6c)."""
    warnings = {"warnings": list(report.warnings)} if report.warnings else {}
    return {phase.phase: phase.counts for phase in report.phases} | warnings


def _summary(text: str | None) -> str | None:
    """An error text as history keeps it (SPEC O-1)."""
    return None if text is None else text[:LONGEST_SUMMARY]
