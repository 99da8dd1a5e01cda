"""What ``health`` shows to people: the status, what is wrong and what helps, then the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Facts, Marked, Table
from alerts_engine.commands.tables.words import age_text, duration_text, many, moment_text
from alerts_engine.operations.diagnosis import HealthStatus, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.diagnosis import Problem
    from alerts_engine.operations.health import HealthReport, LastRun, OutcomeCounts

_STATUS = {
    HealthStatus.OK: ("✓", "ok: alerts go out"),
    HealthStatus.DEGRADED: ("!", "degraded: it works, but somebody should look at it"),
    HealthStatus.FAILING: ("✗", "failing: alerts do not go out as they should"),
}
_MARKS = {Severity.FAILING: "✗", Severity.DEGRADED: "!", Severity.NOTE: "·"}
_COLUMNS = ("queued", "sending", "sent", "failed", "skipped", "retried")


def health_blocks(report: HealthReport) -> Iterator[Block]:
    """What is wrong first."""
    mark, words = _STATUS[report.status]
    yield Marked("", [(mark, words)])
    if report.problems:
        yield Marked("", [(_MARKS[one.severity], _problem(one)) for one in report.problems])
    yield Facts("", list(_facts(report)))
    rows = list(_rows(report))
    yield Table("last 24 hours", ("what", *_COLUMNS), rows, "", "Nothing was made or sent in the last 24 hours.")


def _problem(problem: Problem) -> str:
    return f"{problem.message}\n→ {problem.command}"


def _facts(report: HealthReport) -> Iterator[tuple[str, str]]:
    yield "as of", f"{moment_text(report.generated_at)} UTC"
    yield "last run", "none yet" if report.last_run is None else _run(report.last_run)
    yield (
        "oldest due",
        f"{_due('alert', report.oldest_queued_delivery_minutes)}, "
        + _due("digest", report.oldest_queued_digest_minutes),
    )
    waiting = many(report.events_waiting, "event")
    late = f", {report.events_outside_window:,} too old for it" if report.events_outside_window else ""
    yield "for fan-out", f"{waiting}{late}"


def _run(run: LastRun) -> str:
    if run.finished_at is None and run.status == "running":
        return f"running since {moment_text(run.started_at)} UTC{where_text(run.host, run.pid)}"
    took = "" if run.duration_ms is None else f" in {duration_text(run.duration_ms)}"
    return f"{run.status}{took}, phase {run.phase}, started {moment_text(run.started_at)} UTC"


def where_text(host: str | None, pid: int | None) -> str:
    """Where a run runs."""
    return "" if host is None else f" on host {host}, process {pid}"


def _due(what: str, minutes: float | None) -> str:
    return f"no {what} is due" if minutes is None else f"{what} for {age_text(minutes)}"


def _rows(report: HealthReport) -> Iterator[tuple[str, ...]]:
    for channel, kinds in report.deliveries["24h"].items():
        for kind, counts in kinds.items():
            name = f"{channel} alerts" if kind == "instant" else f"{channel} for digests"
            yield (name, *_cells(counts))
    for channel, counts in report.digests["24h"].items():
        yield (f"{channel} digests", *_cells(counts))


def _cells(counts: OutcomeCounts) -> tuple[str, ...]:
    return tuple(f"{getattr(counts, name):,}" for name in _COLUMNS)
