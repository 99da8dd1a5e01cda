"""What the console script says, where it says it, and how it exits (SPEC section 3)."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from alerts_engine.locks import PHASE_KEYS
from alerts_engine.sandbox import Credentials
from alerts_engine.types import Phase
from tests.acceptance.conftest import SCRIPT, add_news, answer_of, statuses

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from tests.acceptance.conftest import Answer, CommandLine

UNREACHABLE = "postgresql://engine:very-secret-word@127.0.0.1:1/alerts"


def assert_one_line(answer: Answer, *, code: int = 1) -> None:
    """An error is one line on stderr, without traceback."""
    assert answer.code == code
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert answer.json == {"status": "failed", "error": answer.err.removeprefix("error: ").rstrip("\n")}


@pytest.mark.parametrize("command", [["run"], ["migrate"], ["runs"], ["migrate", "--check"]])
async def test_no_database_names_both_ways_to_one(alone: CommandLine, command: list[str]):
    """Without DATABASE_URL and --embedded one line names both (CLI-1)."""
    answer = await alone(*command, "--json")
    assert_one_line(answer)
    assert "DATABASE_URL" in answer.err
    assert "--embedded" in answer.err


@pytest.mark.parametrize("command", [["run"], ["migrate"], ["runs"]])
async def test_unreachable_database_is_one_line_without_password(alone: CommandLine, command: list[str]):
    """A database that does not answer is one line, exit 1, and the password is not in it (CLI-2, O-3)."""
    answer = await alone(*command, "--json", DATABASE_URL=UNREACHABLE)
    assert_one_line(answer)
    assert "very-secret-word" not in answer.out + answer.err


async def test_unmigrated_database_says_what_to_do(alone: CommandLine, bare_database_url: str):
    """A run on a bare database names the command that fixes it (CLI-2)."""
    answer = await alone("run", "--json", DATABASE_URL=bare_database_url)
    assert_one_line(answer)
    assert "alerts-engine migrate" in answer.err


async def test_malformed_setting_names_the_variable_and_hides_its_value(alone: CommandLine):
    """What cannot be parsed is named, never shown (section 4)."""
    answer = await alone(
        "run", "--json", DATABASE_URL="mysql://u:very-secret-word@h/d", ALERTS_MAX_ATTEMPTS="another-secret"
    )
    assert_one_line(answer)
    assert "DATABASE_URL" in answer.err
    assert "ALERTS_MAX_ATTEMPTS" in answer.err
    assert "secret" not in answer.out + answer.err


async def test_unknown_phase_is_wrong_usage_and_names_the_choices(alone: CommandLine):
    """Exit 2, with the phases there are (CLI-2)."""
    answer = await alone("run", "--json", "--phase", "e")
    assert (answer.code, answer.out) == (2, "")
    assert "'a', 'b', 'c', 'd', 'all'" in answer.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--now", "2022-02-24T10:00:00"], "time zone"),
        (["run", "--now", "yesterday"], "2022-02-24T10:00:00+00:00"),
        (["run", "--since-hours", "-1"], "--since-hours"),
        (["run", "--since-hours", "nan"], "--since-hours"),
        (["run", "--since-hours", "1e12"], "--since-hours"),
        (["run", "--batch-size", "0"], "--batch-size"),
        (["runs", "--limit", "501"], "--limit"),
        (["runs", "show", "not-an-id"], "RUN_ID"),
        (["runs", "show", "1_0"], "RUN_ID"),
        (["runs", "show", "-"], "RUN_ID"),
        (["run", "--quiet", "--json"], "--quiet"),
        (["runs", "--json", "show", "00000000-0000-0000-0000-000000000000"], "put --json behind show"),
        (["rules", "-v", "--json", "test", "x.sql"], "put --verbose --json behind test"),
        (["rnu"], "rnu"),
    ],
)
async def test_wrong_usage_exits_2_and_says_which(alone: CommandLine, arguments: list[str], named: str):
    """A value out of range, a time without zone, an unknown command: exit 2 (CLI-2)."""
    answer = await alone(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert named in answer.err


async def test_switched_off_does_nothing_and_succeeds(alone: CommandLine):
    """With ALERTS_V2_ENABLED=false not even the database is asked: one log line, exit 0 (CLI-2)."""
    answer = await alone("run", "--json", DATABASE_URL=UNREACHABLE, ALERTS_V2_ENABLED="false")
    assert answer.code == 0
    assert answer.err.count("\n") == 1
    assert "ALERTS_V2_ENABLED" in answer.err
    assert answer.json["status"] == "skipped"
    assert answer.json["phases"] == []


async def test_migrate_applies_once_and_check_tells_what_is_pending(alone: CommandLine, bare_database_url: str):
    """--check exits 1 while something is pending and changes nothing; applying twice is a no-op (DB-2)."""
    alone.settings["DATABASE_URL"] = bare_database_url
    before = await alone("migrate", "--json", "--check")
    assert (before.code, before.json["applied"]) == (1, [])
    first, second, after = (
        await alone("migrate", "--json"),
        await alone("migrate", "--json"),
        await alone("migrate", "--json", "--check"),
    )
    assert (first.code, first.json) == (0, {"applied": before.json["pending"], "pending": []})
    assert (second.code, second.json) == (0, {"applied": [], "pending": []})
    assert (after.code, after.json) == (0, {"applied": [], "pending": []})


async def test_run_with_json_is_one_object_and_logs_go_to_stderr(alerts_engine: CommandLine):
    """The shape is that of the specification, and no terminal codes reach a pipe (CLI-4, CLI-6)."""
    answer = await alerts_engine("run", "--json")
    assert answer.code == 0
    report = answer.json
    assert list(report) == [
        "run_id", "status", "dry_run", "triggered_by", "started_at", "finished_at", "duration_ms", "phases", "warnings",
    ]  # fmt: skip
    assert [phase["phase"] for phase in report["phases"]] == ["a", "b", "d", "c"]
    assert list(report["phases"][0]) == [
        "phase", "status", "locked", "skipped", "reason", "started_at", "finished_at", "duration_ms", "counts", "error"
    ]  # fmt: skip
    assert answer.err.count("\n") == len(report["phases"])
    assert "\x1b" not in answer.out + answer.err


@pytest.mark.parametrize(("arguments", "settings"), [(["--log-json"], {}), ([], {"CI": "true"})])
async def test_logs_are_json_lines_when_asked_and_in_ci(
    alerts_engine: CommandLine, arguments: list[str], settings: dict[str, str]
):
    """--log-json, or CI=true (section 3)."""
    answer = await alerts_engine("run", "--json", "--phase", "a", *arguments, **settings)
    lines = [json.loads(line) for line in answer.err.splitlines()]
    assert [line["phase"] for line in lines] == ["a"]
    assert lines[0]["run_id"] == answer.json["run_id"]


@pytest.mark.parametrize(
    "program",
    [(SCRIPT, "run"), (sys.executable, "-m", "alerts_engine", "run"), (sys.executable, "-m", "alerts_engine.runner")],
)
async def test_three_doors_lead_to_the_same_run(alerts_engine: CommandLine, program: tuple[str, ...]):
    """The script, the package and the older flag style do the same (CLI-3)."""
    flags = ["--phase", "b", "--since-hours", "0", "--batch-size", "5", "--dry-run", "--log-json"]
    answer = await alerts_engine(*flags, "--json", program=program)
    assert (answer.code, answer.json["dry_run"]) == (0, True)
    assert [phase["phase"] for phase in answer.json["phases"]] == ["b"]


async def test_older_preflight_flag_looks_before_a_run(alerts_engine: CommandLine):
    """``--preflight`` among the older flags answers as ``preflight`` does, and nothing runs (CLI-3, R-1)."""
    runner = (sys.executable, "-m", "alerts_engine.runner")
    flags = ["--phase", "b", "--since-hours", "2", "--batch-size", "5", "--log-json", "--preflight"]
    answer = await alerts_engine(*flags, "--json", program=runner)
    assert (answer.code, answer.json["db_ok"], answer.json["errors"]) == (0, True, [])
    assert (await alerts_engine("runs", "--json")).json == {"runs": []}


async def test_older_health_flag_is_the_command_or_says_that_there_is_none(alerts_engine: CommandLine):
    """``--health`` among the older flags is never taken for a run (CLI-3)."""
    runner = (sys.executable, "-m", "alerts_engine.runner")
    answer = await alerts_engine("--health", "--phase", "all", "--log-json", program=runner)
    known = (await alerts_engine("health", "--help")).code == 0
    assert answer.code == (0 if known else 2)
    assert known or "no health command" in answer.err
    assert (await alerts_engine("runs", "--json")).json == {"runs": []}


async def test_terminal_gets_a_table(alerts_engine: CommandLine):
    """People see a row per phase, not JSON, and no log lines between (section 3)."""
    shown = await alerts_engine.on_terminal("run", width=100)
    assert "nothing to do" in shown
    assert '"run_id"' not in shown
    assert "[info" not in shown


async def test_held_lock_skips_the_phase_and_succeeds(alerts_engine: CommandLine, postgresql: psycopg.Connection):
    """Another runner has the phase: reported, exit 0 (CLI-2, CLI-4)."""
    postgresql.execute("SELECT pg_advisory_lock(%s)", [PHASE_KEYS[Phase.A]])
    answer = await alerts_engine("run", "--json")
    assert answer.code == 0
    skipped = answer.phase("a")
    assert (skipped["locked"], skipped["skipped"], skipped["reason"]) == (False, True, "lock_not_acquired")
    assert answer.phase("b")["status"] == "success"


async def test_failed_phase_fails_the_run_and_stops_no_other(alerts_engine: CommandLine, tmp_path: Path):
    """A broken rule fails phase a; the others run, exit 1 (CLI-2, CLI-5)."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "broken.sql").write_text("SELECT 1 AS nonsense")
    answer = await alerts_engine("run", "--json", ALERTS_RULES_DIR=str(rules))
    assert (answer.code, answer.json["status"]) == (1, "failed")
    assert "broken" in answer.phase("a")["error"]
    assert {answer.phase(name)["status"] for name in "bdc"} == {"success"}


async def test_history_lists_runs_newest_first_and_shows_one(alerts_engine: CommandLine):
    """Dry runs are in it, too (O-1)."""
    first = await alerts_engine("run", "--json", "--phase", "a")
    second = await alerts_engine("run", "--json", "--dry-run")
    listed = (await alerts_engine("runs", "--json", "--limit", "2")).json["runs"]
    assert [run["run_id"] for run in listed] == [second.json["run_id"], first.json["run_id"]]
    assert [run["dry_run"] for run in listed] == [True, False]
    shown = (await alerts_engine("runs", "show", second.json["run_id"], "--json")).json
    assert (shown["status"], shown["triggered_by"], shown["phase"]) == ("success", "local", "all")
    assert [item["phase"] for item in shown["items"]] == ["a", "b", "d", "c"]


async def test_unknown_run_is_one_line(alerts_engine: CommandLine):
    """A run that is not there: exit 1 (CLI-2)."""
    assert_one_line(await alerts_engine("runs", "show", "00000000-0000-0000-0000-000000000000", "--json"))


async def test_a_run_is_named_by_last_or_by_its_first_characters(
    alerts_engine: CommandLine, postgresql: psycopg.Connection
):
    """In any case of letters, with the id's hyphens or without (CLI-6b)."""
    assert "no runs yet" in (await alerts_engine("runs", "show", "last")).err
    ids = [str((await alerts_engine("run", "--json", "--phase", phase)).json["run_id"]) for phase in "ab"]
    newest = await alerts_engine("runs", "show", "last", "--json")
    assert (newest.code, newest.json["run_id"]) == (0, ids[1])
    for name in (ids[0][:8], ids[0][:11].upper(), ids[0][:11].replace("-", ""), ids[0]):
        shown = await alerts_engine("runs", "show", name, "--json")
        assert (shown.code, shown.json["run_id"]) == (0, ids[0])


async def test_an_ambiguous_name_lists_what_it_could_mean(alerts_engine: CommandLine, postgresql: psycopg.Connection):
    """Never a guess: one line, exit 1, with the ids, at most five of them (CLI-6b)."""
    ids = [f"abcd{number:04x}-0000-4000-8000-000000000000" for number in range(7)]
    for one in ids:
        postgresql.execute(
            "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status, dry_run) "
            "VALUES (%s, 'local', 'a', now() - make_interval(mins => %s), 'success', FALSE)",
            [one, int(one[4:8], 16)],
        )
    postgresql.commit()
    answer = await alerts_engine("runs", "show", "abcd", "--json")
    assert_one_line(answer)
    assert [one in answer.err for one in ids] == [True] * 5 + [False] * 2
    assert "and more" in answer.err
    assert (await alerts_engine("runs", "show", "abcd0003", "--json")).json["run_id"] == ids[3]


async def test_quiet_says_nothing_of_a_good_run(sending: CommandLine, postgresql: psycopg.Connection):
    """Cron mails what a job says: nothing, on stdout and stderr (CLI-6b)."""
    add_news(postgresql, users=2)
    answer = await sending("run", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert statuses(postgresql) == {"sent": 2}


async def test_quiet_keeps_no_warning_and_no_failure_back(alerts_engine: CommandLine, tmp_path: Path):
    """What may cost somebody an alert is on stderr; a failed run shows its table, too (CLI-6c)."""
    warned = await alerts_engine("run", "--quiet", ALERTS_MAX_ATEMPTS="3")
    assert (warned.code, warned.out, warned.err.count("\n")) == (0, "", 2)
    assert "no channel is configured" in warned.err
    assert "do you mean ALERTS_MAX_ATTEMPTS?" in warned.err
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "broken.sql").write_text("SELECT 1 AS nonsense")
    failed = await alerts_engine("run", "--quiet", "--phase", "a", ALERTS_RULES_DIR=str(rules))
    assert failed.code == 1
    assert "broken" in failed.out
    assert "failed" in failed.err


async def test_now_replays_another_moment(alerts_engine: CommandLine, postgresql: psycopg.Connection):
    """An event of today is none for a run that replays last year."""
    add_news(postgresql, users=1)
    past = await alerts_engine("run", "--json", "--phase", "a", "--now", "2022-02-24T10:00:00Z")
    present = await alerts_engine("run", "--json", "--phase", "a")
    assert past.phase("a")["counts"]["events_created"] == 0
    assert present.phase("a")["counts"]["events_created"] == 1


async def test_sandbox_takes_the_keys_and_names_that_it_is_given(alone: CommandLine):
    """Keys and names can be chosen; what it prints has them, and any other key is refused."""
    process = await alone.start(
        "sandbox", "--port", "0", "--key", "TELEGRAM_BOT_TOKEN=77:mine", "--key", "BREVO_API_KEY=a'b",
        "--allow-host", "inbox.example",
    )  # fmt: skip
    assert process.stdout is not None
    said = (await process.stdout.readuntil(b"TWILIO_BASE_URL=")).decode()
    exports = dict(one.split("=", 1) for one in shlex.split(said.partition("\n")[2]) if "=" in one)
    assert (exports["TELEGRAM_BOT_TOKEN"], exports["BREVO_API_KEY"]) == ("77:mine", "a'b")
    url, message = exports["TELEGRAM_BASE_URL"], {"chat_id": 1, "text": "Hello"}
    async with aiohttp.ClientSession(headers={"Host": "inbox.example"}) as session:
        async with session.post(f"{url}/bot77:mine/sendMessage", json=message) as taken:
            assert taken.status == 200
        async with session.post(f"{url}/bot{Credentials().telegram_bot_token}/sendMessage", json=message) as refused:
            assert refused.status == 401
    process.send_signal(signal.SIGTERM)
    assert (await answer_of(process)).code == 0
    wrong = await alone("sandbox", "--port", "0", "--key", "TELEGRAM_BOT_TOKEN=no-token-of-mine")
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    assert "no-token-of-mine" not in wrong.err


async def test_sandbox_on_every_interface_warns(alone: CommandLine):
    """Whoever reaches the machine could read the messages: that is said once, on stderr."""
    process = await alone.start("sandbox", "--port", "0", "--host", "0.0.0.0")  # noqa: S104 - the test
    assert process.stdout is not None
    await process.stdout.readuntil(b"TWILIO_BASE_URL=")
    process.send_signal(signal.SIGTERM)
    answer = await answer_of(process)
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    assert "sandbox_is_public" in answer.err
    assert "--host 127.0.0.1" in answer.err


async def test_sandbox_tells_how_to_reach_it_and_ends_cleanly(alone: CommandLine):
    """Its settings can be pasted into a shell, and a signal is its normal end, exit 0 (CLI-7)."""
    process = await alone.start("sandbox", "--port", "0")
    assert process.stdout is not None
    said = (await process.stdout.readuntil(b"TWILIO_BASE_URL=")).decode()
    url = re.search(r"export BREVO_BASE_URL=(\S+)", said)
    assert url is not None
    async with aiohttp.ClientSession() as session, session.get(f"{url[1]}/healthz") as health:
        assert health.status == 200
    process.send_signal(signal.SIGTERM)
    answer = await answer_of(process)
    assert (answer.code, answer.err) == (0, "")
