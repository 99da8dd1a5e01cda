"""The command ``preflight``: what it says, where, and how it exits (SPEC section 12)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import fingerprints
from tests.support.pooler import needs_pooler, pooler

if TYPE_CHECKING:
    import psycopg

    from tests.acceptance.conftest import CommandLine

WELL_SET = {"ALERTS_TIMEZONE": "Europe/Amsterdam", "ALERTS_APP_BASE_URL": "https://app.example"}
TELEGRAM = {"TELEGRAM_BOT_TOKEN": "1:token"}
UNREACHABLE = "postgresql://engine:very-secret-word@127.0.0.1:1/alerts"
KEYS = ["db_ok", "migrations_ok", "channels_configured", "credentials", "notes", "warnings", "errors"]


@pytest.mark.parametrize("arguments", [["--json"], ["--json", "--phase", "c", "--log-json"]])
async def test_ready_to_run(sending: CommandLine, postgresql: psycopg.Connection, arguments: list[str]):
    """Exit 0, one JSON object in the shape of the specification, nothing said elsewhere, nothing changed (R-1)."""
    before = fingerprints(postgresql)
    answer = await sending("preflight", *arguments, **WELL_SET)
    assert (answer.code, answer.err) == (0, "")
    assert list(answer.json) == KEYS
    assert answer.json == {
        "db_ok": True,
        "migrations_ok": True,
        "channels_configured": {"email": True, "telegram": True, "sms": True},
        "credentials": None,
        "notes": ["no allowlist: 0 users may get alerts"],
        "warnings": [],
        "errors": [],
    }
    assert fingerprints(postgresql) == before


async def test_terminal_gets_a_list(alerts_engine: CommandLine):
    """People see marks and lines, not JSON (section 3)."""
    shown = await alerts_engine.on_terminal(
        "preflight", code=1, TERM="dumb", width=300, TWILIO_ACCOUNT_SID="very-secret-word"
    )
    for line in (
        "✓ +the database answers",
        "– +email is not configured",
        "✗ +no channel is configured",
        "! +ALERTS_TIMEZONE is not set",
        "! +sms is half configured: TWILIO_AUTH_TOKEN, TWILIO_PHONE_NUMBER",
        "1 error, 3 warnings",
    ):
        assert re.search(line, shown), (line, shown)
    assert '"db_ok"' not in shown
    assert "secret" not in shown


async def test_every_invalid_setting_is_an_error_and_hides_nothing(alerts_engine: CommandLine):
    """Each is named, none shown, and what else there is to look at is looked at (R-2, section 4)."""
    answer = await alerts_engine(
        "preflight",
        "--json",
        ALERTS_MAX_ATTEMPTS="very-secret-word",
        ALERTS_TIMEZONE="Mars/Secret",
        ALERTS_PLAN_QUOTAS='{"secret',
        ALERTS_SEND_ALLOWLIST_USER_IDS="1,,2",
        ALERTS_SEND_LEASE_SECONDS="5",
        ALERTS_APP_BASE_URL="secret",
        EMAIL_FROM="secret",
        BREVO_API_KEY="very-secret-word",
        **TELEGRAM,
    )
    found = answer.json
    assert (answer.code, answer.err) == (1, "")
    assert sorted(re.match("[A-Z_]+", error)[0] for error in found["errors"]) == [  # type: ignore[index]
        "ALERTS_APP_BASE_URL", "ALERTS_MAX_ATTEMPTS", "ALERTS_PLAN_QUOTAS", "ALERTS_SEND_ALLOWLIST_USER_IDS",
        "ALERTS_SEND_LEASE_SECONDS", "ALERTS_TIMEZONE", "EMAIL_FROM",
    ]  # fmt: skip
    assert (found["db_ok"], found["migrations_ok"], found["warnings"]) == (True, True, [])
    assert found["channels_configured"] == {"email": False, "telegram": True, "sms": False}
    assert "secret" not in answer.out.lower()


async def test_database_down_is_one_of_several_errors(alone: CommandLine):
    """It works with the database down, exit 1, and shows no password (R-2)."""
    answer = await alone("preflight", "--json", DATABASE_URL=UNREACHABLE, **WELL_SET)
    no_channel, unreachable = answer.json["errors"]
    assert (answer.code, answer.err) == (1, "")
    assert (answer.json["db_ok"], answer.json["migrations_ok"]) == (False, False)
    assert "no channel" in no_channel
    assert "no connection to the database" in unreachable
    assert "secret" not in answer.out


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "DATABASE_URL is not set: set it, or use --embedded"), ({"DATABASE_URL": "mysql://h/d"}, "postgresql://")],
)
async def test_no_database_is_said_once(alone: CommandLine, settings: dict[str, str], said: str):
    """Not set, or not a URL: the one or the other (CLI-1)."""
    answer = await alone("preflight", "--json", **settings, **WELL_SET, **TELEGRAM)
    (error,) = answer.json["errors"]
    assert answer.code == 1
    assert said in error


async def test_pending_migrations_end_when_they_are_applied(alone: CommandLine, bare_database_url: str):
    """The error names the command that fixes it (R-1)."""
    alone.settings |= {"DATABASE_URL": bare_database_url, **WELL_SET, **TELEGRAM}
    before = await alone("preflight", "--json")
    assert (before.code, before.json["db_ok"], before.json["migrations_ok"]) == (1, True, False)
    assert "alerts-engine migrate" in before.json["errors"][0]
    assert (await alone("migrate", "--json")).code == 0
    assert (await alone("preflight", "--json")).code == 0


async def test_rehearsal_needs_no_channel(alerts_engine: CommandLine):
    """A dry run sends nothing, and another phase neither: a warning, or none (R-1, X-1)."""
    real = await alerts_engine("preflight", "--json", **WELL_SET)
    rehearsal = await alerts_engine("preflight", "--json", "--dry-run", **WELL_SET)
    fan_out = await alerts_engine("preflight", "--json", "--phase", "b", **WELL_SET)
    assert (real.code, rehearsal.code, fan_out.code) == (1, 0, 0)
    assert real.json["errors"] == rehearsal.json["warnings"]
    assert fan_out.json["warnings"] == []


async def test_embedded_database_is_ready(alone: CommandLine):
    """--embedded starts it, as run does (CLI-1)."""
    answer = await alone("preflight", "--json", "--embedded", **WELL_SET, **TELEGRAM)
    assert (answer.code, answer.json["db_ok"], answer.json["migrations_ok"]) == (0, True, True)


async def test_embedded_database_that_cannot_start_is_one_of_several_errors(alone: CommandLine):
    """The other problems are told as well (R-2)."""
    (alone.folder / ".alerts-engine").write_text("not a folder")
    answer = await alone("preflight", "--json", "--embedded", **WELL_SET)
    assert (answer.code, answer.json["db_ok"]) == (1, False)
    assert len(answer.json["errors"]) == 2


@needs_pooler
@pytest.mark.parametrize(
    ("mode", "beginning"),
    [("transaction", "session locks do not hold"), ("statement", "the connection pooler refuses: transaction blocks")],
)
async def test_pooler_in_the_way_is_told_at_every_start(
    alone: CommandLine, postgresql: psycopg.Connection, mode: str, beginning: str
):
    """Whether locks go astray or what an earlier process left prepared: the same line, in preflight and run (R-1)."""
    with pooler(postgresql, mode) as url:
        alone.settings |= {"DATABASE_URL": url, **WELL_SET, **TELEGRAM}
        answers = [await alone("preflight", "--json") for _ in range(3)]
        runs = [await alone("run", "--json") for _ in range(3)]
    for answer in answers:
        (line,) = answer.json["errors"] + answer.json["warnings"]
        assert line.startswith(beginning), line
        assert "pooler in session mode" in line
        assert not re.search("42P05|26000", answer.out)
    for run in runs:
        assert (run.code, run.json["error"]) == (1, line)


async def test_terminal_reads_right_when_migrations_are_pending(
    alerts_engine: CommandLine, postgresql: psycopg.Connection
):
    """A cross stands before what is wrong, never before what should be (section 3)."""
    postgresql.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0001%'")
    postgresql.commit()
    shown = await alerts_engine.on_terminal("preflight", code=1, COLUMNS="300", **WELL_SET, **TELEGRAM)
    assert re.search("✓ +the database answers", shown)
    assert re.search(r"✗ +1 migration is pending \(0001", shown)
    assert "every migration is applied" not in shown


async def test_terminal_reads_right_when_the_database_is_down(alone: CommandLine):
    """What is not known is not said (R-2)."""
    shown = await alone.on_terminal("preflight", code=1, COLUMNS="300", DATABASE_URL=UNREACHABLE, **WELL_SET)
    assert re.search("✗ +no connection to the database at 127.0.0.1:1: Connection refused", shown)
    assert re.search("✗ +no channel is configured", shown)
    for line in ("the database answers", "migration", "secret"):
        assert line not in shown


async def test_unknown_phase_is_wrong_usage(alone: CommandLine):
    """Exit 2 (CLI-2)."""
    answer = await alone("preflight", "--json", "--phase", "e")
    assert (answer.code, answer.out) == (2, "")
