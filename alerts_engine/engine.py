"""The orchestrator: a pool, A → B → D → C under their locks, and the run's record (SPEC section 3, 10, 13, 14)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

import structlog

from alerts_engine import runs
from alerts_engine.database import Database, connect
from alerts_engine.errors import AlertsEngineError, DatabaseError, SchemaError, SettingsError
from alerts_engine.locks import PhaseLock, phase_lock
from alerts_engine.logs import Redaction
from alerts_engine.phases.build_digests import DigestCounts, build_digests
from alerts_engine.phases.context import (
    CHAT_INTERVAL_SECONDS,
    PhaseContext,
    Progress,
    Transports,
    no_progress,
    renderer_for,
)
from alerts_engine.phases.fan_out import FanOutCounts, fan_out
from alerts_engine.phases.generate import GenerateCounts, generate, publish_event
from alerts_engine.phases.send.counts import SendCounts
from alerts_engine.phases.send.phase import list_sendable, send
from alerts_engine.settings import Settings, load_settings
from alerts_engine.types import SINCE_HOURS, Phase

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from alerts_engine.database import Session
    from alerts_engine.operations.explain import Explanation
    from alerts_engine.phases.new_event import NewEvent

log = structlog.get_logger("alerts_engine")


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What one phase of a run came to (SPEC CLI-4)."""

    phase: Phase
    status: str
    locked: bool
    skipped: bool
    reason: str | None
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    counts: dict[str, Any]
    error: str | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to; :meth:`as_json` is the JSON of ``run --json`` (SPEC CLI-4)."""

    run_id: str
    status: str
    dry_run: bool
    triggered_by: str
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    phases: tuple[PhaseReport, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in ISO 8601."""
        plain = asdict(self) | {"phases": [_with_iso_times(asdict(phase)) for phase in self.phases]}
        return _with_iso_times(plain)

    @property
    def error(self) -> str | None:
        """The errors of all phases, or ``None``."""
        errors = [f"phase {phase.phase}: {phase.error}" for phase in self.phases if phase.error]
        return "; ".join(errors) or None


class _Undo(Exception):  # noqa: N818 - not an error: it ends the dry run's transaction
    """Rolls the dry run back."""


@dataclass(slots=True)
class RunRequest:
    """What one call of :meth:`AlertsEngine.run` asks for."""

    run_id: UUID
    phase: Phase
    dry_run: bool
    since_hours: float
    batch_size: int | None
    now: datetime | None
    deadline: float | None
    reports: list[PhaseReport] = field(default_factory=list)


class AlertsEngine:
    """The engine on one database: ``async with AlertsEngine(settings) as engine: await engine.run(Phase.ALL)``."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        progress: Progress = no_progress,
        chat_interval: float = CHAT_INTERVAL_SECONDS,
    ) -> None:
        """``chat_interval``: seconds between two messages to a Telegram chat; 0 only where nobody real reads them."""
        self._chat_interval = chat_interval
        self.settings = settings if settings is not None else load_settings()
        self._progress = progress
        self._stack = AsyncExitStack()
        self._database: Database | None = None
        self._transports: Transports | None = None
        self._stopping = asyncio.Event()
        # A rule's error may quote its file: what is kept and reported is masked like a log line (SPEC O-3).
        self._redaction = Redaction(self.settings.secrets())

    async def __aenter__(self) -> Self:
        if self.settings.database_url is None:
            raise SettingsError("DATABASE_URL is not set: set it, or use --embedded for a PostgreSQL of your own")
        self._database = await self._stack.enter_async_context(connect(self.settings.database_url.get_secret_value()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def database(self) -> Database:
        """The pool; only inside ``async with``."""
        if self._database is None:
            raise AlertsEngineError("the engine is not open: use it in 'async with AlertsEngine(settings) as engine'")
        return self._database

    def request_stop(self) -> None:
        """Stop claiming, finish what is in flight, close the record (SPEC CLI-7). Returns at once."""
        self._stopping.set()

    async def publish(self, event: NewEvent) -> tuple[int, bool]:
        """Insert an application's own event: its id, and whether it is new (SPEC A-7).

        Raises :class:`RuleError` when the event is not one.
        """
        return await publish_event(self.database, event, await runs.database_now(self.database))

    async def explain(self, user_id: int, event_id: int | None = None) -> list[Explanation]:
        """Why this user does or does not get the event, or the ten newest ones, per channel (SPEC B-9).

        Raises :class:`NotFoundError`.
        """
        from alerts_engine.operations.explain import explain

        now = await runs.database_now(self.database)
        return await explain(self.database, self.settings, user_id=user_id, event_id=event_id, now=now)

    async def run(
        self,
        phase: Phase = Phase.ALL,
        *,
        dry_run: bool = False,
        since_hours: float = SINCE_HOURS,
        batch_size: int | None = None,
        now: datetime | None = None,
    ) -> RunReport:
        """Run ``phase`` and report; ``now`` (aware) replays another moment. A phase's failure is in the report.

        Raises :class:`SchemaError` or :class:`DatabaseUnreachableError` when nothing could be begun.
        """
        if now is not None and now.tzinfo is None:
            raise SettingsError("now must have a time zone, such as 2022-02-24T10:00:00+00:00")
        seconds = self.settings.max_run_seconds
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        request = RunRequest(uuid4(), phase, dry_run, since_hours, batch_size, now, deadline)
        started_at = await runs.database_now(self.database)
        if not self.settings.enabled:
            log.info("engine_disabled", variable="ALERTS_V2_ENABLED")
            return await self._report(request, started_at, status="skipped")
        await runs.check_migrated(self.database)
        with structlog.contextvars.bound_contextvars(run_id=str(request.run_id)):
            return await self._recorded(request, started_at)

    async def _recorded(self, request: RunRequest, started_at: datetime) -> RunReport:
        """The run between the opening and the closing of its record."""
        history = runs.History(self.database, request.run_id, self.settings)
        await history.open(request.phase, dry_run=request.dry_run)
        status, error = "failed", "cancelled"
        try:
            if request.dry_run:
                await self._dry_run(request, history)
            else:
                await self._perform(request, history)
            status = _status_of(request.reports, stopped=self._stopping.is_set())
            error = "stopped by a signal" if self._stopping.is_set() else ""
        except AlertsEngineError as caught:
            error = self._redaction.text(str(caught))
            raise
        except Exception as caught:  # a bug; its text may hold what must not be kept
            error = f"unexpected {type(caught).__name__}"
            raise
        finally:
            report = await asyncio.shield(self._close(request, history, started_at, status, error))
        return report

    async def _close(
        self, request: RunRequest, history: runs.History, started_at: datetime, status: str, error: str
    ) -> RunReport:
        report = await self._report(request, started_at, status)
        await history.close(
            status=status,
            duration_ms=report.duration_ms,
            counts={phase.phase: phase.counts for phase in report.phases},
            error_summary=runs.summary(report.error or error or None),
        )
        return report

    async def _report(self, request: RunRequest, started_at: datetime, status: str) -> RunReport:
        try:
            finished_at = await runs.database_now(self.database)
        except AlertsEngineError:
            finished_at = max([started_at, *(report.finished_at for report in request.reports)])
        return RunReport(
            run_id=str(request.run_id),
            status=status,
            dry_run=request.dry_run,
            triggered_by=runs.triggered_by(self.settings),
            started_at=started_at,
            finished_at=finished_at,
            duration_ms=_milliseconds(started_at, finished_at),
            phases=tuple(request.reports),
        )

    async def _perform(self, request: RunRequest, history: runs.History) -> None:
        """Each phase under its lock; one that fails does not keep the next from running (SPEC CLI-5)."""
        for phase in request.phase.steps:
            if self._stopping.is_set():
                return
            started_at = await self._database_now(request)
            try:
                async with phase_lock(self.database, phase) as lock:
                    report = await self._run_phase(request, phase, self.database, lock)
            except AlertsEngineError as error:
                report = _failed(phase, started_at, self._redaction.text(str(error)))
            await self._record(request, history, report)

    async def _dry_run(self, request: RunRequest, history: runs.History) -> None:
        """The dry run: the real statements in one transaction that is rolled back (SPEC X-1).

        The locks are kept to the end: the rows that only this transaction sees would make real runs wait.
        """
        async with AsyncExitStack() as locks, self.database.session() as session:
            try:
                async with session.transaction():
                    for phase in request.phase.steps:
                        if self._stopping.is_set():
                            break
                        lock = await locks.enter_async_context(phase_lock(self.database, phase))
                        await self._record(request, history, await self._dry_run_phase(request, phase, session, lock))
                    raise _Undo
            except _Undo:
                log.debug("dry_run_rolled_back")

    async def _dry_run_phase(
        self, request: RunRequest, phase: Phase, session: Session, lock: PhaseLock | None
    ) -> PhaseReport:
        started_at = await self._database_now(request)
        try:
            async with session.transaction():
                return await self._run_phase(request, phase, session, lock)
        except (DatabaseError, SchemaError) as error:  # the savepoint is gone, the transaction goes on
            return _failed(phase, started_at, self._redaction.text(str(error)), locked=True)

    async def _run_phase(
        self, request: RunRequest, phase: Phase, database: Database | Session, lock: PhaseLock | None
    ) -> PhaseReport:
        started_at = await runs.database_now(self.database)
        if lock is None:
            return PhaseReport(
                phase, "skipped", locked=False, skipped=True, reason="lock_not_acquired",
                started_at=started_at, finished_at=started_at, duration_ms=0, counts={}, error=None,
            )  # fmt: skip
        context = PhaseContext(
            database=database,
            settings=self.settings,
            run_id=str(request.run_id),
            now=request.now or started_at,
            replayed_now=request.now,
            dry_run=request.dry_run,
            since_hours=request.since_hours,
            batch_size=request.batch_size,
            lock=lock,
            stopping=self._stopping,
            deadline=request.deadline,
            progress=self._progress,
            chat_interval=self._chat_interval,
        )
        counts, work = await self._work_of(phase, context)
        error = None
        with structlog.contextvars.bound_contextvars(phase=str(phase)):
            try:
                await work
            except AlertsEngineError as caught:
                if request.dry_run and isinstance(caught, DatabaseError | SchemaError):
                    raise
                error = self._redaction.text(str(caught))
        finished_at = await self._database_now(request, started_at)
        return PhaseReport(
            phase, "failed" if error else "success", locked=True, skipped=False, reason=None,
            started_at=started_at, finished_at=finished_at, duration_ms=_milliseconds(started_at, finished_at),
            counts=_without_none(asdict(counts)), error=error,
        )  # fmt: skip

    async def _work_of(self, phase: Phase, context: PhaseContext) -> tuple[Any, Any]:
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
                transports = await self._open_transports()
                work = list_sendable if context.dry_run else send
                return sent, work(context, sent, transports)
            case Phase.ALL:
                raise ValueError("'all' is not one phase")

    async def _open_transports(self) -> Transports:
        """The channels and the renderer, made at the first need and kept."""
        if self._transports is None:
            from alerts_engine.channels import build_adapters, create_session

            # A send must never wait for a connection: that would count against its own timeout.
            session = create_session(connections=self.settings.send_concurrency)
            await self._stack.enter_async_context(session)
            self._transports = Transports(build_adapters(self.settings, session), renderer_for(self.settings))
        return self._transports

    async def _record(self, request: RunRequest, history: runs.History, report: PhaseReport) -> None:
        """Into the report, the history, and one log line with the counts."""
        request.reports.append(report)
        level = log.error if report.status == "failed" else log.info
        level(
            "phase", phase=report.phase, status=report.status, reason=report.reason, error=report.error, **report.counts
        )
        await history.phase(
            phase=report.phase,
            status=report.status,
            started_at=report.started_at,
            finished_at=report.finished_at,
            duration_ms=report.duration_ms,
            counts=report.counts,
            error_summary=runs.summary(report.error or report.reason),
        )

    async def _database_now(self, request: RunRequest, fallback: datetime | None = None) -> datetime:
        """The database's time; when it does not answer, the last time known."""
        try:
            return await runs.database_now(self.database)
        except AlertsEngineError:
            known = [report.finished_at for report in request.reports]
            if fallback is None and not known:
                raise
            return fallback or known[-1]


def _failed(phase: Phase, moment: datetime, error: str, *, locked: bool = False) -> PhaseReport:
    return PhaseReport(
        phase, "failed", locked=locked, skipped=False, reason=None,
        started_at=moment, finished_at=moment, duration_ms=0, counts={}, error=error,
    )  # fmt: skip


def _status_of(reports: list[PhaseReport], *, stopped: bool) -> str:
    statuses = {report.status for report in reports}
    if stopped or "failed" in statuses:
        return "failed"
    return "skipped" if statuses == {"skipped"} else "success"


def _milliseconds(start: datetime, end: datetime) -> int:
    return max(0, round((end - start).total_seconds() * 1000))


def _with_iso_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if hasattr(value, "isoformat") else value for key, value in values.items()}


def _without_none(counts: dict[str, Any]) -> dict[str, Any]:
    """Counts as JSON: what only the dry run fills is left out of the others."""
    return {key: value for key, value in counts.items() if value is not None or key == "stop_reason"}
