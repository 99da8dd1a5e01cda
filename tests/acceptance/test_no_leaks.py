"""Whatever goes wrong, nobody reads a secret, a destination or a message body in what the engine says or keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alerts_engine.sandbox import Credentials, Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from tests.acceptance.conftest import CommandLine

SECRETS = {
    "BREVO_API_KEY": "brevo-secret-0123456789",
    "TELEGRAM_BOT_TOKEN": "987654321:telegram-secret-0123456789abcdef",
    "TWILIO_ACCOUNT_SID": "ACsecret0123456789abcdef0123456789",
    "TWILIO_AUTH_TOKEN": "twilio-secret-0123456789",
    "TWILIO_PHONE_NUMBER": "+15005550006",
    "INTERNAL_RUNNER_TOKEN": "runner-secret-0123456789",
}
NO_KEYS = ("TWILIO_PHONE_NUMBER", "INTERNAL_RUNNER_TOKEN")
DESTINATIONS = ("very.private@example.com", "other.private@example.org", "7700112233", "7700112244", "+15005557711")
DOUBLED = """
SELECT 'OUTAGE' AS alert_type, NULL AS scope_region, '{}'::text[] AS scope_assets, 4 AS severity, 'x' AS headline,
       NULL AS body, '{}'::int[] AS driver_event_ids, NULL AS cooldown_key,
       'for other.private@example.org, 7700112244' AS event_fingerprint, NULL::jsonb AS payload
  FROM generate_series(1, 2)"""
BODIES = ("Nobody but the user reads this body", "Nor this headline of theirs")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Every provider, with the keys above."""
    keys = [f"{name}={value}" for name, value in SECRETS.items() if name not in NO_KEYS]
    async with Sandbox.start(credentials=Credentials.of(keys)) as started:
        yield started


async def test_no_secret_destination_or_body_is_said_or_kept(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection, tmp_path, subtests: pytest.Subtests
):
    """A run in which everything fails, logged in full, leaks nothing into output, history or ``last_error`` (O-3)."""
    _private_users(postgresql)
    for provider, fault in {
        "brevo": {
            "status": 400,
            "body": '{"code":"Brevo_Secret_0123456789","message":"very.private@example.com"}',
        },
        "telegram": {"reset": True},
        "twilio": {"status": 401, "body": '{"code":"ACSECRET0123456789ABCDEF0123456789"}'},
    }.items():
        sandbox.faults.add(Fault("*", provider=provider, **fault))
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "broken.sql").write_text("SELECT email FROM users WHERE email::int = 1")
    (rules / "quoting.sql").write_text('SELECT "other.private@example.org" FROM users')
    (rules / "doubled.sql").write_text(DOUBLED)
    (rules / "leaky.sql").write_text(
        "SELECT headline::int FROM (SELECT 'Nor this headline of theirs'::text AS headline) AS x"
    )
    spoken = []
    page = tmp_path / "step-summary.md"
    for arguments in (
        ("run", "-v", "--log-json"),
        ("run", "-v"),
        ("run", "--json"),
        ("runs", "--json"),
        ("run", "--dry-run", "-v"),
        ("summary",),
        ("config", "show", "-v"),
        ("preflight", "--check-credentials", "-v"),
        ("prune", "--older-than", "90d", "-v"),
    ):
        answer = await sending(*arguments, ALERTS_RULES_DIR=str(rules), GITHUB_STEP_SUMMARY=str(page), **SECRETS)
        spoken += [answer.out, answer.err]
    refused = await sending(
        "run", DATABASE_URL="postgresql://someone:database-secret-0123@127.0.0.1:1/nowhere", **SECRETS
    )
    spoken += [refused.out, refused.err, page.read_text("utf-8")]
    assert "alerts-engine: failed" in spoken[-1]
    kept = [
        str(row)
        for query in (
            "SELECT counts::text, error_summary FROM alerts_engine_runs",
            "SELECT counts::text, error_summary FROM alerts_engine_run_items",
            "SELECT last_error, status FROM user_alert_deliveries",
        )
        for row in postgresql.execute(query).fetchall()
    ]
    assert "failed" in str(kept), spoken[:2]
    assert {attempt.provider for attempt in sandbox.attempts if attempt.fault} == {"brevo", "telegram", "twilio"}
    everything = plain("\n".join([*spoken, *kept]))
    for private in (*SECRETS.values(), *DESTINATIONS, *BODIES, "database-secret-0123"):
        with subtests.test(private=private):
            assert plain(private) not in everything


def plain(text: str) -> str:
    """In small letters, and with one sign between words."""
    return text.lower().replace("_", "-")


def _private_users(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO users (email, telegram_chat_id, phone_number) VALUES (%s, %s, %s), (%s, %s, NULL)",
        ["very.private@example.com", "7700112233", "+15005557711", "other.private@example.org", "7700112244"],
    )
    connection.execute("INSERT INTO user_plans (user_id, plan) SELECT id, 'enterprise' FROM users")
    connection.execute(
        "INSERT INTO events (title, source_url, region, severity_score, ai_summary)"
        " VALUES (%s, 'https://news.example/1', 'Europe', 5, %s)",
        [BODIES[1], BODIES[0]],
    )
    connection.commit()
