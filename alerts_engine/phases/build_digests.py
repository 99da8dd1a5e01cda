"""Phase D: batch queued digest deliveries into digests (SPEC section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from alerts_engine.channels import channels
from alerts_engine.errors import PhaseError
from alerts_engine.phases.counts import PhaseCounts
from alerts_engine.phases.plans import plans_as_json
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext

BATCH = 20_000
_ROUNDS_WITHOUT_PROGRESS = 5
_HORIZON, _FARTHER = timedelta(days=3), 10


@dataclass(frozen=True, slots=True)
class DigestBatch:
    taken: int
    digests_created: int
    digest_items_attached: int
    deliveries_marked_batched: int


@dataclass(slots=True)
class DigestCounts(PhaseCounts):
    """SPEC D-6."""

    digests_created: int = 0
    digest_items_attached: int = 0
    deliveries_marked_batched: int = 0


begin_batch = command("phase_d_build_digests", "begin_batch")
build_batch = statement("phase_d_build_digests", "build_digests", DigestBatch)


async def build_digests(context: PhaseContext, counts: DigestCounts) -> None:
    """Put every queued digest delivery into its window's digest, a batch and a transaction at a time."""
    plans = await plans_as_json(context.database, context.settings)
    in_vain = 0
    while not context.must_stop(counts):
        context.check_lock()
        batch = await _build_batch(context, plans, _HORIZON * _FARTHER**in_vain)
        counts.digests_created += batch.digests_created
        counts.digest_items_attached += batch.digest_items_attached
        counts.deliveries_marked_batched += batch.deliveries_marked_batched
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


async def _build_batch(context: PhaseContext, plans: list[dict[str, object]], horizon: timedelta) -> DigestBatch:
    settings = context.settings
    async with context.database.transaction() as transaction:
        await transaction.run(begin_batch)
        return await transaction.row(
            build_batch,
            now=context.now,
            time_zone=settings.time_zone,
            period=settings.digest_period,
            grace=timedelta(minutes=settings.digest_grace_minutes),
            plans=plans,
            batch=BATCH,
            horizon=horizon,
            channels=[name for name, spec in channels().items() if spec.has_digests],
        )
