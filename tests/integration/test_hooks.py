"""What an application may watch: outcomes and spans (SPEC I-5)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from alerts_engine import (
    AlertsEngine,
    DigestCounts,
    FanOutCounts,
    GenerateCounts,
    Phase,
    SendCounts,
    SendOutcome,
)
from alerts_engine.reports import to_json
from alerts_engine.types import Failed, Retry, Sent
from tests.support import ground

if TYPE_CHECKING:
    from tests.support.sending import World


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """A process has one provider of traces for as long as it lives."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    return kept


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


@pytest.fixture(scope="module")
def metric_reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


PATIENT = {"retry_base_seconds": 60, "retry_max_seconds": 60, "send_timeout_seconds": 5, "send_lease_seconds": 60}
"""Nothing is claimed a second time, however slow the machine."""


def engine_of(world: World, **fields: Any) -> AlertsEngine:
    return AlertsEngine(ground.settings(world.url, world.sandbox.url, **PATIENT | fields), pace=0)


async def test_a_callback_gets_every_outcome(world):
    """Of deliveries, accepted, refused and to be tried again; the destination is not among it (SPEC I-5, O-3)."""
    world.alert(world.users(3))
    world.fault("user2@example.com", status=400, code="invalid_parameter")
    world.fault("user3@example.com", status=500)
    seen: list[SendOutcome] = []
    async with engine_of(world) as engine:
        engine.on_outcome(seen.append)
        await engine.run()
    assert {one.row_id: type(one.outcome) for one in seen} == {1: Sent, 2: Failed, 3: Retry}
    assert {(one.source, one.channel) for one in seen} == {("deliveries", "email")}
    assert "example.com" not in repr(seen)


async def test_a_callback_that_breaks_disturbs_nothing(world):
    """Neither the send nor the callbacks beside it (SPEC I-5)."""
    world.alert(world.users(2))
    seen: list[SendOutcome] = []

    def broken(outcome: SendOutcome) -> None:
        raise ZeroDivisionError

    async with engine_of(world) as engine:
        engine.on_outcome(broken)
        engine.on_outcome(seen.append)
        report = await engine.run()
    assert report.status == "success"
    assert len(seen) == len(world.got) == 2


async def test_spans_show_a_run_from_its_phases_to_its_sends(world, spans):
    """Each inside the one it belongs to, with counts and outcomes (SPEC I-5)."""
    world.alert(world.users(2))
    world.fault("user2@example.com", status=500)
    async with engine_of(world) as engine:
        report = await engine.run()
    found = {span.context.span_id: span for span in spans.get_finished_spans()}
    parents = {(span.name, found[span.parent.span_id].name if span.parent else None) for span in found.values()}
    assert parents == {
        ("alerts_engine.run", None),
        ("alerts_engine.phase", "alerts_engine.run"),
        ("alerts_engine.claim", "alerts_engine.phase"),
        ("alerts_engine.send", "alerts_engine.phase"),
    }
    by_name: dict[str, list[Any]] = {}
    for span in found.values():
        by_name.setdefault(span.name, []).append(dict(span.attributes))
    assert by_name["alerts_engine.run"][0]["alerts_engine.run_id"] == report.run_id
    assert [one["alerts_engine.phase"] for one in by_name["alerts_engine.phase"]] == ["a", "b", "d", "c"]
    assert by_name["alerts_engine.phase"][-1]["alerts_engine.sent"] == 1
    assert {one["alerts_engine.outcome"] for one in by_name["alerts_engine.send"]} == {"Sent", "Retry"}
    assert sum(one["alerts_engine.rows"] for one in by_name["alerts_engine.claim"]) == 2


async def test_spans_hold_no_destination_and_no_message(world, spans):
    """Nor the text of an error, which may quote one (SPEC I-5, O-3)."""
    world.alert(world.users(2))
    world.fault("user2@example.com", status=400, body="user2@example.com is bad")
    world.execute("ALTER TABLE alerts_engine_runs RENAME TO hidden")
    async with engine_of(world) as engine:
        await engine.run()
        world.execute("DROP TABLE _yoyo_migration")
        with pytest.raises(Exception, match="migrate"):
            await engine.run()
    shown = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "SchemaError" in shown
    for private in ("example.com", "Pipeline outage", "migrate"):
        assert private not in shown


async def test_metrics_count_outcomes_and_measure_runs(world, metric_reader):
    """By channel and outcome, by status, with no destination (SPEC I-5, O-3)."""
    world.alert(world.users(3))
    world.fault("user2@example.com", status=400, code="invalid_parameter")
    async with engine_of(world) as engine:
        await engine.run()
    (found,) = metric_reader.get_metrics_data().resource_metrics[0].scope_metrics
    points = {metric.name: list(metric.data.data_points) for metric in found.metrics}
    assert {
        (one.attributes["channel"], one.attributes["outcome"]): one.value
        for one in points.pop("alerts_engine.outcomes")
    } == {("email", "Sent"): 2, ("email", "Failed"): 1}
    assert {name: sum(one.count for one in values) for name, values in points.items()} == {
        "alerts_engine.run.duration": 1,
        "alerts_engine.phase.duration": 4,
    }
    assert {one.attributes["status"] for one in points["alerts_engine.run.duration"]} == {"success"}
    assert "example.com" not in str(found)


def test_nothing_is_imported_for_traces_that_nobody_takes():
    """A run from cron does not wait for OpenTelemetry, installed or not (SPEC I-5, section 16)."""
    code = "import sys, alerts_engine.engine, alerts_engine.phases.send.phase; print('opentelemetry' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "False"


async def test_a_reports_counts_have_types(world):
    """The same numbers as in the JSON, of every phase that ran (SPEC I-3, CLI-4)."""
    world.alert(world.users(2))
    async with engine_of(world) as engine:
        report = await engine.run()
        alone = await engine.run(Phase.B)
    kinds = (GenerateCounts, FanOutCounts, DigestCounts, SendCounts)
    found = [report.counts_as(kind) for kind in kinds]
    assert [one.as_counts() for one in found if one is not None] == [phase.counts for phase in report.phases]
    assert found[-1].sent == 2
    assert alone.counts_as(SendCounts) is None
    assert "typed_counts" not in to_json(report)["phases"][0]
