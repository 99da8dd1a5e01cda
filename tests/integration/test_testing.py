"""What applications' own tests stand on (SPEC I-4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import AlertsEngine, NewEvent
from alerts_engine.testing import playground

if TYPE_CHECKING:
    from pathlib import Path

    from alerts_engine.testing import AlertsDatabase, AlertsSandbox, Inbox

pytest_plugins = ["alerts_engine.testing.plugin"]

OUTAGE = NewEvent(
    alert_type="HIGH_IMPACT_EVENT", severity=4, headline="Freeport is down", event_fingerprint="outage:freeport"
)
COUNT = "SELECT count(*) FROM users"


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_has_a_database_of_its_own(alerts_database: AlertsDatabase, time: str):
    """Migrated, and without what the test before it wrote; a test without asyncio may use it (SPEC I-4)."""
    assert alerts_database.execute(COUNT) == [(0,)]
    assert alerts_database.add_user("a@example.com") == 1
    assert alerts_database.execute(COUNT) == [(1,)]


async def test_every_channel_has_its_inbox(
    alerts_database: AlertsDatabase, alerts_engine: AlertsEngine, alerts_inbox: Inbox
):
    """By address, chat and number (SPEC I-4)."""
    alerts_database.add_user("a@example.com", telegram_chat_id="4711", phone_number="+15550000001")
    alerts_database.add_user("b@example.com", plan="free")
    alerts_database.add_user("c@example.com", wants=["OUTAGE"])
    async with alerts_engine as engine:
        await engine.publish(OUTAGE)
        await engine.run()
    for destination in ("a@example.com", "4711", "+15550000001"):
        (message,) = alerts_inbox.of(destination)
        assert "Freeport is down" in f"{message.subject} {message.text}"
    assert len(alerts_inbox.messages) == 3
    alerts_inbox.clear()
    assert alerts_inbox.messages == []


async def test_a_provider_fails_for_one_reader(
    alerts_database: AlertsDatabase, alerts_engine: AlertsEngine, alerts_inbox: Inbox
):
    """So many times, or until it is healed; the other one gets the alert (SPEC I-4)."""
    for name in ("a", "b"):
        alerts_database.add_user(f"{name}@example.com")
    alerts_inbox.fail("a@example.com", times=1)
    later = datetime.now(UTC)
    async with alerts_engine as engine:
        await engine.publish(OUTAGE)
        await engine.run()
        assert [message.destination for message in alerts_inbox.messages] == ["b@example.com"]
        later += timedelta(hours=2)
        await engine.run(now=later)
    assert len(alerts_inbox.of("a@example.com")) == 1
    assert len(alerts_inbox.of("b@example.com")) == 1


async def test_a_failure_lasts_until_it_is_healed(
    alerts_database: AlertsDatabase, alerts_engine: AlertsEngine, alerts_inbox: Inbox
):
    """With the provider's own status and code (SPEC I-4)."""
    alerts_database.add_user("a@example.com")
    alerts_inbox.fail(status=401)
    async with alerts_engine as engine:
        await engine.publish(OUTAGE)
        report = await engine.run()
        assert report.status == "failed"
        alerts_inbox.heal()
        await engine.run()
    assert len(alerts_inbox.of("a@example.com")) == 1


def test_the_environment_does_not_reach_an_applications_tests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alerts_sandbox: AlertsSandbox, request: pytest.FixtureRequest
):
    """No test sends by the developer's own keys, or to nobody because of an allowlist (SPEC I-4)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("ALERTS_SEND_ALLOWLIST_USER_IDS=7\n")
    monkeypatch.setenv("BREVO_API_KEY", "real")
    monkeypatch.setenv("ALERTS_V2_ENABLED", "false")
    settings = request.getfixturevalue("alerts_settings")
    assert settings.enabled
    assert settings.send_allowlist_user_ids is None
    assert settings.brevo_base_url == alerts_sandbox.url
    assert settings.brevo_api_key.get_secret_value() != "real"


def test_a_playground_needs_no_pytest(request: pytest.FixtureRequest):
    """And leaves no database behind (SPEC I-4)."""
    folder = request.config.rootpath / ".alerts-engine" / "playground"
    for _ in range(2):
        with playground(folder, max_send_per_run=5) as play:
            assert play.settings.max_send_per_run == 5
            assert play.database.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'alerts_%'") == [(2,)]
            assert play.inbox.messages == []
