"""Whether the providers take our keys, asked before a run (SPEC R-1)."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from alerts_engine.channels import ChannelAdapter, build_adapters
from alerts_engine.channels.credential_check import CredentialCheck, Verdict, check_credentials
from alerts_engine.channels.http import create_session
from alerts_engine.settings import Settings, Variables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from alerts_engine.sandbox import Sandbox
    from alerts_engine.types import Envelope, SendResult
    from tests.acceptance.conftest import CommandLine

FIELDS = {
    "brevo": {"email_provider": "brevo", "brevo_api_key": "SECRET-key", "email_from": "a@b.c"},
    "resend": {"email_provider": "resend", "resend_api_key": "SECRET-key", "email_from": "a@b.c"},
    "telegram": {"telegram_bot_token": "1:SECRET"},
    "twilio": {"twilio_account_sid": "ACSECRET", "twilio_auth_token": "SECRET", "twilio_phone_number": "+1500"},
}
"""What makes a provider be asked."""


@asynccontextmanager
async def answering(status: int, body: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that gives one answer, whoever asks; where it is, and the calls that it got."""
    calls: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(f"{request.method} {request.path}")
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", calls
    finally:
        await runner.cleanup()


async def asked(provider: str, url: str, timeout_seconds: float = 5) -> CredentialCheck:
    fields = {**FIELDS[provider], f"{provider}_base_url": url, "send_timeout_seconds": timeout_seconds}
    async with create_session() as session:
        (check,) = await check_credentials(build_adapters(Settings(_variables=Variables(), **fields), session).values())
    assert "SECRET" not in repr(check)
    return check


async def test_custom_adapter_is_asked_where_it_knows_a_question():
    """Who knows none is left out: nothing is said of its credentials (R-1, I-6)."""

    class Mute(ChannelAdapter):
        channel = provider = "acme.mute"

        async def send(self, envelope: Envelope) -> SendResult:
            raise NotImplementedError

    class Checked(Mute):
        async def check_credentials(self) -> CredentialCheck:
            return CredentialCheck(self.channel, self.provider, Verdict.BAD, ("ACME_KEY",), "HTTP 401")

    assert [one.variables for one in await check_credentials([Mute(), Checked()])] == [("ACME_KEY",)]


@pytest.mark.parametrize("email", ["brevo", "resend"])
async def test_good_keys_are_said_to_be_good(sending: CommandLine, sandbox: Sandbox, email: str):
    """Each configured provider is asked, nothing is sent, and the JSON says so (R-1)."""
    answer = await sending("preflight", "--check-credentials", "--json", EMAIL_PROVIDER=email)
    assert (answer.code, answer.json["errors"]) == (0, [])
    assert answer.json["credentials"] == {"email": "good", "telegram": "good", "sms": "good"}
    assert (sandbox.messages, sandbox.attempts) == ((), ())
    assert "✓  telegram: the provider takes its key" in (await sending("preflight", "--check-credentials")).out


@pytest.mark.parametrize(
    ("settings", "channel", "named"),
    [
        ({"BREVO_API_KEY": "SECRET"}, "email", "BREVO_API_KEY"),
        ({"EMAIL_PROVIDER": "resend", "RESEND_API_KEY": "SECRET"}, "email", "RESEND_API_KEY"),
        ({"TELEGRAM_BOT_TOKEN": "7:SECRET"}, "telegram", "TELEGRAM_BOT_TOKEN"),
        ({"TWILIO_AUTH_TOKEN": "SECRET"}, "sms", "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
    ],
)
async def test_a_bad_key_is_an_error_that_names_its_variable(
    sending: CommandLine, settings: dict[str, str], channel: str, named: str
):
    """Exit 1, never its value; without the question nobody can know (R-1, R-2)."""
    answer = await sending("preflight", "--check-credentials", "--json", **settings)
    (error,) = answer.json["errors"]
    assert (answer.code, answer.json["credentials"][channel]) == (1, "bad")
    assert named in error
    assert "SECRET" not in answer.out + answer.err
    unasked = await sending("preflight", "--json", **settings)
    assert (unasked.code, unasked.json["credentials"]) == (0, None)


async def test_what_is_not_configured_is_not_asked(alone: CommandLine):
    """With the database down and one channel configured, that one is asked (R-2)."""
    answer = await alone(
        "preflight",
        "--check-credentials",
        "--json",
        TELEGRAM_BOT_TOKEN="1:SECRET",
        TELEGRAM_BASE_URL="http://127.0.0.1:1",
    )
    assert answer.json["credentials"] == {"telegram": "no_answer"}
    assert any("TELEGRAM_BASE_URL" in warning for warning in answer.json["warnings"])
    assert "SECRET" not in answer.out + answer.err


@pytest.mark.parametrize(
    ("provider", "status", "body", "verdict"),
    [
        ("brevo", 200, {"email": "a@b.c"}, Verdict.GOOD),
        ("brevo", 401, {"code": "unauthorized", "message": "Key not found"}, Verdict.BAD),
        ("brevo", 403, {"code": "permission_denied", "message": "no"}, Verdict.NOT_ALLOWED),
        ("brevo", 429, {"code": "too_many_requests", "message": "slow"}, Verdict.NO_ANSWER),
        ("resend", 200, {"object": "list", "data": []}, Verdict.GOOD),
        ("resend", 401, {"statusCode": 401, "name": "restricted_api_key", "message": "send only"}, Verdict.NOT_ALLOWED),
        ("resend", 401, {"statusCode": 401, "name": "missing_api_key", "message": "x"}, Verdict.BAD),
        ("resend", 403, {"statusCode": 403, "name": "invalid_api_key", "message": "x"}, Verdict.BAD),
        ("telegram", 200, {"ok": True, "result": {"id": 1}}, Verdict.GOOD),
        ("telegram", 401, {"ok": False, "error_code": 401, "description": "Unauthorized"}, Verdict.BAD),
        ("telegram", 404, {"ok": False, "error_code": 404, "description": "Not Found"}, Verdict.BAD),
        ("twilio", 200, {"sid": "AC1", "status": "active"}, Verdict.GOOD),
        ("twilio", 200, {"sid": "AC1", "status": "suspended"}, Verdict.BAD),
        ("twilio", 401, {"code": 20003, "message": "Authenticate", "status": 401}, Verdict.BAD),
        ("twilio", 404, {"code": 20404, "message": "not found", "status": 404}, Verdict.BAD),
        ("twilio", 500, {"code": 20500, "message": "oops", "status": 500}, Verdict.NO_ANSWER),
    ],
)
async def test_each_answer_has_its_verdict(provider: str, status: int, body: dict[str, object], verdict: Verdict):
    """By status and the provider's own code; one GET, whatever it says."""
    async with answering(status, json.dumps(body).encode()) as (url, calls):
        check = await asked(provider, url)
    assert check.verdict is verdict
    assert [call.split()[0] for call in calls] == ["GET"]


@pytest.mark.parametrize("provider", FIELDS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>welcome</html>"),
        (401, b"<html>proxy</html>"),
        (302, b""),
        (200, b"[]"),
        (404, b""),
        (200, b"1" * 2**21),
    ],
)
async def test_what_is_not_the_providers_answer_says_nothing_of_the_key(provider: str, status: int, body: bytes):
    """A proxy's page, a redirect (which is not followed), another shape: the key may be good or bad (C-6)."""
    async with answering(status, body) as (url, calls):
        check = await asked(provider, url)
    assert check.verdict is Verdict.NO_ANSWER
    assert len(calls) == 1


async def test_a_long_answer_is_read_to_its_end():
    """An account with many domains is no unreadable answer."""
    body = json.dumps({"object": "list", "data": [{"name": "x" * 100}] * 5000}).encode()
    async with answering(200, body) as (url, _):
        assert (await asked("resend", url)).verdict is Verdict.GOOD


async def test_without_an_allowlist_it_says_how_many_may_get_alerts(
    sending: CommandLine, postgresql: psycopg.Connection
):
    """Those that the fan-out looks at; with a list, the list's warning takes its place (R-1, R-3)."""
    postgresql.execute(
        "INSERT INTO users (email, email_verified) SELECT n || '@example.com', n % 3 > 0 OR NULL"
        "  FROM generate_series(1, 6316) AS n"
    )
    postgresql.execute("UPDATE users SET email_verified = FALSE WHERE id % 3 = 0")
    postgresql.commit()
    free = await sending("preflight")
    assert "no allowlist: 4,211 users may get alerts" in free.out
    listed = await sending("preflight", "--json", ALERTS_SEND_ALLOWLIST_USER_IDS="1,2")
    assert listed.json["notes"] == []
    assert any("only 2 user(s)" in warning for warning in listed.json["warnings"])
