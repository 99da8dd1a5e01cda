"""Phase D: batch queued digest deliveries into digests (SPEC section 7)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from alerts_engine.channels import digest_channels
from alerts_engine.errors import ConflictError, PhaseError, StatementTimeoutError
from alerts_engine.phases.build_bundles import begin_batch, build_bundles
from alerts_engine.phases.context import LOCK_PATIENCE, STATEMENT_PATIENCE
from alerts_engine.phases.counts import PhaseCounts
from alerts_engine.phases.plans import plans_as_json
from alerts_engine.phases.portion import Portion
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext

log = structlog.get_logger("alerts_engine.build_digests")

BATCH = 20_000
_FIRST_BATCH = 1_000
"""Nobody knows at first who is beside; without anybody, eight batches later they are full."""
_PARTS = 10
"""A batch that took too long is followed by one of a tenth."""
_ROUNDS_WITHOUT_PROGRESS = 5
_MOST_CONFLICTS = 5
"""In a row, until the phase fails with the last one."""
_HORIZON, _FARTHER = timedelta(days=3), 10
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class DigestBatch:
    taken: int
    digests_created: int
    digest_items_attached: int
    deliveries_marked_batched: int


@dataclass(frozen=True, slots=True)
class UndigestedDelivery:
    id: int


@dataclass(slots=True)
class DigestCounts(PhaseCounts):
    """SPEC D-6."""

    digests_created: int = 0
    digest_items_attached: int = 0
    deliveries_marked_batched: int = 0
    bundles_created: int = 0
    deliveries_bundled: int = 0

    def add(self, batch: DigestBatch) -> None:
        """Count one committed batch."""
        self.digests_created += batch.digests_created
        self.digest_items_attached += batch.digest_items_attached
        self.deliveries_marked_batched += batch.deliveries_marked_batched


end_batches = command("phase_d_build_digests", "end_batches")
first_undigested = statement("phase_d_build_digests", "first_undigested", UndigestedDelivery)
build_batch = statement("phase_d_build_digests", "build_digests", DigestBatch)


async def build_digests(context: PhaseContext, counts: DigestCounts) -> None:
    """Put every queued digest delivery into its window's digest, a batch and a transaction at a time; bundles first.

    Raises :class:`PhaseError` when deliveries stay queued because they took too long or found no open window.
    """
    counts.bundles_created, counts.deliveries_bundled = await build_bundles(context)
    batches = _Batches(context, await plans_as_json(context.database, context.settings))
    in_vain = 0
    while not context.must_stop(counts):
        context.check_lock()
        batch = await batches.next(_HORIZON * _FARTHER**in_vain)
        if batch is None:
            continue
        counts.add(batch)
        context.progress("digests", counts.digest_items_attached, None)
        if batch.taken == 0:
            break
        # A digest that a sender has just begun takes no more items: the next round looks for the next window. It looks
        # farther, too: a replay of the past may find that every window up to now and beyond was sent.
        in_vain = 0 if batch.deliveries_marked_batched else in_vain + 1
        if in_vain == _ROUNDS_WITHOUT_PROGRESS:
            raise PhaseError(
                f"{batch.taken} digest deliveries found no open window and stay queued: look at their digests"
            )
    context.check_lock()
    if context.dry_run:
        await context.database.run(end_batches)
    batches.report()


class _Batches:
    """Takes batches; smaller ones where time runs out, and leaves alone what takes too long even by itself."""

    def __init__(self, context: PhaseContext, plans: list[dict[str, object]]) -> None:
        self._context = context
        self._plans = plans
        self._size = BATCH
        self._portion = Portion(_FIRST_BATCH)
        self._timed_out = 0
        self._conflicts = 0
        self._passed_over: list[int] = []

    async def next(self, horizon: timedelta) -> DigestBatch | None:
        """Build one batch; ``None`` where that took too long or met others, so that the next one is smaller."""
        try:
            batch = await self._build(horizon)
        except StatementTimeoutError:
            await self._make_smaller()
            return None
        except ConflictError as conflict:
            self._after(conflict)
            return None
        self._conflicts = 0
        self._size = min(BATCH, 2 * self._size)
        return batch

    def _after(self, conflict: ConflictError) -> None:
        self._conflicts += 1
        if self._conflicts == _MOST_CONFLICTS:
            raise conflict
        log.debug("batch_held_up", deliveries=self._portion.of(self._size), error=str(conflict))
        self._portion.shrink(self._portion.of(self._size))

    async def _make_smaller(self) -> None:
        self._timed_out += 1
        log.warning("batch_timed_out", patience=STATEMENT_PATIENCE, deliveries=self._size)
        if self._size > 1:
            self._size = max(1, self._size // _PARTS)
            return
        for delivery in await self._context.database.rows(
            first_undigested, channels=digest_channels(), passed_over=self._passed_over
        ):
            log.error("delivery_set_aside", delivery=delivery.id, patience=STATEMENT_PATIENCE)
            self._passed_over.append(delivery.id)

    async def _build(self, horizon: timedelta) -> DigestBatch:
        settings, clock = self._context.settings, asyncio.get_running_loop().time
        async with self._context.database.transaction() as transaction:
            began = clock()
            await transaction.run(begin_batch, lock_patience=LOCK_PATIENCE, patience=STATEMENT_PATIENCE)
            batch = await transaction.row(
                build_batch,
                now=self._context.now,
                time_zone=settings.time_zone,
                period=settings.digest_period,
                grace=timedelta(minutes=settings.digest_grace_minutes),
                plans=self._plans,
                batch=self._portion.of(self._size),
                horizon=horizon,
                channels=digest_channels(),
                passed_over=self._passed_over,
            )
            if batch.taken and not self._context.dry_run:
                await self._portion.adapt(transaction, batch.taken, clock() - began)
            return batch

    def report(self) -> None:
        """Say what took too long."""
        if self._timed_out:
            self._context.warnings.append(
                f"building digests took longer than {STATEMENT_PATIENCE} for {self._timed_out} batch(es), and went on "
                "in smaller ones: the log names them as batch_timed_out"
            )
        if self._passed_over:
            named = ", ".join(map(str, self._passed_over[:_MOST_NAMED]))
            raise PhaseError(
                f"{len(self._passed_over)} digest deliveries took longer than {STATEMENT_PATIENCE} even alone, and "
                f"stay queued: {named}"
            )
