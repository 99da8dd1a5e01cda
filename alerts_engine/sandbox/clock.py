"""The sandbox's clock: the real one, until a test moves it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """What time it is for all providers together."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._ahead += seconds

    def now(self) -> datetime:
        """Aware, UTC."""
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    def monotonic(self) -> float:
        """Seconds since some moment; they never go back."""
        return time.monotonic() + self._ahead
