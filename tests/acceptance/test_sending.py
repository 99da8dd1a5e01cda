"""The whole chain from the command line: once, twice, rehearsed, broken and interrupted."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine.sandbox import Fault
from tests.acceptance.conftest import add_news, answer_of, fingerprints, statuses

if TYPE_CHECKING:
    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import CommandLine

HISTORY = ("alerts_engine_runs", "alerts_engine_run_items")


async def test_second_run_sends_nothing_again(sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection):
    """Each user gets the alert once, however often the engine runs."""
    add_news(postgresql, users=3)
    first, second = await sending("run", "--json"), await sending("run", "--json")
    assert (first.code, first.phase("c")["counts"]["sent"]) == (0, 3)
    assert (second.code, second.phase("c")["counts"]["sent"]) == (0, 0)
    assert sorted(message.destination for message in sandbox.messages) == [f"user{n}@example.com" for n in (1, 2, 3)]
    assert statuses(postgresql) == {"sent": 3}


async def test_dry_run_shows_the_chain_and_changes_nothing(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection
):
    """Every table but the history is byte for byte as before, and nothing is sent (X-1)."""
    add_news(postgresql, users=3)
    before = fingerprints(postgresql, but=HISTORY)
    answer = await sending("run", "--json", "--dry-run")
    assert answer.code == 0
    assert answer.phase("a")["counts"]["events_created"] == 1
    assert answer.phase("b")["counts"]["created_instant"] == 3
    assert answer.phase("c")["counts"]["would_send"]["email"]["deliveries"]["count"] == 3
    assert fingerprints(postgresql, but=HISTORY) == before
    assert sandbox.requests == 0


async def test_dry_run_works_without_credentials(alerts_engine: CommandLine, postgresql: psycopg.Connection):
    """Nothing of a provider has to be set (X-1)."""
    add_news(postgresql, users=1)
    answer = await alerts_engine("run", "--json", "--dry-run")
    assert answer.code == 0
    assert answer.phase("c")["counts"]["waiting"]["email"] == {"channel_not_configured": 1}


async def test_failing_run_tells_no_secret_and_no_destination(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection
):
    """A revoked key fails the phase, and what is printed names neither it nor the users, even when verbose (O-3)."""
    add_news(postgresql, users=2)
    sandbox.faults.add(Fault(status=401))
    answer = await sending("run", "--json", "--verbose")
    assert answer.code == 1
    assert answer.phase("c")["counts"]["channels_down"] == {"email": "auth_failed"}
    for secret in (
        sending.settings["BREVO_API_KEY"],
        "@example.com",
        "Flows stopped",
        sending.settings["TWILIO_AUTH_TOKEN"],
    ):
        assert secret not in answer.out + answer.err
    assert statuses(postgresql) == {"queued": 2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_lets_sends_in_flight_finish_and_gives_the_rest_back(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection, number: signal.Signals
):
    """What is on its way is sent, the others are queued with no attempt spent, the run is closed, exit 1 (CLI-7)."""
    add_news(postgresql, users=30)
    sandbox.faults.add(Fault(delay=1.0))
    process = await sending.start("run", "--json", ALERTS_SEND_CONCURRENCY="6")
    await sandbox.wait_for_requests(1)
    process.send_signal(number)
    answer = await answer_of(process)
    assert (answer.code, answer.json["status"]) == (1, "failed")
    left = statuses(postgresql)
    assert set(left) == {"queued", "sent"}
    assert left["sent"] == len(sandbox.messages) == sandbox.requests
    spent = postgresql.execute("SELECT sum(attempts) FROM user_alert_deliveries WHERE status = 'queued'").fetchone()
    assert spent == (0,)
    shown = (await sending("runs", "show", answer.json["run_id"], "--json")).json
    assert (shown["status"], shown["finished_at"] is None) == ("failed", False)


async def test_dead_provider_does_not_hold_up_a_stop(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection
):
    """Sends that never end are given up after ALERTS_SHUTDOWN_SECONDS; only they stay uncertain (C-3, CLI-7)."""
    add_news(postgresql, users=30)
    sandbox.faults.add(Fault(hang=True))
    process = await sending.start("run", "--json", ALERTS_SEND_CONCURRENCY="6", ALERTS_SHUTDOWN_SECONDS="0.2")
    await sandbox.wait_for_requests(1)
    process.send_signal(signal.SIGTERM)
    answer = await answer_of(process)
    assert (answer.code, answer.json["status"]) == (1, "failed")
    left = statuses(postgresql)
    assert left["sending"] <= 6
    assert left["queued"] == 30 - left["sending"]


async def test_a_database_that_keeps_one_waiting_does_not_hold_up_a_stop(
    alerts_engine: CommandLine, postgresql: psycopg.Connection, database_url: str
):
    """What waits for a lock is cancelled after ALERTS_SHUTDOWN_SECONDS, and the run is closed (CLI-7)."""
    add_news(postgresql, users=1)
    postgresql.execute("LOCK TABLE user_alert_deliveries IN SHARE MODE")
    process = await alerts_engine.start("run", "--json", ALERTS_SHUTDOWN_SECONDS="0.2")
    waiting = "SELECT FROM pg_locks WHERE relation = 'user_alert_deliveries'::regclass AND NOT granted"
    with psycopg.connect(database_url, autocommit=True) as observer:
        async with asyncio.timeout(30):
            while not observer.execute(waiting).rowcount:  # noqa: ASYNC110 - the database knows
                await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    answer = await answer_of(process)
    assert (answer.code, answer.json["status"]) == (1, "failed")
    assert answer.phase("b")["error"].startswith("broken off in fan_out_page, 0.2 s after a signal came")
    shown = (await alerts_engine("runs", "show", answer.json["run_id"], "--json")).json
    assert (shown["status"], shown["finished_at"] is None) == ("failed", False)


async def test_second_signal_exits_at_once(sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection):
    """Whoever asks twice does not wait for the provider (CLI-7)."""
    add_news(postgresql, users=1)
    sandbox.faults.add(Fault(hang=True))
    patience = {
        "ALERTS_SEND_TIMEOUT_SECONDS": "600",
        "ALERTS_SHUTDOWN_SECONDS": "600",
        "ALERTS_SEND_LEASE_SECONDS": "3000",
    }
    process = await sending.start("run", **patience)
    await sandbox.wait_for_requests(1)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while b"stopping" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    assert (await answer_of(process)).code == 1
