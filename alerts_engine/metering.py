"""Metrics by OpenTelemetry, in a process that uses it (SPEC I-5).

As with spans, its API is never imported here, and no metric holds a destination, a message or the text of an error.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alerts_engine.reports import RunReport
    from alerts_engine.types import SendOutcome

_API = "opentelemetry.metrics"
_SECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class _Instruments:
    outcomes: Any
    run_duration: Any
    phase_duration: Any


@lru_cache(maxsize=1)
def _instruments(api: Any) -> _Instruments:
    meter = api.get_meter("alerts_engine")
    return _Instruments(
        outcomes=meter.create_counter("alerts_engine.outcomes", "{outcome}", "what became of messages"),
        run_duration=meter.create_histogram("alerts_engine.run.duration", "s", "how long a run took"),
        phase_duration=meter.create_histogram("alerts_engine.phase.duration", "s", "how long a phase of a run took"),
    )


def count_outcome(one: SendOutcome) -> None:
    """Count what became of a message, by channel, source and kind of outcome."""
    api = sys.modules.get(_API)
    if api is not None:
        attributes = {"channel": str(one.channel), "source": str(one.source), "outcome": type(one.outcome).__name__}
        _instruments(api).outcomes.add(1, attributes)


def measure_run(report: RunReport) -> None:
    """How long a run and each of its phases took, by status."""
    api = sys.modules.get(_API)
    if api is None:
        return
    instruments = _instruments(api)
    about = {"status": str(report.status), "dry_run": report.dry_run}
    instruments.run_duration.record(report.duration_ms / _SECONDS, about)
    for phase in report.phases:
        about = {"phase": str(phase.phase), "status": str(phase.status)}
        instruments.phase_duration.record(phase.duration_ms / _SECONDS, about)
