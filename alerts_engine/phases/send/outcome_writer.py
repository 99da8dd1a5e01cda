"""Writing outcomes in batches while sending goes on (SPEC C-13)."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import AlertsEngineError, DatabaseError, PhaseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from alerts_engine.database import Executor
    from alerts_engine.phases.send.claims import Source
    from alerts_engine.phases.send.row_update import RowUpdate

log = structlog.get_logger("alerts_engine.send")

_GATHER_SECONDS = 0.02
"""Outcomes that come within this time are written together."""
_BATCH = 500
ASK_AFTER = timedelta(seconds=60)
"""From a send's beginning until its provider is asked: nobody documents how long its lists lag (SPEC C-17)."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_ABOUT_A_ROW = ("22", "23", "P0")
"""SQLSTATE classes of what is wrong with a row, not with the database: data, constraints, an application's trigger."""


@dataclass(frozen=True, slots=True)
class PendingOutcome:
    """A row and what to write of it; no ``update``: give it back with no attempt spent."""

    source: Source
    row_id: int
    update: RowUpdate | None
    called: bool
    """Whether the provider was called."""

    @property
    def key(self) -> tuple[str, int]:
        """A row has one outcome at a time."""
        return self.source.name, self.row_id

    def is_written_like(self, other: PendingOutcome) -> bool:
        """Whether one statement can write both."""
        return self.source is other.source and (self.update is None) == (other.update is None)


@dataclass(frozen=True, slots=True)
class OutcomeStatements:
    """How a batch of outcomes of one kind becomes rows."""

    database: Executor
    run_id: str
    replayed_now: datetime | None
    mute: list[str]
    """The providers that recognise no key and cannot be asked."""

    async def write(self, batch: list[PendingOutcome]) -> set[int]:
        """Write them in one statement; the rows that it still held."""
        return await (self._release(batch) if batch[0].update is None else self._settle(batch))

    async def _settle(self, batch: list[PendingOutcome]) -> set[int]:
        outcomes = [(pending.row_id, pending.update) for pending in batch if pending.update is not None]
        rows = await self.database.rows(
            batch[0].source.statements.settle,
            run_id=self.run_id,
            now=self.replayed_now,
            ids=[row_id for row_id, _ in outcomes],
            statuses=[update.status for _, update in outcomes],
            attempts=[update.attempts for _, update in outcomes],
            retry_seconds=[update.retry_seconds for _, update in outcomes],
            errors=[update.error for _, update in outcomes],
            failure_kinds=[update.failure_kind for _, update in outcomes],
            provider_message_ids=[update.provider_message_id for _, update in outcomes],
            uncertain=[update.uncertain for _, update in outcomes],
            key_seconds=[update.key_seconds for _, update in outcomes],
            can_tell=[update.can_tell for _, update in outcomes],
            ask_after=ASK_AFTER,
            called=[pending.called for pending in batch],
        )
        return {row.id for row in rows}

    async def _release(self, batch: list[PendingOutcome]) -> set[int]:
        rows = await self.database.rows(
            batch[0].source.statements.release,
            run_id=self.run_id,
            ids=[pending.row_id for pending in batch],
            mute=self.mute,
            called=[pending.called for pending in batch],
        )
        return {row.id for row in rows}


class OutcomeWriter:
    """Keeps every outcome until it is written: a write that fails is tried again."""

    def __init__(self, statements: OutcomeStatements, on_written: Callable[[], None]) -> None:
        self._statements = statements
        self._on_written = on_written
        self._clock = asyncio.get_running_loop().time
        self._unwritten: dict[tuple[str, int], PendingOutcome] = {}
        self._refused: dict[tuple[str, int], PendingOutcome] = {}
        self._lost: set[tuple[str, int]] = set()
        self._failing_since: float | None = None
        self._news = asyncio.Event()
        self._closing = False
        self._writing = asyncio.create_task(self._write_on())

    # --- what the senders see -----------------------------------------------------------------------------------------

    def add(self, pending: PendingOutcome) -> None:
        """Have this written soon."""
        self._unwritten[pending.key] = pending
        self._news.set()

    @property
    def unwritten(self) -> int:
        """How many outcomes the database does not know yet."""
        return len(self._unwritten)

    @property
    def failing_for(self) -> float:
        """Seconds for which nothing could be written; 0 when the last write went well."""
        return 0.0 if self._failing_since is None else max(self._clock() - self._failing_since, 1e-9)

    def is_giving_back(self, source: Source) -> bool:
        """Whether rows of ``source`` are on their way back to ``queued``."""
        return any(pending.source is source and pending.update is None for pending in self._unwritten.values())

    def set_aside(self, source: Source) -> list[int]:
        """The rows of ``source`` that must not be claimed again by this run: what became of them is not written."""
        kept = (self._unwritten, self._refused, self._lost)
        return [row_id for keys in kept for name, row_id in keys if name == source.name]

    def called(self, source: Source) -> list[int]:
        """The rows of ``source`` whose provider was called, and whose outcome is not written."""
        kept = (*self._unwritten.values(), *self._refused.values())
        return [pending.row_id for pending in kept if pending.source is source and pending.called]

    async def close(self, *, stopping: asyncio.Event, lease_seconds: float, shutdown_seconds: float) -> None:
        """Write what is left; raises :class:`PhaseError` when that cannot be done.

        It is tried for as long as the leases hold, since after that the rows are sent again; after a signal only for
        ``shutdown_seconds``.
        """
        self._unwritten |= self._refused
        self._refused = {}
        self._closing = True
        self._news.set()
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([self._writing, stop], timeout=lease_seconds, return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                await asyncio.wait([self._writing], timeout=shutdown_seconds)
        finally:
            stop.cancel()
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        if self._unwritten or self._refused:
            raise PhaseError(
                f"{len(self._unwritten) + len(self._refused)} outcomes could not be written; their rows stay 'sending' "
                "until the lease runs out, and are then treated as ALERTS_UNCERTAIN_SEND says"
            )

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _write_on(self) -> None:
        """Write whatever comes, until all is written and the writer is closing."""
        pause = _FIRST_PAUSE_SECONDS
        while not (self._closing and not self._unwritten):
            await self._news.wait()
            if not self._closing and len(self._unwritten) < _BATCH:
                await asyncio.sleep(_GATHER_SECONDS)
            self._news.clear()
            try:
                await self._write_all()
            except Exception as error:  # noqa: BLE001 - an outcome is not given up for any reason
                self._note_failure(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                self._news.set()
            else:
                self._failing_since = None
                pause = _FIRST_PAUSE_SECONDS
                self._on_written()

    def _note_failure(self, error: Exception) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock()
        text = str(error) if isinstance(error, AlertsEngineError) else type(error).__name__
        log.warning("settle_failed", outcomes=len(self._unwritten), error=text)

    async def _write_all(self) -> None:
        while self._unwritten:
            first = next(iter(self._unwritten.values()))
            alike = (pending for pending in self._unwritten.values() if pending.is_written_like(first))
            await self._write(list(islice(alike, _BATCH)))

    async def _write(self, batch: list[PendingOutcome]) -> None:
        """One batch in one statement; what is written leaves the memory."""
        try:
            written = await self._statements.write(batch)
        except DatabaseError as error:
            if not (error.sqlstate or "").startswith(_ABOUT_A_ROW):
                raise
            await self._write_apart(batch, error)
            return
        for pending in batch:
            del self._unwritten[pending.key]
        lost = {pending.key for pending in batch if pending.row_id not in written}
        if lost:
            log.warning("lease_lost", source=batch[0].source.name, rows=len(lost))
            self._lost |= lost

    async def _write_apart(self, batch: list[PendingOutcome], error: DatabaseError) -> None:
        """One row that the database refuses must not keep the others from being written (SPEC C-5)."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
            return
        (pending,) = batch
        log.error("outcome_refused", source=pending.source.name, row=pending.row_id, error=str(error))
        self._refused[pending.key] = self._unwritten.pop(pending.key)
