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
_LONG_SECONDS, _FEWEST_FOR_TIME = 0.25, 200
"""An application's transaction may meet two of ours, one after the other, and is not to wait for half a second. Fewer
than these would cost more than they spare."""


@dataclass(frozen=True, slots=True)
class Waiters:
    count: int


waiters = statement("locks", "waiters", Waiters)


@dataclass(slots=True)
class Portion:
    """The most users or deliveries that are taken at once.

    It shrinks fast once somebody waited or was in the way, and grows slowly otherwise, as a sender does on a crowded
    network. So beside an application that deletes users all the while about one transaction in five is waited for,
    whatever the number of users. And none is to take long, since who comes at its beginning waits for its end.
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

    async def adapt(self, transaction: Session, taken: int, seconds: float) -> None:
        """Shrink or grow, before the ``transaction`` is committed that took ``seconds`` for what was ``taken``."""
        self.after((await transaction.row(waiters)).count, taken, seconds)

    def after(self, waiting: int, taken: int, seconds: float) -> None:
        """Shrink or grow after a transaction for which ``waiting`` others had to wait."""
        if waiting:
            self.shrink(taken)
        elif seconds <= _LONG_SECONDS:
            self.grow()
        elif self.size > _FEWEST_FOR_TIME:
            self.size = max(_FEWEST_FOR_TIME, min(self.size, taken * _LONG_SECONDS / seconds))
