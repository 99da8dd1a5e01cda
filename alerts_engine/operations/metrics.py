"""What Prometheus reads: the state of the queue and the counters, straight from the database (SPEC P-5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.operations.diagnosis import HealthStatus
from alerts_engine.operations.health import judged, read
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from prometheus_client.core import Metric

    from alerts_engine.database import Database
    from alerts_engine.operations.health import HealthReport, NewestPhase, Reading
    from alerts_engine.settings import Settings


@dataclass(frozen=True, slots=True)
class DoneEver:
    source: str
    channel: str
    kind: str
    outcome: str
    made: int


done_ever = statement("health", "done_ever", DoneEver)


async def metrics(database: Database, settings: Settings, now: datetime) -> str:
    """The text that a scrape of Prometheus gets; as quick as health."""
    from prometheus_client import CollectorRegistry, generate_latest

    found = await read(database, now)
    state = _State(found, judged(found, settings), await database.rows(done_ever))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(state)
    return generate_latest(registry).decode()


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What was read at one moment, as a collector of prometheus-client's."""

    found: Reading
    report: HealthReport
    done: list[DoneEver]

    def collect(self) -> Iterator[Metric]:
        yield from _outcomes(self.done)
        yield from _queue(self.found)
        yield from _uncertain(self.found)
        yield from _phases(self.found.phases)
        yield from _health(self.report)


def _outcomes(done: Iterable[DoneEver]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    counter = CounterMetricFamily(
        "alerts_engine_outcomes",
        "What sends and rows came to, counted with them; what retry-failed takes up again stays counted.",
        labels=("source", "channel", "kind", "outcome"),
    )
    for row in done:
        counter.add_metric((row.source, row.channel, row.kind, row.outcome), row.made)
    yield counter


def _queue(found: Reading) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    depth = GaugeMetricFamily(
        "alerts_engine_queue_rows", "Rows that wait or are being sent.", labels=("source", "channel", "kind", "status")
    )
    counted = {(row.source, row.channel, row.kind, row.status): row.rows for row in found.live}
    usual = [
        (source, name, kind, "queued")
        for name in found.channels
        for source, kind in (("deliveries", "instant"), ("deliveries", "digest"), ("digests", "digest"))
    ]
    for labels in dict.fromkeys([*usual, *counted]):
        depth.add_metric(labels, counted.get(labels, 0))
    yield depth
    age = GaugeMetricFamily(
        "alerts_engine_queue_oldest_due_seconds",
        "For how long the oldest row that is due has waited; 0 where none is due.",
        labels=("source", "channel"),
    )
    for state in found.due:
        age.add_metric(("deliveries", state.channel), 60 * max(state.delivery_minutes or 0.0, 0.0))
        age.add_metric(("digests", state.channel), 60 * max(state.digest_minutes or 0.0, 0.0))
    yield age


def _uncertain(found: Reading) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    rows = {row.channel: row.rows for row in found.uncertain}
    gauge = GaugeMetricFamily(
        "alerts_engine_uncertain_rows", "Sends that may have been accepted, not known yet.", labels=("channel",)
    )
    for name in found.channels:
        gauge.add_metric((name,), rows.get(name, 0))
    yield gauge


def _phases(phases: Iterable[NewestPhase]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    ended = GaugeMetricFamily(
        "alerts_engine_phase_last_end_timestamp_seconds", "When a phase last ended so.", labels=("phase", "status")
    )
    took = GaugeMetricFamily(
        "alerts_engine_phase_last_duration_seconds", "How long it took then.", labels=("phase", "status")
    )
    for one in phases:
        if one.finished_at is not None:
            ended.add_metric((one.phase, one.status), one.finished_at.timestamp())
        if one.duration_ms is not None:
            took.add_metric((one.phase, one.status), one.duration_ms / 1000)
    yield ended
    yield took


def _health(report: HealthReport) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    status = GaugeMetricFamily("alerts_engine_health_status", "1 for the status that it has now.", labels=("status",))
    for one in HealthStatus:
        status.add_metric((one,), int(one is report.status))
    yield status
    problems = GaugeMetricFamily(
        "alerts_engine_health_problems", "What health finds wrong, by its code.", labels=("code", "severity")
    )
    for code, severity in sorted({(problem.code, str(problem.severity)) for problem in report.problems}):
        same = [problem for problem in report.problems if (problem.code, problem.severity) == (code, severity)]
        problems.add_metric((code, severity), len(same))
    yield problems
    waiting = GaugeMetricFamily("alerts_engine_events_waiting", "Events that wait for their fan-out.")
    waiting.add_metric((), report.events_waiting)
    yield waiting
    outside = GaugeMetricFamily("alerts_engine_events_outside_window", "Events that are too old for their fan-out.")
    outside.add_metric((), report.events_outside_window)
    yield outside
