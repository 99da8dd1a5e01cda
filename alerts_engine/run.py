"""One run: A → B → D → C under their locks, recorded, stoppable, and reported (SPEC sections 3, 10, 13 and 14)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog

from alerts_engine.database import database_now
from alerts_engine.errors import AlertsEngineError, DatabaseError, SchemaError, SettingsError
from alerts_engine.locks import dry_run_lock, phase_lock
from alerts_engine.phases.build_digests import DigestCounts, build_digests
from alerts_engine.phases.context import PhaseContext, Transports, renderer_for
from alerts_engine.phases.end_in_time import end_in_time
from alerts_engine.phases.fan_out import FanOutCounts, fan_out
from alerts_engine.phases.generate import GenerateCounts, generate
from alerts_engine.phases.send.counts import SendCounts
from alerts_engine.phases.send.dry_run import list_sendable
from alerts_engine.phases.send.phase import send
from alerts_engine.reports import PhaseReport, PhaseSkip, RunReport, RunStatus, status_of
from alerts_engine.run_record import RunRecord
from alerts_engine.schema import check_migrated
from alerts_engine.session_locks import check_session_locks
from alerts_engine.settings import MOST_ROWS_A_CLAIM
from alerts_engine.tracing import span
from alerts_engine.types import EARLIEST_NOW, LATEST_NOW, MOST_SINCE_HOURS, SINCE_HOURS, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from alerts_engine.database import Database, Session
    from alerts_engine.locks import PhaseLock
    from alerts_engine.phases.context import Progress
    from alerts_engine.phases.counts import PhaseCounts
    from alerts_engine.settings import Settings
    from alerts_engine.types import SendOutcome

log = structlog.get_logger("alerts_engine")

_TIDY_UP_SECONDS = 10.0
"""For phase C to give back what it claimed, once its sends have ended."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run is asked for. Raises :class:`SettingsError` for a number out of range, or a ``now`` without a zone."""

    phase: Phase = Phase.ALL
    dry_run: bool = False
    since_hours: float = SINCE_HOURS
    batch_size: int | None = None
    now: datetime | None = None
    """Another moment to replay; ``None`` is the database's clock."""

    def __post_init__(self) -> None:
        if self.now is not None and self.now.tzinfo is None:
            raise SettingsError("now must have a time zone, such as 2022-02-24T10:00:00+00:00")
        if self.now is not None and not EARLIEST_NOW <= self.now <= LATEST_NOW:
            raise SettingsError(f"now must be between the years {EARLIEST_NOW.year} and {LATEST_NOW.year}")
        if not 0 <= self.since_hours <= MOST_SINCE_HOURS:  # not a number is in no range
            raise SettingsError(f"since_hours must be a number from 0 to {MOST_SINCE_HOURS}")
        if self.batch_size is not None and not 1 <= self.batch_size <= MOST_ROWS_A_CLAIM:
            raise SettingsError(f"batch_size must be a whole number from 1 to {MOST_ROWS_A_CLAIM}")


class _Undo(Exception):  # noqa: N818 - not an error: it ends the dry run's transaction
    """Rolls the dry run back."""


class Run:
    """Owns what lasts as long as the run: its request, stop, deadline, locks, record and transports."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        request: RunRequest,
        *,
        stopping: asyncio.Event,
        progress: Progress,
        pace: float,
        on_outcome: Callable[[SendOutcome], None],
    ) -> None:
        """``stopping`` ends the run early (SPEC CLI-7); the other arguments are those of the engine."""
        self.run_id = uuid4()
        self.stopping = stopping
        self._database = database
        self._settings = settings
        self._request = request
        self._progress = progress
        self._pace = pace
        self._on_outcome = on_outcome
        seconds = settings.max_run_seconds
        self._deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._record = RunRecord(database, settings, self.run_id, dry_run=request.dry_run)
        self._resources = AsyncExitStack()

    async def execute(self) -> RunReport:
        """Do what was requested, and report. A phase's failure is in the report.

        Raises :class:`SchemaError` or :class:`DatabaseUnreachableError` when nothing could be begun, and its kind
        :class:`PoolerError` when a connection pooler does not let the locks hold.
        """
        await self._record.begin()
        if not self._settings.enabled:
            log.info("engine_disabled", variable="ALERTS_V2_ENABLED")
            return await self._record.report(RunStatus.SKIPPED)
        await check_session_locks(self._database)
        await check_migrated(self._database)
        with structlog.contextvars.bound_contextvars(run_id=str(self.run_id)):
            async with self._resources:
                return await self._recorded()

    async def _recorded(self) -> RunReport:
        """The run between the opening and the closing of its record."""
        await self._record.open(self._request.phase)
        status, error = RunStatus.FAILED, "cancelled"
        try:
            await (self._dry_run() if self._request.dry_run else self._perform())
            status = status_of(self._record.phases, stopped=self.stopping.is_set())
            error = "stopped by a signal" if self.stopping.is_set() else ""
        except AlertsEngineError as caught:
            error = self._record.in_words(caught)
            raise
        except Exception as caught:  # a bug; its text may hold what must not be kept
            error = f"unexpected {type(caught).__name__}"
            raise
        finally:
            report = await asyncio.shield(self._record.close(status, error))
        return report

    # --- the phases -------------------------------------------------------------------------------------------------

    async def _perform(self) -> None:
        """Each phase under its lock; one that fails does not keep the next from running (SPEC CLI-5)."""
        for phase in self._request.phase.steps:
            if self.stopping.is_set():
                return
            started_at = await self._record.last_known()
            try:
                async with phase_lock(self._database, phase) as lock:
                    report = await self._run_phase(phase, self._database, lock)
            except AlertsEngineError as error:
                report = self._record.failed(phase, started_at, error, locked=False)
            await self._record.add(report)

    async def _dry_run(self) -> None:
        """The real statements in one transaction that is rolled back (SPEC X-1).

        The locks are kept to the end: the rows that only this transaction sees would make real runs wait.
        """
        async with self._database.session() as session, AsyncExitStack() as locks:
            try:
                async with session.transaction():
                    for phase in self._request.phase.steps:
                        if self.stopping.is_set():
                            break
                        lock = await locks.enter_async_context(dry_run_lock(session, phase))
                        await self._record.add(await self._dry_run_phase(phase, session, lock))
                    raise _Undo
            except _Undo:
                log.debug("dry_run_rolled_back")

    async def _dry_run_phase(self, phase: Phase, session: Session, lock: PhaseLock | None) -> PhaseReport:
        started_at = await self._record.last_known()
        try:
            async with session.transaction():
                return await self._run_phase(phase, session, lock)
        except (DatabaseError, SchemaError) as error:  # the savepoint is gone, the transaction goes on
            return self._record.failed(phase, started_at, error, locked=True)

    async def _run_phase(self, phase: Phase, database: Database | Session, lock: PhaseLock | None) -> PhaseReport:
        started_at = await database_now(self._database)
        if lock is None:
            return PhaseReport.of(phase, started_at, started_at, locked=False, reason=PhaseSkip.LOCK_NOT_ACQUIRED)
        await self._record.enter(phase)
        context = self._context(database, lock, started_at)
        counts, work = await self._work_of(phase, context)
        error = None
        with structlog.contextvars.bound_contextvars(phase=str(phase)), span("phase", phase=phase) as note:
            try:
                await end_in_time(work, context, self._grace_seconds(phase))
            except AlertsEngineError as caught:
                if self._request.dry_run and isinstance(caught, DatabaseError | SchemaError):
                    raise
                error = self._record.in_words(caught)
            note({"failed": error is not None, **counts.as_counts()})
        finished_at = await self._record.last_known(started_at)
        return PhaseReport.of(
            phase, started_at, finished_at, locked=True, counts=counts.as_counts(), typed_counts=counts, error=error
        )

    def _grace_seconds(self, phase: Phase) -> float:
        """How long ``phase`` may take to end once it must; C lets sends finish, and then writes what came of them."""
        grace = self._settings.shutdown_seconds
        return 2 * grace + _TIDY_UP_SECONDS if phase is Phase.C else grace

    def _context(self, database: Database | Session, lock: PhaseLock, started_at: datetime) -> PhaseContext:
        request = self._request
        return PhaseContext(
            database=database,
            settings=self._settings,
            run_id=str(self.run_id),
            now=request.now or started_at,
            replayed_now=request.now,
            dry_run=request.dry_run,
            since_hours=request.since_hours,
            batch_size=request.batch_size,
            lock=lock,
            stopping=self.stopping,
            deadline=self._deadline,
            progress=self._progress,
            pace=self._pace,
            on_outcome=self._on_outcome,
            warnings=self._record.warnings,
        )

    async def _work_of(self, phase: Phase, context: PhaseContext) -> tuple[PhaseCounts, Coroutine[Any, Any, None]]:
        """The phase's empty counts, and the coroutine that does the work and fills them."""
        match phase:
            case Phase.A:
                generated = GenerateCounts()
                return generated, generate(context, generated)
            case Phase.B:
                fanned_out = FanOutCounts()
                return fanned_out, fan_out(context, fanned_out)
            case Phase.D:
                built = DigestCounts()
                return built, build_digests(context, built)
            case Phase.C:
                sent = SendCounts()
                work = list_sendable if context.dry_run else send
                return sent, work(context, sent, await self._open_transports())
            case Phase.ALL:
                raise ValueError("'all' is not one phase")

    async def _open_transports(self) -> Transports:
        """The channels and the renderer; they last as long as the run."""
        from alerts_engine.channels import build_adapters, build_askers, create_session

        # A send must never wait for a connection: that would count against its own timeout.
        session = create_session(connections=self._settings.send_concurrency)
        await self._resources.enter_async_context(session)
        return Transports(
            build_adapters(self._settings, session),
            build_askers(self._settings, session),
            renderer_for(self._settings),
        )
