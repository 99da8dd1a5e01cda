"""What a run came to, and the one encoder of answers: JSON for the command line, the history and HTTP (SPEC CLI-4)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import Enum, StrEnum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine.types import Phase


Counts = TypeVar("Counts")
_NOT_IN_JSON = {"json": False}
"""For a field that says what another one says."""


class RunStatus(StrEnum):
    """The states of a run and of its phases (SPEC O-1)."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


class PhaseSkip(StrEnum):
    """Why a phase did nothing, although nothing failed (SPEC CLI-4)."""

    LOCK_NOT_ACQUIRED = "lock_not_acquired"


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What one phase of a run came to (SPEC CLI-4)."""

    phase: Phase
    status: RunStatus
    locked: bool
    """Whether this run held the phase's lock."""
    skipped: bool
    reason: PhaseSkip | None
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    counts: dict[str, Any]
    """The phase's counts under the names of the specification, as JSON has them."""
    error: str | None
    typed_counts: object = field(default=None, repr=False, compare=False, metadata=_NOT_IN_JSON)
    """The same counts as a dataclass: see :meth:`RunReport.counts_as`."""

    @classmethod
    def of(
        cls,
        phase: Phase,
        started_at: datetime,
        finished_at: datetime,
        *,
        locked: bool,
        counts: dict[str, Any] | None = None,
        typed_counts: object = None,
        error: str | None = None,
        reason: PhaseSkip | None = None,
    ) -> PhaseReport:
        """The report whose status follows from its ``error`` and ``reason``."""
        status = RunStatus.FAILED if error else RunStatus.SKIPPED if reason else RunStatus.SUCCESS
        duration_ms = milliseconds(started_at, finished_at)
        return cls(
            phase=phase,
            status=status,
            locked=locked,
            skipped=reason is not None,
            reason=reason,
            started_at=started_at,
            finished_at=finished_at,
            duration_ms=duration_ms,
            counts=counts or {},
            error=error,
            typed_counts=typed_counts,
        )


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to; :func:`to_json` makes the JSON of ``run --json`` of it (SPEC CLI-4)."""

    run_id: str
    status: RunStatus
    dry_run: bool
    triggered_by: str
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    phases: tuple[PhaseReport, ...]
    warnings: tuple[str, ...] = ()
    """What may cost somebody an alert, although the run succeeded (SPEC CLI-6c)."""

    def counts_as(self, kind: type[Counts]) -> Counts | None:
        """The counts of one phase with their types; ``None`` where the phase did not run.

        ``kind`` is ``GenerateCounts`` (phase A), ``FanOutCounts`` (B), ``DigestCounts`` (D) or ``SendCounts`` (C).

        >>> report = run(engine.run())
        >>> sent = report.counts_as(SendCounts)
        >>> sent.sent, sent.failed, sent.by_channel["email"].sent
        (1, 0, 1)
        """
        found = (phase.typed_counts for phase in self.phases)
        return next((counts for counts in found if isinstance(counts, kind)), None)

    @property
    def error(self) -> str | None:
        """The errors of all phases, or ``None``."""
        errors = [f"phase {phase.phase}: {phase.error}" for phase in self.phases if phase.error]
        return "; ".join(errors) or None


def status_of(phases: list[PhaseReport], *, stopped: bool) -> RunStatus:
    """The status of a run with these phases; one that was stopped has not done what it was asked for."""
    statuses = {report.status for report in phases}
    if stopped or RunStatus.FAILED in statuses:
        return RunStatus.FAILED
    return RunStatus.SKIPPED if statuses == {RunStatus.SKIPPED} else RunStatus.SUCCESS


def milliseconds(start: datetime, end: datetime) -> int:
    """From ``start`` to ``end``; never negative, also when a clock was set back."""
    return max(0, round((end - start).total_seconds() * 1000))


def to_json(value: Any) -> Any:
    """``value`` as plain JSON values at any depth: dataclasses by their fields, times in ISO 8601, enums by value.

    A dataclass also has the properties that its ``JSON_ALSO`` names. Raises :class:`TypeError` for what has no JSON
    form, such as a secret.
    """
    if is_dataclass(value) and not isinstance(value, type):
        shown = (one.name for one in fields(value) if one.metadata.get("json", True))
        names = (*shown, *getattr(value, "JSON_ALSO", ()))
        return {name: to_json(getattr(value, name)) for name in names}
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    ((NoneType, bool, int, float, str), lambda value: value),
    (datetime, datetime.isoformat),
    ((UUID, Path), str),
    (dict, lambda value: {str(to_json(key)): to_json(item) for key, item in value.items()}),
    ((list, tuple), lambda value: [to_json(item) for item in value]),
)
