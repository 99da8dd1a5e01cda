"""How much one transaction takes on beside an application that waits for what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Session

_SHRINK, _GROW = 4, 1.5
_FIRST, _LARGEST = 5_000, 20_000
"""Nobody knows at first who is beside. A fan-out to ten thousand users is then one pair of pages."""


@dataclass(frozen=True, slots=True)
class Waiters:
    count: int


waiters = statement("locks", "waiters", Waiters)


@dataclass(slots=True)
class Portion:
    """The most users or deliveries that are taken at once.

    It shrinks fast once somebody waited or was in the way, and grows slowly otherwise, as a sender does on a crowded
    network. So beside an application that deletes users all the while about one transaction in five is waited for,
    whatever the number of users.
    """

    size: float = _FIRST

    def of(self, usual: int) -> int:
        """At least one, at most as many as ``usual``."""
        return max(1, min(usual, int(self.size)))

    def shrink(self, taken: int) -> None:
        """So much had been ``taken`` when somebody waited."""
        self.size = max(1.0, taken / _SHRINK)

    def grow(self) -> None:
        """Nobody waited."""
        self.size = min(_LARGEST, self.size * _GROW)

    async def adapt(self, transaction: Session, taken: int) -> None:
        """Shrink or grow, before the ``transaction`` is committed."""
        if (await transaction.row(waiters)).count:
            self.shrink(taken)
        else:
            self.grow()
