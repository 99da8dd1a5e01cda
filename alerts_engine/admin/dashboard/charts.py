"""Where the bars of the dashboard's drawings stand. Pure: numbers in, rectangles out; the templates draw them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alerts_engine.operations.activity import HOURS_AHEAD, HOURS_BACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from alerts_engine.operations.activity import Activity, PhaseRan

HOURS = HOURS_BACK + HOURS_AHEAD
SLOT, BAR = 20.0, 14.0
HEIGHT = 60.0
WIDTH = HOURS * SLOT
OUTCOMES = ("sent", "skipped", "retry", "uncertain", "failed")
"""From the bottom of a bar to its top."""
_LEAST_HEIGHT, _LEAST_WIDTH = 1.5, 3.0
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Rectangle:
    kind: str
    """An outcome or a status: the class that colours it."""
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One hour of a channel."""

    hour: datetime
    x: float
    counts: tuple[tuple[str, int], ...]
    bars: tuple[Rectangle, ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """A channel's hours: what was done in them, and what becomes due."""

    channel: str
    columns: tuple[Column, ...]
    largest: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A phase that ran, in its lane."""

    phase: str
    status: str
    run_id: str
    started_at: datetime
    duration_ms: int | None
    x: float
    width: float


def strips(activity: Activity) -> tuple[Strip, ...]:
    """A strip for each channel, each to a scale of its own."""
    counts: dict[tuple[str, datetime], dict[str, int]] = {}
    for one in activity.outcomes:
        counts.setdefault((one.channel, one.hour), {})[one.outcome] = one.rows
    for due in activity.due:
        counts.setdefault((due.channel, due.hour), {})["due"] = due.rows
    names = dict.fromkeys((*activity.channels, *(channel for channel, _ in counts)))
    return tuple(_strip(name, activity.since, counts) for name in names)


def _strip(channel: str, since: datetime, counts: dict[tuple[str, datetime], dict[str, int]]) -> Strip:
    hours = [since + number * HOUR for number in range(HOURS)]
    by_hour = [counts.get((channel, hour), {}) for hour in hours]
    largest = max((sum(found.values()) for found in by_hour), default=0)
    columns = (
        Column(hour, number * SLOT, tuple(_in_order(found)), tuple(_stack(number * SLOT, found, largest)))
        for number, (hour, found) in enumerate(zip(hours, by_hour, strict=True))
    )
    return Strip(channel, tuple(columns), largest)


def _in_order(found: dict[str, int]) -> Iterable[tuple[str, int]]:
    return ((kind, found[kind]) for kind in (*OUTCOMES, "due") if found.get(kind))


def _stack(x: float, found: dict[str, int], largest: int) -> Iterable[Rectangle]:
    """Every count is seen, however small it is beside the largest."""
    shown = list(_in_order(found))
    heights = [max(_LEAST_HEIGHT, HEIGHT * rows / largest) for _, rows in shown]
    too_much = max(1.0, sum(heights) / HEIGHT)
    y = HEIGHT
    for (kind, _), height in zip(shown, heights, strict=True):
        y -= height / too_much
        yield Rectangle(kind, x + (SLOT - BAR) / 2, round(y, 2), BAR, round(height / too_much, 2))


def marks(phases: Sequence[PhaseRan], since: datetime, now: datetime) -> dict[str, list[Mark]]:
    """For each lane the phases in it, oldest first, so that the newer one lies on top."""
    lanes: dict[str, list[Mark]] = {phase: [] for phase in "abdc"}
    whole = max((now - since).total_seconds(), 1.0)
    for one in sorted(phases, key=lambda phase: phase.started_at):
        x = WIDTH * (one.started_at - since).total_seconds() / whole
        width = max(_LEAST_WIDTH, WIDTH * (one.duration_ms or 0) / 1000 / whole)
        place = round(min(max(x, 0.0), WIDTH - _LEAST_WIDTH), 2), round(min(width, WIDTH), 2)
        mark = Mark(one.phase, one.status, str(one.run_id), one.started_at, one.duration_ms, *place)
        lanes.setdefault(one.phase, []).append(mark)
    return lanes
