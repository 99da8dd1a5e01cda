"""Phase D, first: instant alerts that crowd upon one user become one message (SPEC D-7)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from alerts_engine.channels import digest_channels
from alerts_engine.errors import ConflictError, StatementTimeoutError
from alerts_engine.phases.context import LOCK_PATIENCE, STATEMENT_PATIENCE
from alerts_engine.phases.portion import Portion
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alerts_engine.phases.context import PhaseContext

log = structlog.get_logger("alerts_engine.build_bundles")

LOOKED_UP_AT_ONCE = 100_000
"""Deliveries. Finding the crowds reads all that is due, so it should not be done for every batch."""
_LARGEST_BATCH = 20_000
_FIRST_BATCH = 1_000
_MOST_TROUBLES = 5
"""Batches that took too long or met others, until the rest goes out one by one."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Deliveries of one user and channel that go as one message."""

    ids: list[int]


@dataclass(frozen=True, slots=True)
class BundleBatch:
    bundles_created: int
    deliveries_bundled: int


begin_batch = command("phase_d_build_digests", "begin_batch")
crowded_deliveries = statement("phase_d_build_digests", "crowded_deliveries", Crowd)
build_batch_of_bundles = statement("phase_d_build_digests", "build_bundles", BundleBatch)


async def build_bundles(context: PhaseContext) -> tuple[int, int]:
    """Bundle what crowds upon one user and channel; how many bundles that makes, of how many deliveries.

    Nothing is lost where this does not succeed: what is in no bundle goes out alone.
    """
    bundling = _Bundling(context)
    if context.settings.bundle_from:
        while crowds := await bundling.find():
            before = bundling.bundles
            await bundling.build(crowds)
            # What is left is held by others: by a sender, who sends it alone, or by whoever deletes its user.
            if bundling.bundles == before or bundling.is_over:
                break
    return bundling.bundles, bundling.deliveries


class _Bundling:
    """Takes crowds, in batches that shrink where they take too long or meet others."""

    def __init__(self, context: PhaseContext) -> None:
        self._context = context
        self._portion = Portion(_FIRST_BATCH)
        self._troubles = 0
        self.bundles = 0
        self.deliveries = 0

    @property
    def is_over(self) -> bool:
        """Whether the phase must end, or too many batches went wrong."""
        return self._context.stop_reason is not None or self._troubles >= _MOST_TROUBLES

    async def find(self) -> list[Crowd]:
        """The next crowds, oldest first."""
        settings = self._context.settings
        self._context.check_lock()
        return await self._context.database.rows(
            crowded_deliveries,
            now=self._context.now,
            bundle_from=settings.bundle_from,
            keep_severity=settings.bundle_keep_severity,
            channels=[name for name in digest_channels() if name not in settings.channels_paused],
            allowlist=self._context.allowlist,
            most=LOOKED_UP_AT_ONCE,
        )

    async def build(self, crowds: Sequence[Crowd]) -> None:
        """Make bundles of them, a batch and a transaction at a time."""
        for ids in self._batches(crowds):
            if self.is_over:
                break
            self._context.check_lock()
            try:
                batch = await self._build(ids)
            except (StatementTimeoutError, ConflictError) as error:
                self._after(error, len(ids))
            else:
                self.bundles += batch.bundles_created
                self.deliveries += batch.deliveries_bundled

    def _batches(self, crowds: Sequence[Crowd]) -> Iterator[list[int]]:
        """Whole crowds, about as many deliveries as the portion of the moment."""
        ids: list[int] = []
        for crowd in crowds:
            ids += crowd.ids
            if len(ids) >= self._portion.of(_LARGEST_BATCH):
                yield ids
                ids = []
        if ids:
            yield ids

    async def _build(self, ids: list[int]) -> BundleBatch:
        clock = asyncio.get_running_loop().time
        async with self._context.database.transaction() as transaction:
            began = clock()
            await transaction.run(begin_batch, lock_patience=LOCK_PATIENCE, patience=STATEMENT_PATIENCE)
            batch = await transaction.row(build_batch_of_bundles, now=self._context.now, ids=ids)
            if not self._context.dry_run:
                await self._portion.adapt(transaction, len(ids), clock() - began)
            return batch

    def _after(self, error: Exception, deliveries: int) -> None:
        self._troubles += 1
        self._portion.shrink(deliveries)
        log.debug("bundles_held_up", deliveries=deliveries, error=str(error))
        if self._troubles == _MOST_TROUBLES:
            self._context.warnings.append(
                f"bundles could not be built ({error}): the alerts that crowd upon one user go out one by one"
            )
