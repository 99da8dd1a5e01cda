"""What the settings are, and where each came from (SPEC section 3, CLI-6a)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.settings import variable_names

if TYPE_CHECKING:
    from tests.acceptance.conftest import CommandLine

SECRETS = {
    "BREVO_API_KEY": "xkeysib-HIDDEN",
    "TWILIO_ACCOUNT_SID": "ACHIDDEN",
    "TWILIO_PHONE_NUMBER": "+31HIDDEN",
    "INTERNAL_RUNNER_TOKEN": "runner-HIDDEN",
    "DATABASE_URL": "postgresql://someone:database-HIDDEN@127.0.0.1:1/nowhere",
}
ENV_FILE = """
ALERTS_TIMEZONE=Asia/Kathmandu
ALERTS_MAX_ATTEMPTS=7
ALERTS_SEND_ALLOWLIST_USER_IDS=4, 5
TELEGRAM_BOT_TOKEN=1:HIDDEN
"""


async def test_every_setting_with_its_value_and_its_source(alone: CommandLine):
    """The environment comes before the file, the file before the default; a blank variable hides nothing."""
    (alone.folder / ".env").write_text(ENV_FILE)
    answer = await alone("config", "show", "--json", ALERTS_MAX_ATTEMPTS="9", ALERTS_TIMEZONE="", **SECRETS)
    shown = answer.json["settings"]
    assert answer.code == 0
    assert set(shown) == set(variable_names().values())
    told = {name: (one["value"], one["origin"]) for name, one in shown.items()}
    assert told["ALERTS_MAX_ATTEMPTS"] == (9, "environment")
    assert told["ALERTS_TIMEZONE"] == ("Asia/Kathmandu", ".env")
    assert told["ALERTS_SEND_ALLOWLIST_USER_IDS"] == ([4, 5], ".env")
    assert told["ALERTS_SEND_CONCURRENCY"] == (50, "default")
    assert told["ALERTS_RULES_DIR"] == (None, "default")


async def test_no_secret_is_shown_set_or_not(alone: CommandLine):
    """Masked at one length in table and JSON; that one is set can be seen (O-3)."""
    (alone.folder / ".env").write_text(ENV_FILE)
    for arguments in ([], ["--json"], ["--verbose"]):
        answer = await alone("config", "show", *arguments, **SECRETS)
        assert answer.code == 0
        assert "HIDDEN" not in answer.out + answer.err
    shown = (await alone("config", "show", "--json", **SECRETS)).json["settings"]
    assert {shown[name]["value"] for name in (*SECRETS, "TELEGRAM_BOT_TOKEN")} == {"********"}
    assert (shown["RESEND_API_KEY"]["value"], shown["RESEND_API_KEY"]["secret"]) == (None, True)
    assert not shown["EMAIL_FROM"]["secret"]


async def test_what_nobody_reads_has_the_nearest_name(alone: CommandLine):
    """A misspelt variable of the environment or the file is a warning, exit 0 (CLI-6a)."""
    (alone.folder / ".env").write_text("ALERTS_TIMEZON=UTC\n")
    answer = await alone("config", "show", "--json", ALERTS_MAX_ATEMPTS="3")
    assert answer.code == 0
    assert answer.json["warnings"] == [
        "ALERTS_MAX_ATEMPTS is not a setting, so nothing reads it: do you mean ALERTS_MAX_ATTEMPTS?",
        "ALERTS_TIMEZON is not a setting, so nothing reads it: do you mean ALERTS_TIMEZONE?",
    ]
    assert "do you mean ALERTS_TIMEZONE?" in (await alone("config", "show")).out


async def test_what_cannot_be_used_is_named_beside_the_others(alone: CommandLine):
    """All at once, by name, with its source and without its value; exit 1 (R-2)."""
    (alone.folder / ".env").write_text("ALERTS_RATE_LIMIT_PER_MINUTE=HIDDEN\n")
    answer = await alone("config", "show", "--json", BREVO_API_KEY="with HIDDEN space", ALERTS_MAX_ATTEMPTS="4")
    shown = answer.json["settings"]
    assert (answer.code, len(answer.json["errors"])) == (1, 2)
    assert "HIDDEN" not in answer.out + answer.err
    unusable = {name: one["origin"] for name, one in shown.items() if not one["usable"]}
    assert unusable == {"BREVO_API_KEY": "environment", "ALERTS_RATE_LIMIT_PER_MINUTE": ".env"}
    assert shown["ALERTS_MAX_ATTEMPTS"]["value"] == 4
    table = await alone("config", "show", BREVO_API_KEY="with HIDDEN space")
    assert (table.code, "cannot be used" in table.out) == (1, True)


async def test_it_needs_no_database(alone: CommandLine):
    """It says what would be used, and asks nobody."""
    answer = await alone("config", "show", DATABASE_URL=SECRETS["DATABASE_URL"])
    assert (answer.code, answer.err) == (0, "")
