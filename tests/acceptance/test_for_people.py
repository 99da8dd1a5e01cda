"""What people read: on a terminal of any width, in a pipe and in a file (SPEC section 3, O-6, CLI-6c)."""

from __future__ import annotations

import re
import signal
import socket
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine.locks import PHASE_KEYS
from alerts_engine.sandbox import Fault
from alerts_engine.types import Phase
from tests.acceptance.conftest import add_news, answer_of, without_colours

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import CommandLine

HOSTILE = "\x1b[31mPipe\x1b]0;owned\x07line \u202etuhs\u202c \u2066x\u2069 \x9b2J\x7f\u061c"
ESCAPED = r"\x1b[31mPipe\x1b]0;owned\x07line"
PLAIN = {"TERM": "dumb", "NO_COLOR": "1"}
"""A terminal to which even rich sends no escape sequence."""
OUR_COLOURS = re.compile(r"\x1b\[(?:0|1|2|3[0-7])m(?!Pipe)")
"""Those of a log line, which has them on every terminal; the one in the hostile text is not among them."""
COMMANDS = (
    ("runs",),
    ("explain", "--user", "1"),
    ("explain", "--user", "1", "--event", "1"),
    ("rules",),
    ("rules", "test", "high_impact_event", "--now", f"{datetime.now(UTC) + timedelta(hours=1)}"),
    ("templates", "list"),
    ("preflight",),
    ("migrate", "--check"),
    ("config", "show"),
    ("runs", "show", "last"),
    ("health",),
    ("failures",),
    ("delivery", "show", "1"),
    ("retry-failed", "--kind", "deliveries", "--since-hours", "24", "--dry-run"),
)


def obeyed(text: str) -> set[str]:
    """The characters of ``text`` at which a terminal would do something, but for the ends of lines."""
    bidi = {"\u061c", "\u200e", "\u200f", *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}
    return {one for one in text if one in bidi or unicodedata.category(one) in {"Cc", "Zl", "Zp"}} - {"\n"}


def ink(text: str) -> Counter[str]:
    """The letters; a digit is a digit, since time passes between two looks."""
    return Counter("0" if one.isdigit() else one for one in text if not one.isspace() and one != "─")


@pytest.fixture
async def used(sending: CommandLine, postgresql: psycopg.Connection) -> CommandLine:
    """A database with an event, deliveries, a dry run and a run."""
    add_news(postgresql, users=3)
    await sending.has_run(dry_run=True)
    # The dry run has used ids up.
    for table in ("alert_events", "user_alert_deliveries"):
        postgresql.execute(f"SELECT setval('{table}_id_seq', 1, FALSE)")  # type: ignore[arg-type]
    postgresql.commit()
    await sending.has_run()
    return sending


# --- pipes and widths -----------------------------------------------------------------------------------------------


async def test_a_pipe_gets_tables_and_only_json_gets_json(used: CommandLine, subtests: pytest.Subtests):
    """100 columns wide, without a terminal's codes; with --json exactly one object (section 3)."""
    answers = await used.several(*COMMANDS, *((*command, "--json") for command in COMMANDS))
    for command, answer, in_json in zip(COMMANDS, answers, answers[len(COMMANDS) :], strict=False):
        with subtests.test(command=command):
            assert answer.code == 0
            assert not answer.out.startswith("{")
            assert obeyed(answer.out) == set()
            assert max(map(len, answer.out.split("\n"))) <= 100
            assert isinstance(in_json.json, dict)


async def test_nothing_is_cut_away_at_any_width(used: CommandLine, subtests: pytest.Subtests):
    """What a wide terminal shows is all there at 80, 60 and 40 columns, and no line is wider (O-6)."""
    for command in COMMANDS:
        widths = (400, 80, 60, 40)
        answers = await used.several_on_terminal(*((width, command) for width in widths))
        wide, *others = (without_colours(answer.out) for answer in answers)
        assert {answer.code for answer in answers} == {0}
        assert ink(wide)
        for width, shown in zip(widths[1:], others, strict=True):
            with subtests.test(command=command, width=width):
                # A record's names come on top.
                assert ink(shown) >= ink(wide)
                if command[0] != "migrate":
                    assert max(map(len, shown.split("\n"))) <= width


async def test_a_letter_that_the_terminal_lacks_breaks_nothing(used: CommandLine):
    """Python writes ASCII where the locale knows no more (CLI-2)."""
    tables = await used("runs", PYTHONIOENCODING="ascii")
    listed = await used("explain", "--user", "1", "--json", PYTHONIOENCODING="latin-1")
    assert (tables.code, listed.code) == (0, 0)
    assert tables.out.isascii()
    assert listed.json["user_id"] == 1


# --- what runs says -------------------------------------------------------------------------------------------------


def told(answer: str) -> list[str]:
    """What ``runs`` tells of each run, in one line, newest first; the ids are taken out."""
    text = " ".join(answer.split("alerts-engine runs show", maxsplit=1)[0].split())
    return [piece.strip() for piece in re.split(r"started \(UTC\) [\d-]{10} [\d:]{8}", text)[1:]]


async def runs_of(engine: CommandLine) -> list[str]:
    return told(await engine.on_terminal("runs", width=40))


async def test_runs_says_what_a_run_would_have_done_and_what_it_did(used: CommandLine):
    """Never “nothing to do” of a run that did something, or would have (O-6)."""
    assert (await used("run")).code == 0
    idle, real, dry = await runs_of(used)
    assert "nothing new: 1 event known already" in idle
    assert "1 new event; 1 event fanned out; 3 alerts queued (3 to send at once); 3 alerts sent" in real
    assert "local, dry run" in dry
    assert "dry run: 1 new event; 1 event fanned out; 3 alerts queued" in dry
    assert "would send 3 alerts" in dry
    assert not any("nothing to do" in run for run in (idle, real, dry))


async def test_runs_says_digests_too(sending: CommandLine, postgresql: psycopg.Connection):
    """Those that were begun, and those that were sent (O-6)."""
    add_news(postgresql, users=2)
    postgresql.execute("INSERT INTO user_notification_settings (user_id, digest_only) VALUES (1, TRUE), (2, TRUE)")
    postgresql.commit()
    assert (await sending("run")).code == 0
    postgresql.execute("UPDATE user_alert_digests SET next_retry_at = NULL")
    postgresql.commit()
    assert (await sending("run", "--phase", "c")).code == 0
    sent, built = await runs_of(sending)
    assert "2 alerts put into digests; 2 digests begun" in built
    assert "2 digests sent" in sent


async def test_runs_names_the_phase_that_a_lock_kept_out(sending: CommandLine, postgresql: psycopg.Connection):
    """Also when the others had nothing to do (O-6, L-1)."""
    postgresql.execute("SELECT pg_advisory_lock(%s)", [PHASE_KEYS[Phase.C]])
    shown = await sending.on_terminal("run", width=100)
    assert re.search(r"c send +skipped .*another run holds its lock", shown)
    (run,) = await runs_of(sending)
    assert "c skipped: another run holds its lock" in run
    assert "! phase c was skipped" in run
    assert "nothing to do" not in run


async def test_runs_tells_a_killed_run_from_an_idle_one(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection
):
    """While it counts as running, since when and how far it came; once it is closed, that it was interrupted (O-2)."""
    add_news(postgresql, users=1)
    sandbox.faults.add(Fault(hang=True))
    process = await sending.start("run")
    await sandbox.wait_for_requests(1)
    (running,) = await runs_of(sending)
    process.send_signal(signal.SIGKILL)
    await answer_of(process)
    (killed,) = await runs_of(sending)
    for run in (running, killed):
        where = rf"on host {socket.gethostname()}, process {process.pid}, holds phase c"
        so_far = "so far: 1 new event; 1 event fanned out"
        assert re.search(rf"running since [\d-]{{10}} [\d:]{{8}} UTC {where} {so_far}", run)
    sandbox.faults.clear()
    postgresql.execute("UPDATE alerts_engine_runs SET started_at = now() - interval '1 day'")
    postgresql.commit()
    assert (await sending("run")).code == 0
    _, closed = await runs_of(sending)
    assert "1 new event; 1 event fanned out; 1 alert queued" in closed
    assert "interrupted: the process was killed, or lost, before the end" in closed


async def test_runs_says_why_a_run_failed(sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection):
    """And what to do, at any width; ``runs show`` says it by phase (O-6)."""
    add_news(postgresql, users=1)
    sandbox.faults.add(Fault(status=401))
    assert (await sending("run")).code == 1
    (run,) = await runs_of(sending)
    assert "email is down (auth_failed): look at the key, the sender and the account" in run
    assert "phase c: channel email is down: auth_failed" in run


async def test_one_run_is_shown_with_all_that_is_known(used: CommandLine):
    """Its id, its end, its commit, and each phase with its details (O-1)."""
    answer = await used("run", "--json", GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="schedule", GITHUB_SHA="abc123def")
    shown = await used.on_terminal("runs", "show", answer.json["run_id"], width=60)
    assert answer.json["run_id"] in shown
    for words in (
        "status +success",
        "started +.* UTC",
        "GitHub, scheduled",
        "finished +",
        "took +",
        "commit +abc123def",
    ):
        assert re.search(words, shown), (words, shown)
    assert "high_impact_event: 1 known" in shown


async def test_without_runs_there_is_a_sentence(alerts_engine: CommandLine):
    """Not an empty table."""
    assert (await alerts_engine("runs")).out == "There are no runs yet.\n"


# --- warnings -------------------------------------------------------------------------------------------------------


async def test_a_warning_cannot_be_overlooked(alerts_engine: CommandLine, postgresql: psycopg.Connection):
    """In the run's answer, on a terminal and as JSON, in ``runs`` and in ``runs show``; the run succeeds (CLI-6c)."""
    add_news(postgresql, users=1)
    answer = await alerts_engine("run", "--json")
    (warning,) = answer.json["warnings"]
    assert (answer.code, answer.json["status"]) == (0, "success")
    assert warning.startswith("no channel is configured")
    shows = [
        await alerts_engine.on_terminal(*command, width=width)
        for width in (100, 40)
        for command in (("run",), ("runs",), ("runs", "show", answer.json["run_id"]))
    ]
    for shown in shows:
        assert re.search(r"! +no channel is configured", shown)
        assert ink(shown) >= ink(warning)


# --- hostile texts --------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_no_text_of_an_event_plays_with_the_terminal(
    sending: CommandLine, postgresql: psycopg.Connection, tmp_path: Path, subtests: pytest.Subtests
):
    """Whatever command shows it: its controls and bidi characters are seen, not obeyed (M-4)."""
    add_news(postgresql, users=1)
    (tmp_path / f"{HOSTILE.replace('/', '')}.sql").write_text("SELECT nonsense")
    (tmp_path / "hostile.sql").write_text('SELECT 1 AS "a\x1b[31m\u202eb"')
    postgresql.execute("UPDATE events SET title = %s, region = %s, ai_summary = %s", [HOSTILE] * 3)
    postgresql.execute(
        "INSERT INTO plan_settings (plan_code, delivery_config) VALUES (%s, '{\"email\": 3}')", [HOSTILE[:20]]
    )
    postgresql.execute("INSERT INTO events (title, region, severity_score) VALUES (%s, 'Asia', 4)", [HOSTILE])
    postgresql.commit()
    rules = {"ALERTS_RULES_DIR": str(tmp_path)}
    assert (await sending("run", "--phase", "a")).code == 0
    assert (await sending("run", "--phase", "b")).code == 0
    assert (await sending("run", "--phase", "a", **rules)).code == 1
    postgresql.execute("UPDATE alerts_engine_runs SET error_summary = %s, git_sha = %s", [HOSTILE] * 2)
    postgresql.execute("UPDATE user_alert_deliveries SET status = 'failed', last_error = %s", [HOSTILE])
    (run_id,) = postgresql.execute("SELECT run_id FROM alerts_engine_runs LIMIT 1").fetchone()  # type: ignore[misc]
    postgresql.commit()
    asked = (
        (0, ("explain", "--user", "1")),
        (0, ("explain", "--user", "1", "--event", "1")),
        (0, ("rules",)),
        (0, ("rules", "test", "high_impact_event")),
        (1, ("rules", "test", str(tmp_path / "hostile.sql"))),
        (1, ("rules", "test", HOSTILE)),
        (0, ("runs",)),
        (0, ("runs", "show", str(run_id))),
        (0, ("preview", "--event", "1")),
        (0, ("preflight",)),
        (1, ("run", "--phase", "a", "--verbose")),
        (1, ("run", "--phase", "a", "--log-json")),
        (2, ("run", "--now", HOSTILE)),
    )
    commands = [command for _, command in asked]
    in_json = [command for command in commands if command[0] not in {"preview", "run"}]
    shown = await sending.several_on_terminal(*((60, command) for command in commands), **rules, **PLAIN)
    piped = await sending.several(*commands, **rules)
    exact = await sending.several(*((*command, "--json") for command in in_json), **rules)
    assert [answer.code for answer in shown] == [code for code, _ in asked]
    for command, on_terminal, in_a_pipe in zip(commands, shown, piped, strict=True):
        assert on_terminal.out.strip()
        assert in_a_pipe.out.strip() or in_a_pipe.err.strip()
        with subtests.test(command=command):
            assert obeyed(OUR_COLOURS.sub("", on_terminal.out)) == set()
        with subtests.test(command=command, in_a_pipe=True):
            assert obeyed(in_a_pipe.out + in_a_pipe.err) == set()
    for command, answer in zip(in_json, exact, strict=True):
        with subtests.test(command=command, as_json=True):
            assert obeyed(answer.out) == set()
    (explained,) = (await sending("explain", "--user", "1", "--event", "1", "--json")).json["explanations"]
    assert explained["event"]["headline"] == HOSTILE
    assert ESCAPED in await sending.on_terminal("explain", "--user", "1", "--event", "1", width=200)


async def test_a_message_is_shown_cleaned_and_handed_over_exactly(used: CommandLine, tmp_path: Path):
    """A custom template may hold anything: a terminal gets it visible, a pipe and a file get every byte (M-1)."""
    folder = tmp_path / "custom"
    folder.mkdir()
    (folder / "instant.email.txt").write_text("bell \x07 and \x1b[31mred\x1b[0m")
    used.settings["ALERTS_TEMPLATES_DIR"] = str(folder)
    command = ("preview", "--event", "1", "--format", "text")
    assert (await used.raw_on_terminal(*command)).strip() == r"bell \x07 and \x1b[31mred\x1b[0m"
    assert (await used(*command)).out == "bell \x07 and \x1b[31mred\x1b[0m\n"
    await used(*command, "--output", str(tmp_path / "message.txt"))
    assert (tmp_path / "message.txt").read_text() == "bell \x07 and \x1b[31mred\x1b[0m\n"
