"""What alerts say of a value that moved: how far, which way, and which of them belong together (SPEC M-3, M-3a)."""

from __future__ import annotations

from enum import Enum
from math import isfinite, trunc
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from alerts_engine.types import Alert

Shown = TypeVar("Shown")

_CLEAR_MOVE = 1.0
"""Points; what moved less is said to be little changed, by the built-in rules as well."""


class Direction(Enum):
    UP = 1
    DOWN = -1
    LEVEL = 0


def direction(alert: Alert) -> Direction | None:
    """Which way its value went; ``None`` when there is nothing to compare it with."""
    change = _change(alert)
    if change is None:
        return None
    if abs(change) < _CLEAR_MOVE:
        return Direction.LEVEL
    return Direction.UP if change > 0 else Direction.DOWN


def biggest_move(alerts: Iterable[Alert]) -> str | None:
    """``Black Sea oil risk, up 16 points``: the one that moved farthest, the first of several; ``None`` if none did."""
    moved = [alert for alert in alerts if alert.what and direction(alert) in {Direction.UP, Direction.DOWN}]
    if not moved:
        return None
    farthest = max(moved, key=lambda alert: abs(_change(alert) or 0))
    points = _points(farthest)
    way = "up" if direction(farthest) is Direction.UP else "down"
    return f"{farthest.what}, {way} {points} point{'' if points == 1 else 's'}"


def most_telling(ranked: Sequence[tuple[Alert, Shown]]) -> Shown:
    """Of the most severe ones the first that is no value's, which is news; else the one that moved farthest."""
    severest = [one for one in ranked if one[0].severity >= ranked[0][0].severity]
    news = [one for one in severest if direction(one[0]) is None]
    return news[0][1] if news else max(severest, key=lambda one: abs(_change(one[0]) or 0))[1]


def stand_together(ranked: Sequence[tuple[Alert, Shown]]) -> list[tuple[Shown, bool]]:
    """``ranked``, with values of one region that went the same way right after the first of them.

    True marks those that follow the one before.
    """
    groups: dict[object, list[Shown]] = {}
    for place, (alert, shown) in enumerate(ranked):
        way = direction(alert)
        key = (alert.scope_region.casefold(), way) if way is not None and alert.scope_region else place
        groups.setdefault(key, []).append(shown)
    return [(shown, follows > 0) for group in groups.values() for follows, shown in enumerate(group)]


def _change(alert: Alert) -> float | None:
    if alert.value is None or alert.previous is None or not isfinite(alert.value) or not isfinite(alert.previous):
        return None
    change = alert.value - alert.previous
    return change if isfinite(change) else None


def _points(alert: Alert) -> int:
    """As the headline's numbers differ, which are cut, not rounded."""
    return abs(trunc(alert.value or 0) - trunc(alert.previous or 0))
