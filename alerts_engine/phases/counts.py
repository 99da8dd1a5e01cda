"""What every phase counts, beside its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alerts_engine.types import StopReason


@dataclass(slots=True)
class PhaseCounts:
    """Counts of a phase; they are filled while it works, so that an error leaves those of what was done."""

    stopped_early: bool = False
    """More could have been done."""
    stop_reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """The phase begins nothing more, although there may be more to do; the first reason stands."""
        self.stopped_early = True
        self.stop_reason = self.stop_reason or reason

    def as_counts(self) -> dict[str, Any]:
        """By the names of the specification; what only a dry run fills is left out of the others."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        last = {"stopped_early": own.pop("stopped_early"), "stop_reason": own.pop("stop_reason", None)}
        return own | last
