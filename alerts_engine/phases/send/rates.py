"""Rates and paces with a clock that is given (SPEC C-8, C-9). Seconds of any monotonic clock; no waiting in here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_WHOLE = 1e-9
"""Tokens are added up in floating point: so close to a whole one is a whole one."""

_LONG_SEARCH_SECONDS = 0.02
_PAUSE_AFTER_SEARCH = 4
"""Times a long search: at most a fifth of the database's time goes to looking past destinations that rest."""


class TokenBucket:
    """At most ``per_minute`` messages a minute on average, and at most one second's worth at once (at least one).

    In no 60 seconds are more than ``per_minute`` + burst tokens taken. ``None`` is no limit; a pause holds either way.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self._rate = None if per_minute is None else per_minute / 60
        self.burst = math.inf if self._rate is None else max(1.0, self._rate)
        self._clock = clock
        self._tokens = self.burst
        self._filled_at = clock()
        self._paused_until = -math.inf

    def available(self) -> float:
        """How many messages may go out this moment: whole tokens, or infinity."""
        if self._clock() < self._paused_until:
            return 0
        self._fill()
        return self._tokens if math.isinf(self._tokens) else math.floor(self._tokens + _WHOLE)

    def take(self, count: int) -> None:
        """Use up ``count`` of what is available."""
        self._fill()
        self._tokens -= count

    def pause(self, seconds: float) -> None:
        """Let nothing out for this long; a longer pause that runs already stays."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def paused_for(self) -> float:
        """Seconds until the pause ends; 0 when there is none."""
        return max(0.0, self._paused_until - self._clock())

    def wait_for_one(self) -> float:
        """Seconds until a message may go out; 0 when one may now."""
        self._fill()
        missing = 0.0 if self._rate is None else max(0.0, (1 - self._tokens) / self._rate)
        return max(missing, self.paused_for())

    def _fill(self) -> None:
        now = self._clock()
        if self._rate is not None:
            # A clock that went back would take tokens away.
            self._tokens = min(self.burst, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = now


class Pacer:
    """At most one message per ``interval`` seconds to each destination: Telegram's limit per chat."""

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self.interval = interval
        self._clock = clock
        self._ready_at: dict[str, float] = {}

    def sent_to(self, destination: str) -> None:
        """A message goes to ``destination`` now."""
        self._ready_at[destination] = self._clock() + self.interval

    def resting(self) -> list[str]:
        """The destinations that may not be written to this moment."""
        now = self._clock()
        self._ready_at = {name: ready for name, ready in self._ready_at.items() if ready > now}
        return list(self._ready_at)

    def wait_for_one(self) -> float:
        """Seconds until the first of the resting destinations is ready; 0 when none rests."""
        return max(0.0, min(self._ready_at.values(), default=0.0) - self._clock())


class SearchPause:
    """A rest after a claim that had to look far.

    Behind a hundred thousand rows for a few chats that rest, a claim reads all of them (72 ms, measured). It would be
    made again whenever the next chat is ready.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = -math.inf

    def searched(self, seconds: float) -> None:
        """A claim took this long."""
        if seconds > _LONG_SEARCH_SECONDS:
            self._until = self._clock() + _PAUSE_AFTER_SEARCH * seconds

    def left(self) -> float:
        """Seconds until the next claim; 0 when it may be made now."""
        return max(0.0, self._until - self._clock())
