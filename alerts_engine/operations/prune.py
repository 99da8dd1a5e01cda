"""Ending the life of what is finished and old, batch by batch, beside everything else that goes on (SPEC K-1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from alerts_engine.channels import channels
from alerts_engine.errors import LockTimeoutError, RuleError, SettingsError, StatementTimeoutError
from alerts_engine.operations.rule_trial import try_rule
from alerts_engine.statements import command, rule_files, statement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from alerts_engine.database import Database, Executor, Session
    from alerts_engine.phases.context import Progress
    from alerts_engine.settings import Settings

log = structlog.get_logger("alerts_engine.prune")

LEAST_AGE, GREATEST_AGE = timedelta(days=7), timedelta(days=36_500)
"""A week is longer than anything looks back by itself: quotas and built-in rules a day, providers' keys hours."""
_LOCK_PATIENCE, _PATIENCE = "100ms", "1s"
_FIRST_PAGE, _LARGEST_PAGE = 1000, 20_000
_QUICK_SECONDS, _SLOW_SECONDS = 0.1, 0.4


@dataclass(frozen=True, slots=True)
class PrunedPage:
    """What one batch came to. ``last_id`` is ``None`` behind the last row; ``old`` counts rows before the limit."""

    last_id: int | None
    old: int
    pruned: int


@dataclass(slots=True)
class Pruned:
    """What was deleted, or would be, and why something was left out."""

    before: datetime
    dry_run: bool
    digests: int = 0
    deliveries: int = 0
    events: int = 0
    runs: int = 0
    stopped: bool = False
    """It was asked to end before it had seen everything; the next time goes on."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Findable:
    """What rules find now, and would create again."""

    fingerprints: list[str]
    cooldown_keys: list[str]


begin_pruning = command("prune", "begin_pruning")
prune_digests = statement("prune", "prune_digests", PrunedPage)
prune_deliveries = statement("prune", "prune_deliveries", PrunedPage)
prune_events = statement("prune", "prune_events", PrunedPage)
prune_runs = statement("prune", "prune_runs", PrunedPage)


class _Undo(Exception):  # noqa: N818 - not an error: it ends the dry run's transaction
    """Rolls the dry run back."""


async def prune(
    database: Database,
    settings: Settings,
    *,
    older_than: timedelta,
    now: datetime,
    dry_run: bool,
    stopping: asyncio.Event,
    progress: Progress,
) -> Pruned:
    """Delete what is finished and was last touched before ``now - older_than``.

    Each batch is a transaction of at most a second; ``stopping`` ends it after the batch under way. A dry run does the
    same in one transaction that is rolled back. Raises :class:`SettingsError` for an age out of range.
    """
    if not LEAST_AGE <= older_than <= GREATEST_AGE:
        raise SettingsError(f"older_than must be from {LEAST_AGE.days} to {GREATEST_AGE.days} days")
    pruned = Pruned(now - older_than, dry_run)
    found = await _findable(database, settings, now, pruned)
    work = _Pruning(pruned, now, found, stopping, progress)
    if not dry_run:
        await work.all(database)
    else:
        try:
            async with database.transaction() as session:
                await work.all(session)
                raise _Undo
        except _Undo:
            pass
    log.info("pruned", **{name: getattr(pruned, name) for name in ("digests", "deliveries", "events", "runs")})
    return pruned


async def _findable(database: Database, settings: Settings, now: datetime, pruned: Pruned) -> _Findable | None:
    """What the rules find at ``now``; ``None`` where one cannot say, so that every event must stay."""
    events = []
    for rule in rule_files(settings.rules_dir):
        try:
            trial = await try_rule(database, rule, now=now, time_zone=settings.time_zone)
        except RuleError as error:
            pruned.warnings = (f"no event was pruned, since a rule cannot say which it would create again: {error}",)
            return None
        events += [tried.event.as_row() for tried in trial.events]
    return _Findable([one["event_fingerprint"] for one in events], [one["cooldown_key"] for one in events])


class _Pruning:
    """One time through all tables."""

    def __init__(
        self, pruned: Pruned, now: datetime, found: _Findable | None, stopping: asyncio.Event, progress: Progress
    ) -> None:
        self._pruned = pruned
        self._now = now
        self._found = found
        self._stopping = stopping
        self._progress = progress

    async def all(self, database: Executor) -> None:
        """Table after table; each goes on where the one before it has made room."""
        for name, batch in self._tables():
            await self._table(database, name, batch)

    def _tables(self) -> Iterator[tuple[str, Callable[[Session, int, int], Awaitable[PrunedPage]]]]:
        yield "digests", self._digests
        yield "deliveries", self._deliveries
        if self._found is not None:
            yield "events", self._events
        yield "runs", self._runs

    async def _table(
        self, database: Executor, name: str, batch: Callable[[Session, int, int], Awaitable[PrunedPage]]
    ) -> None:
        """From the first id on, until a page has no row that is old enough."""
        after: int | None = 0
        most = _FIRST_PAGE
        clock = asyncio.get_running_loop().time
        while after is not None and not self._is_stopped():
            begun = clock()
            try:
                async with database.transaction() as session:
                    await session.run(begin_pruning, lock_patience=_LOCK_PATIENCE, patience=_PATIENCE)
                    page = await batch(session, after, most)
            except (StatementTimeoutError, LockTimeoutError):
                if most == 1:
                    raise
                most = max(1, most // 4)
                continue
            setattr(self._pruned, name, getattr(self._pruned, name) + page.pruned)
            self._progress(name, getattr(self._pruned, name), None)
            after = page.last_id if page.old else None
            most = _next_size(most, clock() - begun)

    def _is_stopped(self) -> bool:
        self._pruned.stopped = self._pruned.stopped or self._stopping.is_set()
        return self._pruned.stopped

    async def _digests(self, session: Session, after: int, most: int) -> PrunedPage:
        return await session.row(prune_digests, after=after, most=most, before=self._pruned.before)

    async def _deliveries(self, session: Session, after: int, most: int) -> PrunedPage:
        return await session.row(
            prune_deliveries,
            after=after,
            most=most,
            before=self._pruned.before,
            now=self._now,
            channels=list(channels()),
        )

    async def _events(self, session: Session, after: int, most: int) -> PrunedPage:
        assert self._found is not None  # noqa: S101 - otherwise its table is left out
        return await session.row(
            prune_events,
            after=after,
            most=most,
            before=self._pruned.before,
            fingerprints=self._found.fingerprints,
            cooldown_keys=self._found.cooldown_keys,
        )

    async def _runs(self, session: Session, after: int, most: int) -> PrunedPage:
        return await session.row(prune_runs, after=after, most=most, before=self._pruned.before)


def _next_size(most: int, seconds: float) -> int:
    """More where a batch was quick, fewer where it was slow."""
    if seconds < _QUICK_SECONDS:
        return min(_LARGEST_PAGE, most * 2)
    return max(1, most // 2) if seconds > _SLOW_SECONDS else most
