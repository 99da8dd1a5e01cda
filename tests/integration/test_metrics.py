"""What Prometheus reads (SPEC P-5)."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from alerts_engine import AlertsEngine
from tests.support import ground
from tests.support.sending import destination


async def scraped(world) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, in the order of their names."""
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        text = await engine.metrics()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_queue_the_outcomes_and_the_phases(world):
    """By channel; what does not exist yet is 0, so that a rule has something to compare."""
    world.alert(world.users(3), "email")
    world.fault(destination(1, "email"), status=400)
    world.fault(destination(2, "email"), status=503)
    await world.run()
    world.alert([1], "telegram")
    found = await scraped(world)
    done = ("alerts_engine_outcomes_total", "email", "instant")
    assert [found[*done, outcome, "deliveries"] for outcome in ("sent", "failed", "retry")] == [1, 1, 1]
    waiting = {channel: found["alerts_engine_queue_rows", channel, "instant", "deliveries", "queued"]
               for channel in ("email", "telegram", "sms")}  # fmt: skip
    assert waiting == {"email": 1, "telegram": 1, "sms": 0}
    assert found["alerts_engine_queue_oldest_due_seconds", "telegram", "deliveries"] > 0
    assert found["alerts_engine_uncertain_rows", "sms"] == 0
    assert found["alerts_engine_phase_last_duration_seconds", "c", "success"] >= 0
    assert found["alerts_engine_phase_last_end_timestamp_seconds", "c", "success"] > 1.6e9
    assert found["alerts_engine_health_status", "failing"] in {0, 1}


async def test_a_counter_never_becomes_smaller(world):
    """Also when retry-failed takes up what it counted, and when the rows are folded."""
    from alerts_engine import SourceName

    world.alert(world.users(2), "email")
    world.execute("UPDATE user_alert_deliveries SET attempts = 4")
    world.fault(status=503)
    await world.run()
    before = await scraped(world)
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        assert (await engine.retry_failed(SourceName.DELIVERIES, 24, reset_attempts=True)).count == 2
    await world.run()
    after = await scraped(world)
    counters = [key for key in before if key[0].endswith("_total")]
    assert counters
    assert all(after[key] >= before[key] for key in counters)
