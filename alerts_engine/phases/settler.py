"""Writing outcomes in batches while sending goes on (SPEC C-13)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import DatabaseError, DatabaseUnreachableError, PhaseError

if TYPE_CHECKING:
    from datetime import datetime

    from alerts_engine.database import Executor
    from alerts_engine.phases.bell import Bell
    from alerts_engine.phases.queues import Queue
    from alerts_engine.sending.settlement import Settlement

log = structlog.get_logger("alerts_engine.send")

_GATHER_SECONDS = 0.02
"""Outcomes that come within this time are written together."""
_BATCH = 500
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Settled:
    """A row and what to write of it; no ``settlement``: give it back with no attempt spent."""

    queue: Queue
    row_id: int
    settlement: Settlement | None


class Settler:
    """Keeps every outcome until it is written; a write that fails is tried again, and no row is lost from memory."""

    def __init__(self, database: Executor, run_id: str, replayed_now: datetime | None, bell: Bell) -> None:
        self._database = database
        self._run_id = run_id
        self._now = replayed_now
        self._bell = bell
        self._unwritten: list[Settled] = []
        self._news = asyncio.Event()
        self._closing = False
        self._writer = asyncio.create_task(self._write_on())

    def add(self, settled: Settled) -> None:
        """Have this written soon."""
        self._unwritten.append(settled)
        self._news.set()

    @property
    def unwritten(self) -> int:
        """How many outcomes the database does not know yet."""
        return len(self._unwritten)

    def unwritten_ids(self, queue: Queue) -> list[int]:
        """The rows of ``queue`` that must not be claimed again by this run."""
        return [settled.row_id for settled in self._unwritten if settled.queue is queue]

    async def close(self, patience: float) -> None:
        """Write what is left, trying for ``patience`` seconds; raises :class:`PhaseError` when that was not enough."""
        self._closing = True
        self._news.set()
        _, late = await asyncio.wait([self._writer], timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        if self._unwritten:
            raise PhaseError(
                f"{len(self._unwritten)} outcomes could not be written; their rows stay 'sending' until the lease "
                "runs out, and are then treated as ALERTS_UNCERTAIN_SEND says"
            )

    async def _write_on(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while self._unwritten or not self._closing:
            await self._news.wait()
            if not self._closing and len(self._unwritten) < _BATCH:
                await asyncio.sleep(_GATHER_SECONDS)
            self._news.clear()
            try:
                await self._write()
                pause = _FIRST_PAUSE_SECONDS
            except (DatabaseUnreachableError, DatabaseError) as error:
                log.warning("settle_failed", outcomes=len(self._unwritten), error=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            if self._unwritten or self._closing:
                self._news.set()

    async def _write(self) -> None:
        """One batch of one queue and one way of writing; what is written leaves the memory."""
        while self._unwritten:
            first = self._unwritten[0]
            same = [
                s
                for s in self._unwritten
                if s.queue is first.queue and (s.settlement is None) == (first.settlement is None)
            ]
            batch = same[:_BATCH]
            written = await (self._release(batch) if first.settlement is None else self._settle(batch))
            if written < len(batch):
                log.warning("lease_lost", queue=first.queue.name, rows=len(batch) - written)
            gone = set(map(id, batch))
            self._unwritten = [s for s in self._unwritten if id(s) not in gone]
            self._bell.ring()

    async def _settle(self, batch: list[Settled]) -> int:
        outcomes = [(settled.row_id, settled.settlement) for settled in batch if settled.settlement is not None]
        rows = await self._database.rows(
            batch[0].queue.lifecycle.settle,
            run_id=self._run_id,
            now=self._now,
            ids=[row_id for row_id, _ in outcomes],
            statuses=[settlement.status for _, settlement in outcomes],
            attempts=[settlement.attempts for _, settlement in outcomes],
            retry_seconds=[settlement.retry_seconds for _, settlement in outcomes],
            errors=[settlement.error for _, settlement in outcomes],
            failure_kinds=[settlement.failure_kind for _, settlement in outcomes],
            provider_message_ids=[settlement.provider_message_id for _, settlement in outcomes],
        )
        return len(rows)

    async def _release(self, batch: list[Settled]) -> int:
        ids = [settled.row_id for settled in batch]
        return len(await self._database.rows(batch[0].queue.lifecycle.release, run_id=self._run_id, ids=ids))
