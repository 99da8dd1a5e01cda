"""What went on and what is to come, by the hour: what the dashboard draws (SPEC P-4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - row types are read at run time

from alerts_engine.channels import channels
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Executor

HOURS_BACK, HOURS_AHEAD = 24, 12


@dataclass(frozen=True, slots=True)
class HourOutcome:
    """How many rows of a channel came to an outcome in the hour that began then."""

    hour: datetime
    channel: str
    outcome: str
    rows: int


@dataclass(frozen=True, slots=True)
class HourDue:
    """How many messages of a channel become due in the hour that begins then."""

    channel: str
    hour: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class PhaseRan:
    run_id: UUID
    phase: str
    status: str
    started_at: datetime
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Decided:
    """What the fan-out decided, of every event, user and channel (SPEC B-4, B-8)."""

    events: int
    users_considered: int
    """Of every event and user."""
    plan: int
    preferences: int
    suppressed: int
    missing_destination: int
    quota: int
    instant: int
    digest: int


@dataclass(frozen=True, slots=True)
class Activity:
    """A day back, and half a day ahead."""

    since: datetime
    until: datetime
    channels: tuple[str, ...]
    outcomes: tuple[HourOutcome, ...]
    due: tuple[HourDue, ...]
    phases: tuple[PhaseRan, ...]
    decided: Decided


outcomes_of_hours = statement("activity", "outcomes_of_hours", HourOutcome)
due_in_hours = statement("activity", "due_in_hours", HourDue)
phases_since = statement("activity", "phases_since", PhaseRan)
decided_since = statement("activity", "decided_since", Decided)


async def activity(database: Executor, now: datetime) -> Activity:
    """The hours around ``now``, whole ones."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    since, until = hour - timedelta(hours=HOURS_BACK - 1), hour + timedelta(hours=HOURS_AHEAD)
    names = tuple(channels())
    return Activity(
        since=since,
        until=until,
        channels=names,
        outcomes=tuple(await database.rows(outcomes_of_hours, since=since)),
        due=tuple(await database.rows(due_in_hours, channels=list(names), now=now, until=until)),
        phases=tuple(await database.rows(phases_since, since=since)),
        decided=await database.row(decided_since, since=since),
    )
