"""For how long what is due has waited: the one question of health, metrics and a run's summary (SPEC O-4, R-4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from alerts_engine.database import Executor


@dataclass(frozen=True, slots=True)
class DueState:
    """One channel: minutes since its oldest row became due; ``None`` where none is due."""

    channel: str
    delivery_minutes: float | None
    digest_minutes: float | None


due_state = statement("health", "due_state", DueState)


async def oldest_due(database: Executor, channels: list[str], now: datetime) -> list[DueState]:
    """Each of the channels."""
    return await database.rows(due_state, channels=channels, now=now)


def longest(minutes: Iterable[float | None]) -> float | None:
    """The longest of them; ``None`` where nothing is due."""
    return max((one for one in minutes if one is not None), default=None)
