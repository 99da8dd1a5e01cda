"""How the engine is: what it did, what waits, and what is wrong (SPEC O-4, O-4a); `diagnosis` judges."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, fields
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - as above

from alerts_engine.channels import channels
from alerts_engine.locks import locked_phases
from alerts_engine.operations.diagnosis import THRESHOLDS, Signs, problems_of, status_of
from alerts_engine.operations.due import longest, oldest_due
from alerts_engine.statements import statement
from alerts_engine.types import SINCE_HOURS, Phase, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alerts_engine.database import Database
    from alerts_engine.operations.diagnosis import HealthStatus, Problem, Thresholds
    from alerts_engine.operations.due import DueState
    from alerts_engine.settings import Settings

# --- rows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    source: str
    channel: str
    kind: str
    outcome: str
    retried: bool
    recent: int | None
    day: int | None
    week: int


@dataclass(frozen=True, slots=True)
class Live:
    source: str
    channel: str
    kind: str
    status: str
    rows: int
    day: int
    week: int


@dataclass(frozen=True, slots=True)
class EventsNotFannedOut:
    waiting: int
    outside_window: int


@dataclass(frozen=True, slots=True)
class UncertainRows:
    channel: str
    rows: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class UnconfiguredRows:
    channel: str
    rows: int


@dataclass(frozen=True, slots=True)
class Housekeeping:
    now: datetime
    oldest_transaction_seconds: float | None
    oldest_prepared_seconds: float | None
    dead_rows: int
    live_rows: int


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run that was no dry run; ``host``, ``pid`` and ``at_phase`` say where it is while it runs."""

    run_id: UUID
    phase: str
    status: str
    triggered_by: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    error_summary: str | None
    host: str | None
    pid: int | None
    at_phase: str | None


@dataclass(frozen=True, slots=True)
class NewestPhase:
    """The newest success, or the newest failure, of a phase."""

    phase: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    error_summary: str | None
    channels_down: dict[str, str] | None


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class OutcomeCounts:
    """Rows by what became of them. ``retried``: those that have ended, after more than one attempt."""

    queued: int = 0
    sending: int = 0
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    retried: int = 0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The answer of ``health`` (SPEC O-4): ``to_json`` makes its JSON.

    What has ended counts in the hour in which it ended (whole hours, so a little more than a day or a week); what is
    ``queued`` or ``sending`` counts by when it was created.
    """

    generated_at: datetime
    status: HealthStatus
    problems: tuple[Problem, ...]
    """What is wrong, the worst first; notes, which make nothing worse, last."""
    deliveries: dict[str, dict[str, dict[str, OutcomeCounts]]]
    """``24h`` and ``7d``, by channel, by kind."""
    digests: dict[str, dict[str, OutcomeCounts]]
    """``24h`` and ``7d``, by channel."""
    oldest_queued_delivery_minutes: float | None
    """Since the oldest row that is due became due."""
    oldest_queued_digest_minutes: float | None
    events_waiting: int
    events_outside_window: int
    last_run: LastRun | None


done_by_hour = statement("health", "done_by_hour", Done)
live_rows = statement("health", "live_rows", Live)
events_not_fanned_out = statement("health", "events_not_fanned_out", EventsNotFannedOut)
uncertain_rows = statement("health", "uncertain_rows", UncertainRows)
unconfigured_rows = statement("health", "unconfigured_rows", UnconfiguredRows)
housekeeping = statement("health", "housekeeping", Housekeeping)
newest_run = statement("health", "newest_run", LastRun)
newest_phases = statement("health", "newest_phases", NewestPhase)

_SPANS = {"24h": "day", "7d": "week"}
_MOST_COUNTED = 10_000
"""Rows beyond that make nothing worse."""
_PHASES = list(Phase.ALL.steps)


@dataclass(frozen=True, slots=True)
class Kept:
    """What PostgreSQL says of itself, and how far its clock is from ours."""

    row: Housekeeping
    apart_seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database says at one moment, before it is judged."""

    now: datetime
    channels: list[str]
    done: list[Done]
    live: list[Live]
    due: list[DueState]
    events: EventsNotFannedOut
    uncertain: list[UncertainRows]
    unconfigured: list[UnconfiguredRows]
    last_run: LastRun | None
    is_locked: bool
    phases: list[NewestPhase]
    kept: Kept


async def health(
    database: Database, settings: Settings, now: datetime, thresholds: Thresholds = THRESHOLDS
) -> HealthReport:
    """How the engine is at ``now``; fast, however many deliveries there have ever been."""
    return judged(await read(database, now), settings, thresholds)


async def read(database: Database, now: datetime) -> Reading:
    """Everything that health and metrics are made of."""
    names = list(channels())
    return Reading(
        now=now,
        channels=names,
        done=await database.rows(done_by_hour, now=now),
        live=await database.rows(live_rows, channels=names, now=now),
        due=await oldest_due(database, names, now),
        events=await database.row(events_not_fanned_out, now=now, since_hours=float(SINCE_HOURS)),
        uncertain=await database.rows(uncertain_rows, channels=names),
        unconfigured=await database.rows(unconfigured_rows, channels=names, now=now, most=_MOST_COUNTED),
        last_run=next(iter(await database.rows(newest_run)), None),
        is_locked=bool(await locked_phases(database)),
        phases=await database.rows(newest_phases, phases=[str(phase) for phase in _PHASES]),
        kept=await _housekeeping(database),
    )


def judged(found: Reading, settings: Settings, thresholds: Thresholds = THRESHOLDS) -> HealthReport:
    """What it means."""
    problems = problems_of(_signs(found, settings), thresholds)
    return HealthReport(
        generated_at=found.now,
        status=status_of(problems),
        problems=problems,
        deliveries={span: _by_channel_and_kind(found.done, found.live, span) for span in _SPANS},
        digests={span: _by_channel(found.done, found.live, span) for span in _SPANS},
        oldest_queued_delivery_minutes=longest(one.delivery_minutes for one in found.due),
        oldest_queued_digest_minutes=longest(one.digest_minutes for one in found.due),
        events_waiting=found.events.waiting,
        events_outside_window=found.events.outside_window,
        last_run=found.last_run,
    )


def _signs(found: Reading, settings: Settings) -> Signs:
    return Signs(
        settings=settings,
        now=found.now,
        recent=_recent(found.done),
        due=found.due,
        events_outside_window=found.events.outside_window,
        uncertain=found.uncertain,
        unconfigured=found.unconfigured,
        sent_lately=frozenset(row.channel for row in found.done if row.outcome == Status.SENT and row.week > 0),
        last_run=found.last_run,
        is_locked=found.is_locked,
        phases=_newest(found.phases),
        housekeeping=found.kept.row,
        clock_apart_seconds=found.kept.apart_seconds,
    )


async def _housekeeping(database: Database) -> Kept:
    """What PostgreSQL says of itself, and how far its clock is from ours, whatever the way between takes."""
    asked = time.time()
    row = await database.row(housekeeping)
    answered = time.time()
    theirs = row.now.timestamp()
    return Kept(row, max(asked - theirs, theirs - answered, 0.0))


def _recent(done: Iterable[Done]) -> Mapping[str, Mapping[str, int]]:
    """Outcomes of this hour and the last one, by channel, deliveries and digests together."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in done:
        counts[row.channel][row.outcome] += row.recent or 0
    return counts


def _newest(phases: Iterable[NewestPhase]) -> dict[str, tuple[NewestPhase, ...]]:
    """By phase, the newest end first."""
    found: dict[str, list[NewestPhase]] = defaultdict(list)
    for one in phases:
        found[one.phase].append(one)
    return {
        name: tuple(sorted(ends, key=lambda one: one.started_at, reverse=True)) for name, ends in sorted(found.items())
    }


def _by_channel_and_kind(done: Iterable[Done], live: Iterable[Live], span: str) -> dict[str, dict[str, OutcomeCounts]]:
    counts: dict[str, dict[str, OutcomeCounts]] = {}
    for row in _of("deliveries", done, live):
        _add(counts.setdefault(row.channel, {}).setdefault(row.kind, OutcomeCounts()), row, span)
    return _without_nothing(counts)


def _without_nothing(counts: dict[str, dict[str, OutcomeCounts]]) -> dict[str, dict[str, OutcomeCounts]]:
    kept = {
        channel: {kind: one for kind, one in sorted(kinds.items()) if one != OutcomeCounts()}
        for channel, kinds in sorted(counts.items())
    }
    return {channel: kinds for channel, kinds in kept.items() if kinds}


def _by_channel(done: Iterable[Done], live: Iterable[Live], span: str) -> dict[str, OutcomeCounts]:
    counts: dict[str, OutcomeCounts] = {}
    for row in _of("digests", done, live):
        _add(counts.setdefault(row.channel, OutcomeCounts()), row, span)
    return {channel: one for channel, one in sorted(counts.items()) if one != OutcomeCounts()}


def _of(source: str, done: Iterable[Done], live: Iterable[Live]) -> list[Done | Live]:
    return [row for rows in (done, live) for row in rows if row.source == source]


_COUNTED = {one.name for one in fields(OutcomeCounts)}


def _add(counts: OutcomeCounts, row: Done | Live, span: str) -> None:
    """A row that is counted by an old version, and was taken up again since, must not make a number negative."""
    number: int = max(getattr(row, _SPANS[span]) or 0, 0)
    outcome = row.outcome if isinstance(row, Done) else row.status
    if outcome in _COUNTED:
        setattr(counts, outcome, getattr(counts, outcome) + number)
        if isinstance(row, Done) and row.retried:
            counts.retried += number
