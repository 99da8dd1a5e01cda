"""How many requests one caller may make in a minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_CALLERS = 10_000
"""Remembered at a time; the one that was quiet for longest is forgotten."""
_MINUTE = 60.0


class Patience:
    """A bucket per caller, which fills up again over a minute."""

    def __init__(self, *, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def has(self, caller: str) -> bool:
        """Whether ``caller`` may make one more request now; it is counted."""
        now = self._clock()
        left, since = self._left.pop(caller, (self._per_minute, now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / _MINUTE)
        may = left >= 1
        self._left[caller] = (left - 1 if may else left, now)
        if len(self._left) > _MOST_CALLERS:
            self._left.popitem(last=False)
        return may
