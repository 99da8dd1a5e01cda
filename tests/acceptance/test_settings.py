"""Settings as whoever runs the command line has them: from the environment and from a ``.env`` (SPEC section 4)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import add_news, fingerprints, statuses

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import Answer, CommandLine

SECRETS = {
    "BREVO_API_KEY": "xkeysib-SECRET",
    "TELEGRAM_BOT_TOKEN": "987654321:telegram-SECRET-0123456789abcdef",
    "DATABASE_URL": "postgresql://someone:database-SECRET@127.0.0.1:1/nowhere",
}
ALLOWLIST = "ALERTS_SEND_ALLOWLIST_USER_IDS"


def assert_refused(answer: Answer, *named: str, as_json: bool) -> None:
    """Exit 1, one line that names the culprit, nothing of any value; on stdout one object with --json."""
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("error: ")
    assert all(name in answer.err for name in named), answer.err
    told = answer.out + answer.err
    assert "SECRET" not in told
    assert "Traceback" not in told
    assert len(told) < 2000
    if not as_json:
        assert answer.out == ""
    else:
        assert answer.json == {"status": "failed", "error": answer.err.removeprefix("error: ").rstrip("\n")}


@pytest.mark.parametrize("arguments", [["run", "--json"], ["run", "-v"], ["runs", "-v", "--log-json"]])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ALERTS_PLAN_QUOTAS": "[" * 60_000}, "ALERTS_PLAN_QUOTAS"),
        ({"ALERTS_PLAN_QUOTAS": '{"SECRET":' * 9_000}, "ALERTS_PLAN_QUOTAS"),
        ({"EMAIL_FROM": "(" * 60_000}, "EMAIL_FROM"),
        ({"EMAIL_FROM": "SECRET\udced <a@b.c>"}, "EMAIL_FROM"),
        ({"ALERTS_RULES_DIR": "SECRET" * 1000}, "ALERTS_RULES_DIR"),
        ({"TWILIO_BASE_URL": "https://SECRET@evil.example"}, "TWILIO_BASE_URL"),
        ({"ALERTS_SEND_CONCURRENCY": "9" * 60_000}, "ALERTS_SEND_CONCURRENCY"),
        ({"INTERNAL_RUNNER_TOKEN": "SECRET\nSECRET"}, "INTERNAL_RUNNER_TOKEN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_value_that_breaks_its_reader_is_a_sentence(
    alone: CommandLine, arguments: list[str], settings: dict[str, str], named: str
):
    """Nested too deep, too long, not UTF-8: whatever there is among the secrets stays there, --verbose or not (O-3)."""
    answer = await alone(*arguments, **{**SECRETS, **settings})
    assert_refused(answer, f"{named} must be ", as_json="--json" in arguments)


@pytest.mark.parametrize("arguments", [["run", "--json"], ["run", "-v"], ["explain", "--user", "1"]])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"BREVO_API_KEY=xkeysib-SECRET\nEMAIL_FROM=Energ\xeda <a@b.c>\n", "line 2"),
        (f'BREVO_API_KEY=xkeysib-SECRET\n{ALLOWLIST}="1,2-SECRET\n'.encode(), "line 2"),
        (f"BREVO_API_KEY=xkeysib-SECRET\n\n{ALLOWLIST}: 1,2 # SECRET\n".encode(), "line 3"),
        (f'EMAIL_FROM="SECRET <a@b.c>\n{ALLOWLIST}=1,2\nBREVO_API_KEY="xkeysib-SECRET"\n'.encode(), "line 1"),
        (f'EMAIL_FROM="SECRET <a@b.c>\n{ALLOWLIST}=1,2\nBREVO_API_KEY=xkeysib-SECRET"\n'.encode(), "line 1"),
    ],
)
async def test_a_line_of_the_file_that_cannot_be_read_stops_everything(
    alone: CommandLine, arguments: list[str], content: bytes, line: str
):
    """It names the line and never shows it: what it says may be who gets alerts at all."""
    (alone.folder / ".env").write_bytes(content)
    assert_refused(await alone(*arguments), f".env, {line}: ", as_json="--json" in arguments)


async def test_a_file_that_is_a_folder_stops_everything(alone: CommandLine):
    """So does any other that cannot be read."""
    (alone.folder / ".env").mkdir()
    assert_refused(await alone("run", "--json"), ".env cannot be read: Is a directory", as_json=True)


async def test_a_broken_file_is_one_of_several_errors_of_preflight(alone: CommandLine):
    """What else there is to say is said (R-2)."""
    (alone.folder / ".env").write_text("ALERTS_MAX_ATTEMPTS=x\nwhat\nTELEGRAM_BOT_TOKEN=1:SECRET\n")
    answer = await alone("preflight", "--json")
    assert answer.code == 1
    file, attempts, database = answer.json["errors"]
    assert file == ".env, line 2: not of the form NAME=value; a quote may be missing"
    assert attempts == "ALERTS_MAX_ATTEMPTS must be a whole number from 1 to 1000"
    assert database.startswith("DATABASE_URL is not set")
    assert answer.json["channels_configured"]["telegram"] is True
    assert "SECRET" not in answer.out + answer.err


@pytest.mark.parametrize("arguments", [["run", "--json"], ["run", "-v"]])
async def test_a_bug_before_the_secrets_are_known_shows_nothing_of_them(alone: CommandLine, arguments: list[str]):
    """No traceback: nothing could mask it yet (O-3)."""
    program = (
        "from alerts_engine.settings import model\n"
        "def break_down(*_):\n"
        "    key = 'xkeysib-SECRET'\n"
        "    raise RuntimeError(key)\n"
        "model.read_variables = break_down\n"
        "from alerts_engine.cli import main\n"
        f"main({arguments!r})\n"
    )
    answer = await alone("-c", program, program=(sys.executable,))
    assert_refused(answer, "unexpected RuntimeError", as_json="--json" in arguments)
    assert "--verbose" not in answer.err


@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.parametrize(("given", "reached"), [("2", 1), (" 1 , 2 ", 2), ("9223372036854775807", 0), ("", 3)])
async def test_an_allowlist_is_in_force_in_every_form(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection, *, place: str, given: str, reached: int
):
    """One id is the first step of every rollout (B-10, R-3)."""
    add_news(postgresql, users=3)
    if place == "file":
        (sending.folder / ".env").write_text(f"{ALLOWLIST}='{given}'\n")
    answer = await sending("run", "--json", **({ALLOWLIST: given} if place == "environment" else {}))
    assert (answer.code, len(sandbox.messages)) == (0, reached)
    assert answer.err.count("set but empty") == (not given)


@pytest.mark.parametrize("given", ["null", "[1]", "1;2", "1,,2", "0", "all", "1.0", "١", "9223372036854775808"])
async def test_an_allowlist_in_no_form_reaches_nobody(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection, given: str
):
    """It fails closed, before anything is written (section 4)."""
    add_news(postgresql, users=3)
    before = fingerprints(postgresql)
    assert_refused(await sending("run", "--json", **{ALLOWLIST: given}), ALLOWLIST, as_json=True)
    assert not sandbox.messages
    assert fingerprints(postgresql) == before


async def test_only_documented_names_are_read(sending: CommandLine, postgresql: psycopg.Connection, tmp_path: Path):
    """A variable with a common name is another program's: this one would have its SQL executed."""
    add_news(postgresql, users=1)
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "broken.sql").write_text("SELECT 1 AS nonsense")
    others = {
        "RULES_DIR": str(rules),
        "ENABLED": "false",
        "TIME_ZONE": "Mars/X",
        "MAX_SEND_PER_RUN": "0",
        "rules_dir": "/",
    }
    (sending.folder / ".env").write_text("TEMPLATES_DIR=/nowhere\nmax_send_per_run=0\n")
    answer = await sending("run", "--json", **others)
    assert (answer.code, answer.json["status"]) == (0, "success")
    assert statuses(postgresql) == {"sent": 1}
    assert "warning" not in answer.err


async def test_a_misspelt_or_empty_name_is_a_warning(alerts_engine: CommandLine):
    """Of ``run`` on stderr, and of ``preflight`` in its answer; the nearest name is told, no value (CLI-6a)."""
    (alerts_engine.folder / ".env").write_text(
        "ALERTS_MAX_SEND_PER_RUM=SECRET\nALERTS_MAX_ATTEMPTS=3\nALERTS_MAX_ATTEMPTS=4\n"
    )
    settings = {"ALERTS_SEND_ALOWLIST_USER_IDS": "SECRET", ALLOWLIST: "", "CI": ""}
    warnings = [
        "ALERTS_MAX_ATTEMPTS is set more than once in .env, lines 2, 3: the last one counts",
        f"set but empty, which counts as not set: {ALLOWLIST}",
        "ALERTS_MAX_SEND_PER_RUM is not a setting, so nothing reads it: do you mean ALERTS_MAX_SEND_PER_RUN?",
        f"ALERTS_SEND_ALOWLIST_USER_IDS is not a setting, so nothing reads it: do you mean {ALLOWLIST}?",
    ]
    run = await alerts_engine("run", "--phase", "b", "--json", **settings)
    preflight = await alerts_engine("preflight", "--phase", "b", "--json", **settings)
    assert (run.code, preflight.code) == (0, 0)
    assert [warning for warning in warnings if warning not in run.err] == []
    assert run.json["warnings"] == warnings
    assert preflight.json["warnings"][: len(warnings)] == warnings
    assert "SECRET" not in run.err + run.out + preflight.out


async def test_a_warning_is_shown_once_on_a_terminal(alerts_engine: CommandLine):
    """The table of the run has it; where there is no table to come to, a log line does (CLI-6a, CLI-6c)."""
    misspelt = "ALERTS_MAX_SEND_PER_RUM"
    shown = await alerts_engine.on_terminal("run", "--phase", "b", **{misspelt: "1"})
    assert shown.count(misspelt) == 1
    in_json = await alerts_engine.on_terminal("run", "--phase", "b", "--json", **{misspelt: "1"})
    assert in_json.count(misspelt) == 2, "the object for a machine, the line for who sits there"
    failed = await alerts_engine.on_terminal(
        "run", "--phase", "b", code=1, **{misspelt: "1", "DATABASE_URL": "postgresql://127.0.0.1:1/nowhere"}
    )
    assert failed.count(misspelt) == 1


@pytest.mark.parametrize("size", ["0", "-1", "10001", str(2**63), "1e3", "nan"])
async def test_a_batch_size_out_of_bounds_is_wrong_usage(alone: CommandLine, size: str):
    """Exit 2, nothing on stdout (CLI-2)."""
    answer = await alone("run", f"--batch-size={size}")
    assert (answer.code, answer.out) == (2, "")
    assert "--batch-size" in answer.err


@pytest.mark.parametrize("hours", ["-0.001", "878401", "1e400", "-inf", "nan", "x"])
async def test_hours_out_of_bounds_are_wrong_usage(alone: CommandLine, hours: str):
    """Exit 2, nothing on stdout (CLI-2)."""
    answer = await alone("run", f"--since-hours={hours}")
    assert (answer.code, answer.out) == (2, "")
    assert "--since-hours" in answer.err


@pytest.mark.parametrize("now", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
async def test_a_moment_out_of_bounds_is_wrong_usage(alone: CommandLine, now: str):
    """Exit 2, nothing on stdout (CLI-2)."""
    answer = await alone("run", f"--now={now}")
    assert (answer.code, answer.out) == (2, "")
    assert "1970" in answer.err


@pytest.mark.parametrize(
    "arguments", [["--batch-size=10000", "--since-hours=878400"], ["--batch-size=1", "--since-hours=1e-9"]]
)
async def test_numbers_at_their_bounds_are_right_usage(alerts_engine: CommandLine, arguments: list[str]):
    """And every statement can work with them."""
    answer = await alerts_engine("run", "--json", *arguments)
    assert (answer.code, answer.json["status"]) == (0, "success")
