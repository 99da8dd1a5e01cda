"""What a run came to while it goes on and at its end: for its report, the history and the log (SPEC O-1, CLI-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from alerts_engine import history
from alerts_engine.database import database_now
from alerts_engine.errors import AlertsEngineError
from alerts_engine.masking import Redaction
from alerts_engine.reports import PhaseReport, RunReport, RunStatus, milliseconds
from alerts_engine.run_warnings import warnings_of

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from alerts_engine.database import Database
    from alerts_engine.settings import Settings
    from alerts_engine.types import Phase

log = structlog.get_logger("alerts_engine")


class RunRecord:
    """One run's phases and warnings so far; its times are the database's."""

    def __init__(self, database: Database, settings: Settings, run_id: UUID, *, dry_run: bool) -> None:
        self.phases: list[PhaseReport] = []
        self.warnings: list[str] = []
        """What the phases warn of, besides what follows from their reports."""
        self._database = database
        self._settings = settings
        self._run_id = run_id
        self._dry_run = dry_run
        self._history = history.History(database, run_id, settings)
        # A rule's error may quote its file: what is kept and reported is masked like a log line (SPEC O-3).
        self._redaction = Redaction(settings.secrets())

    async def begin(self) -> None:
        """The run's time begins, before it is known whether there is anything to do."""
        self._started_at = await database_now(self._database)

    async def open(self, requested: Phase) -> None:
        """There is: the history has it from now on."""
        await self._history.open(requested, dry_run=self._dry_run)

    async def enter(self, phase: Phase) -> None:
        """The run has the lock of ``phase``, and begins it."""
        await self._history.enter(phase)

    async def add(self, report: PhaseReport) -> None:
        """A phase has ended: into the run's report, the history, and one log line with the counts."""
        self.phases.append(report)
        level = log.error if report.status is RunStatus.FAILED else log.info
        level(
            "phase", phase=report.phase, status=report.status, reason=report.reason, error=report.error, **report.counts
        )
        await self._history.phase(report)

    async def close(self, status: RunStatus, error: str) -> RunReport:
        """The run has ended; ``error`` says why where no phase does."""
        report = await self.report(status)
        await self._history.close(report, error)
        return report

    async def report(self, status: RunStatus) -> RunReport:
        """The run's report as of now."""
        try:
            finished_at = await database_now(self._database)
        except AlertsEngineError:
            finished_at = max([self._started_at, *(phase.finished_at for phase in self.phases)])
        return RunReport(
            run_id=str(self._run_id),
            status=status,
            dry_run=self._dry_run,
            triggered_by=history.triggered_by(self._settings),
            started_at=self._started_at,
            finished_at=finished_at,
            duration_ms=milliseconds(self._started_at, finished_at),
            phases=tuple(self.phases),
            warnings=(*warnings_of(self._settings, self.phases), *self.warnings),
        )

    def failed(self, phase: Phase, moment: datetime, error: AlertsEngineError, *, locked: bool) -> PhaseReport:
        """The report of a phase that came to nothing."""
        return PhaseReport.of(phase, moment, moment, locked=locked, error=self.in_words(error))

    def in_words(self, error: AlertsEngineError) -> str:
        """``error`` as it may be kept and shown."""
        return self._redaction.text(str(error))

    async def last_known(self, fallback: datetime | None = None) -> datetime:
        """The database's time; when it does not answer, the last time known."""
        try:
            return await database_now(self._database)
        except AlertsEngineError:
            known = [report.finished_at for report in self.phases]
            if fallback is None and not known:
                raise
            return fallback or known[-1]
