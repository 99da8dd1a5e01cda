"""How the engine is, as an operator asks it (SPEC O-4, O-4a)."""

from __future__ import annotations

import pytest

from alerts_engine import AlertsEngine, HealthStatus, Phase, to_json
from tests.support import ground
from tests.support.sending import destination

COUNTS = {"queued": 0, "sending": 0, "sent": 0, "failed": 0, "skipped": 0, "retried": 0}


async def health(world, **fields):
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url, **fields)) as engine:
        return await engine.health()


def codes(report) -> dict[str, str]:
    return {problem.code: str(problem.severity) for problem in report.problems}


async def test_the_answer_has_the_fields_of_the_specification(world):
    """As SPEC O-4 writes it, on a database where everything went well."""
    world.alert(world.users(2), "email")
    ground.add_digests(world.url, [1], "email")
    await world.run()
    report = to_json(await health(world))
    assert list(report) == [
        "generated_at", "status", "problems", "deliveries", "digests", "oldest_queued_delivery_minutes",
        "oldest_queued_digest_minutes", "events_waiting", "events_outside_window", "last_run",
    ]  # fmt: skip
    sent = {"email": {"instant": COUNTS | {"sent": 2}}}
    assert report["deliveries"] == {"24h": sent, "7d": sent}
    assert report["digests"] == {"24h": {"email": COUNTS | {"sent": 1}}, "7d": {"email": COUNTS | {"sent": 1}}}
    assert (report["status"], report["problems"]) == ("ok", [])
    assert (report["oldest_queued_delivery_minutes"], report["oldest_queued_digest_minutes"]) == (None, None)
    assert (report["events_waiting"], report["events_outside_window"]) == (0, 0)
    assert (report["last_run"]["phase"], report["last_run"]["status"]) == ("c", "success")


async def test_what_waits_counts_by_its_age_and_what_was_tried_again_as_retried(world):
    """``retried`` are rows that have ended after more than one attempt."""
    world.alert(world.users(3), "email")
    world.fault(destination(1, "email"), status=503, times=1)
    world.fault(destination(2, "email"), status=400)
    await world.run()
    ground.let_time_pass(world.url, 4000)
    await world.run()
    world.alert([3], "telegram")
    world.execute("UPDATE user_alert_deliveries SET created_at = now() - interval '2 days' WHERE channel = 'telegram'")
    report = await health(world)
    assert to_json(report.deliveries["24h"]) == {"email": {"instant": COUNTS | {"sent": 2, "failed": 1, "retried": 1}}}
    assert to_json(report.deliveries["7d"]["telegram"]) == {"instant": COUNTS | {"queued": 1}}


async def test_a_key_that_is_refused_is_said_first(world):
    """The channel is down, and the command asks the provider (SPEC C-7)."""
    world.alert(world.users(1), "email")
    world.fault(status=401)
    await world.run()
    report = await health(world)
    assert report.status is HealthStatus.FAILING
    first = report.problems[0]
    assert (first.code, first.command) == ("channel_down", "alerts-engine preflight --check-credentials")
    assert "email is down" in first.message


async def test_what_is_due_for_long_is_degraded_then_failing(world):
    """Three runs had the chance to send it; after two hours it is of no use."""
    world.alert(world.users(1), "email")
    await world.run({"channels_paused": ("email",)})
    for minutes, expected in ((10, {}), (40, {"delivery_late": "degraded"}), (130, {"delivery_late": "failing"})):
        world.execute(f"UPDATE user_alert_deliveries SET created_at = now() - interval '{minutes} minutes'")
        assert codes(await health(world)) == expected
    assert codes(await health(world, channels_paused=("email",))) == {"paused": "note"}
    assert (await health(world, channels_paused=("email",))).status is HealthStatus.OK


async def test_rows_of_others_than_the_allowlist_wait_and_the_sentence_says_why(world):
    """Nobody finds a forgotten allowlist by looking at the queue."""
    world.alert(world.users(2), "email")
    allowed = {"send_allowlist_user_ids": (1,)}
    await world.run(allowed)
    world.execute(
        "UPDATE user_alert_deliveries SET created_at = now() - interval '200 minutes' WHERE status = 'queued'"
    )
    report = await health(world, **allowed)
    assert codes(report) == {"delivery_late": "degraded", "allowlist": "note"}
    assert "ALERTS_SEND_ALLOWLIST_USER_IDS" in report.problems[0].message


async def test_no_run_and_an_interrupted_run(world):
    """From the run history: never, too long ago, hanging, lost."""
    assert codes(await health(world)) == {"no_run": "degraded"}
    await world.run()
    assert codes(await health(world)) == {}
    world.execute("UPDATE alerts_engine_runs SET finished_at = now() - interval '45 minutes'")
    assert codes(await health(world)) == {"no_run": "degraded"}
    world.execute(
        "UPDATE alerts_engine_runs"
        " SET finished_at = now() - interval '3 hours', started_at = now() - interval '4 hours'"
    )
    assert codes(await health(world)) == {"no_run": "failing"}
    world.execute(
        "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, host, pid)"
        " VALUES (gen_random_uuid(), 'local', 'c', now() - interval '20 minutes', 'box', 7)"
    )
    report = await health(world)
    assert codes(report) == {"interrupted": "degraded"}
    assert "(host box, process 7)" in report.problems[0].message


async def test_events_that_nobody_will_fan_out(world):
    """They are counted, and never silently dropped (SPEC B-1)."""
    await world.run()
    for age in ("1 hour", "30 hours", "3 days"):
        world.execute(
            "INSERT INTO alert_events"
            " (alert_type, severity, headline, body, cooldown_key, event_fingerprint, created_at)"
            f" VALUES ('HIGH_IMPACT_EVENT', 4, 'x', 'x', '{age}', '{age}', now() - interval '{age}')"
        )
    report = await health(world)
    assert (report.events_waiting, report.events_outside_window) == (1, 2)
    assert codes(report) == {"events_outside_window": "degraded"}


async def test_many_failures_of_one_channel(world):
    """More than bad addresses can explain."""
    world.alert(world.users(12), "email")
    world.fault(status=503, times=3)
    await world.run()
    assert codes(await health(world)) == {"many_failures": "degraded"}
    world.fault(status=503)
    world.alert(list(range(1, 11)), "telegram")
    await world.run()
    found = await health(world)
    assert {(one.severity, one.command) for one in found.problems} >= {
        ("failing", "alerts-engine failures --channel telegram"),
    }


async def test_an_uncertain_send_that_nobody_could_ask_about(world):
    """After an hour something keeps the provider from answering (SPEC C-17)."""
    world.alert(world.users(1), "email")
    world.fault(reset=True, accept=True, times=1)
    await world.run()
    assert "uncertain" not in codes(await health(world))
    ground.let_time_pass(world.url, 3700)
    assert codes(await health(world))["uncertain"] == "degraded"


@pytest.mark.parametrize("broken", ["rule"])
async def test_a_phase_that_fails_says_why(world, broken, tmp_path):
    """The newest end of each phase counts, and when it last succeeded."""
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        await engine.run(Phase.A)
    (tmp_path / "mine.sql").write_text("SELECT no_such_column FROM events")
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url, rules_dir=tmp_path)) as engine:
        await engine.run(Phase.A)
    report = await health(world)
    assert codes(report) == {"phase_failed": "degraded"}
    assert "phase a failed" in report.problems[0].message
    assert "mine" in report.problems[0].message


async def test_a_transaction_that_keeps_vacuum_from_cleaning(world):
    """The threshold is lowered; the transaction is real (SPEC O-4a)."""
    from alerts_engine import Thresholds
    from alerts_engine.database import database_now
    from alerts_engine.operations.health import health as ask

    await world.run()
    limits = Thresholds(transaction_minutes=0.0001)
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        with ground.connect(world.url) as other:
            other.autocommit = False
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM users, pg_sleep(0.02)")
            found = await ask(engine.database, engine.settings, await database_now(engine.database), limits)
            other.rollback()
    assert codes(found) == {"old_transaction": "degraded"}


async def test_a_channel_that_lost_its_credentials(world):
    """What was skipped can be taken up; a channel that never sent may be meant to have none (SPEC C-10, O-5)."""
    users = world.users(2)
    world.alert(users, "telegram")
    await world.run({"telegram_bot_token": None})
    assert codes(await health(world)) == {"skipped_unconfigured": "note"}
    world.execute("DELETE FROM user_alert_deliveries")
    world.alert(users[:1], "telegram")
    await world.run()
    world.alert(users[1:], "telegram")
    await world.run({"telegram_bot_token": None})
    report = await health(world)
    assert codes(report) == {"skipped_unconfigured": "degraded"}
    assert report.problems[0].message.startswith("1 telegram message of the last day was skipped")
