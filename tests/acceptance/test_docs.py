"""The documents hold: what they show is executed, and what they list is compared with the code."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import signal
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from alerts_engine.channels import brevo, resend, telegram, twilio
from alerts_engine.cli import app
from alerts_engine.embedded import FOLDER, embedded_postgres
from alerts_engine.phases import rules
from alerts_engine.phases.send.backoff import RetryPolicy
from alerts_engine.phases.send.row_update import Provider, row_update_for
from alerts_engine.rendering import views
from alerts_engine.sandbox import Fault
from alerts_engine.settings import PlanQuota, Settings, accepted, variable_name
from alerts_engine.statements import folder, load, migration_ids
from alerts_engine.types import (
    ChannelDown,
    DownCause,
    Failed,
    Outcome,
    Retry,
    Sent,
    Skipped,
    SkipReason,
    Status,
    Uncertain,
)
from tests.acceptance.conftest import CommandLine, add_news, answer_of
from tests.support.places import workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from enum import StrEnum

    import psycopg
    from click import Command, Group

    from alerts_engine.sandbox import Sandbox
    from alerts_engine.statements import Source

REPOSITORY = Path(__file__).parent.parent.parent
DOCUMENTS = ("README.md", "replit.md", "CHANGELOG.md")
NEW = "new"
"""Where a row comes from that was not there before."""
Transition = tuple[str, str, str, str]
"""Table, from, to, and the statement that does it."""


# --- reading the documents ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, and its lines."""

    language: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def file(self) -> str | None:
        """Where it is to be saved, when its first line says so."""
        found = re.search(r"\bfile: (\S+)", self.lines[0])
        return found[1] if found else None


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text("utf-8")


def blocks(document: str) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(document), re.MULTILINE | re.DOTALL)
    return [Block(language, tuple(body.rstrip("\n").split("\n"))) for language, body in found]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of replit.md, without its head."""
    below = text_of("replit.md").split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"^\|.*?\n(?!\|)", below, re.MULTILINE | re.DOTALL)
    assert rows is not None, heading
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows[0].splitlines()]
    return cells[2:]


def names(cell: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


# --- what is executed -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reader:
    """Somebody who follows a document from its top to its end, on a database and a sandbox of their own."""

    shell: CommandLine
    connection: psycopg.Connection

    async def follow(self, block: Block) -> None:
        match block.language:
            case "sh":
                await self._type(block)
            case "python":
                answer = await self.shell("-c", block.text, program=(sys.executable,))
                assert answer.code == 0, answer.err
            case "sql" | "jinja" if block.file is not None:
                path = self.shell.folder / block.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text)
            case "sql":
                self.connection.execute(block.text.encode())
                self.connection.commit()
            case "ini":
                variables = {line.split("=")[0] for line in block.lines if not line.startswith("#")}
                assert variables <= {variable_name(name) for name in Settings.model_fields}
            case "json":
                Fault.from_json(block.text.encode())
            case "text" | "mermaid":
                pass
            case other:
                pytest.fail(f"nobody knows what to do with a block of {other!r}")

    async def _type(self, block: Block) -> None:
        own: dict[str, str] = {}
        for line in block.lines:
            words = shlex.split(line, comments=True)
            match words:
                case []:
                    pass
                case ["export", assignment]:
                    name, value = assignment.split("=", 1)
                    assert name in {variable_name(one) for one in Settings.model_fields}, name
                    own |= {} if name in self.shell.settings else {name: value}
                case ["make", target]:
                    planned = await CommandLine(REPOSITORY).start("-n", target, program=("make",))
                    assert (await answer_of(planned)).code == 0, line
                case ["alerts-engine", "sandbox", *options]:
                    await self._serve(["sandbox", *options, "--port", "0"])
                case ["alerts-engine", *arguments]:
                    answer = await self.shell(*[self._known(word) for word in arguments], **own)
                    assert answer.code == 0, f"{line}: {answer.err}"
                case ["python", "-m", *arguments]:
                    answer = await self.shell("-m", *arguments, program=(sys.executable,), **own)
                    assert answer.code == 0, f"{line}: {answer.err}"
                case _:
                    pytest.fail(f"nobody executes {line!r}")

    async def _serve(self, arguments: list[str]) -> None:
        process = await self.shell.start(*arguments)
        assert process.stdout is not None
        assert b"export" in await process.stdout.readuntil(b"TWILIO_BASE_URL=")
        process.send_signal(signal.SIGTERM)
        assert (await answer_of(process)).code == 0

    def _known(self, word: str) -> str:
        """``RUN_ID`` stands for the newest run."""
        if word != "RUN_ID":
            return word
        row = self.connection.execute(
            "SELECT run_id FROM alerts_engine_runs ORDER BY started_at DESC LIMIT 1"
        ).fetchone()
        self.connection.rollback()
        assert row is not None
        return str(row[0])


@pytest.fixture
async def reader(sandbox: Sandbox, postgresql: psycopg.Connection, database_url: str) -> AsyncIterator[Reader]:
    """A database with instant messages and a digest in it, and a folder for an embedded server, which runs already."""
    place = workshop() / f"docs-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    add_news(postgresql, users=9)
    shell = CommandLine(place, {"DATABASE_URL": database_url, **sandbox.settings})
    await shell.has_run()
    postgresql.execute("INSERT INTO user_notification_settings (user_id, digest_only) VALUES (2, TRUE)")
    postgresql.execute("INSERT INTO events (title, region, severity_score) VALUES ('Strike in the port', 'Asia', 4)")
    postgresql.commit()
    await shell.has_run()
    with embedded_postgres(place / FOLDER):
        yield Reader(shell, postgresql)
    shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
async def test_everything_shown_works(reader: Reader, document: str):
    """Commands, scripts, SQL and settings do, one after the other, what the reader expects (CLI-1, CLI-2)."""
    for block in blocks(document):
        await reader.follow(block)


@pytest.mark.slow
async def test_extract_of_the_demo_is_what_it_shows(reader: Reader):
    """The demo plays history, so its tables come out the same every time (F-2)."""
    shown = next(block for block in blocks("README.md") if block.language == "text")
    answer = await reader.shell("demo")
    assert answer.code == 0, answer.err
    told = {" ".join(line.split()) for line in answer.out.splitlines()}
    assert {" ".join(line.split()) for line in shown.lines if line} <= told


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str):
    """A file that is linked exists, and so does the heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        assert (REPOSITORY / (name or document)).is_file(), target
        headings = re.findall(r"^#+ (.+)$", text_of(name or document), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, (
            target
        )


# --- settings -------------------------------------------------------------------------------------------------------


def settings_rows() -> list[list[str]]:
    """SPEC section 4's table, from the class that reads the environment."""
    return [
        [f"`{variable_name(name)}`", _default(one.default), accepted(one), _meaning(one.description, one.annotation)]
        for name, one in Settings.model_fields.items()
    ]


def _default(value: object) -> str:
    if value is None or value in ((), {}):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _meaning(description: str | None, annotation: object) -> str:
    assert description is not None
    return f"{description} (secret)" if "SecretStr" in str(annotation) else description


def test_settings_are_all_there_with_their_defaults():
    """Exactly one row for each setting, as the code has it (section 4)."""
    assert table("## Settings") == settings_rows()


def test_built_in_plans_are_the_ones_listed():
    """The plan table is the built-in map (B-5)."""

    def allowance(number: int | None) -> str:
        return "–" if number is None else str(number)

    def row(name: str, quota: PlanQuota) -> list[str]:
        types = ", ".join(f"`{one}`" for one in quota.alert_types)
        return [name, *map(allowance, (quota.email, quota.telegram, quota.sms, quota.digests)), types]

    assert table("### Plans") == [row(name, quota) for name, quota in Settings.model_construct().plans.items()]


# --- commands -------------------------------------------------------------------------------------------------------


def commands(group: Group, path: str = "alerts-engine") -> Iterator[tuple[str, Command]]:
    """Every command that can be called, with its full name."""
    for name, command in group.commands.items():
        full = f"{path} {name}"
        if not hasattr(command, "commands"):
            yield full, command
            continue
        if command.invoke_without_command:
            yield full, command
        yield from commands(command, full)


def command_options(command: Command) -> set[str]:
    flags = (flag for one in command.params for flag in (*one.opts, *one.secondary_opts))
    return {flag for flag in flags if flag.startswith("--")} - {"--help"}


def test_commands_are_all_there_with_all_their_options():
    """No command is missing, none is invented, and the options are exactly theirs (section 3)."""
    group = get_command(app)
    listed = {re.sub(r" [A-Z_]+`$", "`", row[0]).strip("`"): names(row[1]) for row in table("## Commands")}
    assert listed == {name: command_options(command) for name, command in commands(group)}  # type: ignore[arg-type]


def test_options_are_all_explained():
    """Each that some command has, and no other."""
    section = text_of("replit.md").split("\n| option | means |\n", 1)[1].split("\n\n", 1)[0]
    explained = {flag for row in section.splitlines() for flag in names(row.split("|")[1]) if flag.startswith("--")}
    assert explained == {flag for _, command in commands(get_command(app)) for flag in command_options(command)}  # type: ignore[arg-type]


def test_every_command_is_shown_in_use():
    """So each is executed at least once."""
    shown = [line for name in DOCUMENTS for block in blocks(name) if block.language == "sh" for line in block.lines]
    unseen = {name for name, _ in commands(get_command(app)) if not any(line.startswith(name) for line in shown)}
    assert not unseen


# --- states ---------------------------------------------------------------------------------------------------------


def settled_statuses() -> set[str]:
    """What a settle can write."""
    policy = RetryPolicy(60, 3600, max_attempts=2)
    outcomes: list[tuple[Outcome, int]] = [
        (Sent("id"), 0),
        (Retry("timeout"), 0),
        (Retry("timeout"), 1),
        (Failed("brevo_400"), 0),
        (Skipped(SkipReason.CHANNEL_DISABLED), 0),
        (ChannelDown(DownCause.AUTH_FAILED, "brevo_401"), 0),
        (Uncertain("timeout"), 0),
    ]
    assert {type(outcome) for outcome, _ in outcomes} == set(Outcome.__args__)
    mute = Provider(key_seconds=None, can_ask=False, gives_up=True)
    updates = [row_update_for(outcome, attempts, policy, mute, random=0) for outcome, attempts in outcomes]
    return {str(update.status) for update in updates if update is not None}


_INSERT = re.compile(r"INSERT INTO (user_alert_deliveries|user_alert_digests)\b[^(]*\(([^)]*)\)")
_UPDATE = re.compile(
    r"UPDATE (?:/\* TABLE \*/ )?(user_alert_deliveries|user_alert_digests) AS (\w)\s+SET (.*?)(?=\s(?:FROM|WHERE)\s)",
    re.DOTALL,
)
_NEW_STATUS = re.compile(r"\bstatus = (.+?)(?=,\s+\w+ =|\Z)", re.DOTALL)


def transitions_of(source: Source) -> Iterator[Transition]:
    """Which states a statement takes rows from, and to which."""
    for insert in _INSERT.finditer(source.text):
        assert "status" not in insert[2], "an INSERT leaves the state to the column's default"
        yield insert[1], NEW, Status.QUEUED, source.name
    for update in _UPDATE.finditer(source.text):
        written = _NEW_STATUS.search(update[3])
        if written is None:
            continue
        reached = set(re.findall(r"'(\w+)'", re.sub(r"WHEN .*? THEN", "", written[1], flags=re.DOTALL)))
        if written[1] == "o.status":
            reached = settled_statuses()
        assert reached, f"{source.name}: which state does it write?"
        yield from (
            (update[1], before, after, source.name)
            for before, only in _states_before(source, update[2])
            for after in reached & only
        )


def _states_before(source: Source, alias: str) -> Iterator[tuple[str, set[str]]]:
    """The states that a statement asks for, each with the states that it may then write."""
    condition = re.compile(rf"(?:o\.status = '(\w+)' AND )?\b{alias}\.status (?:= '(\w+)'|IN \(([^)]*)\))")
    # A row has a lease exactly while it is being sent.
    text = source.text.replace(f"{alias}.lease_expires_at IS NOT NULL", f"{alias}.status = 'sending'")
    asked = list(condition.finditer(text))
    assert asked, f"{source.name}: from which state?"
    for one in asked:
        only = {one[1]} if one[1] else {str(status) for status in Status}
        yield from ((before, only) for before in re.findall(r"\w+", one[2] or one[3]))


def transitions_in_sql() -> set[Transition]:
    files = [path.stem for path in folder("sql").glob("*.sql")]
    return {one for file in files for source in load(file).values() for one in transitions_of(source)}


def transitions_in_document() -> set[Transition]:
    found = set()
    for which, before, after, statements, _ in table("## States"):
        short = {"deliveries": ["deliveries"], "digests": ["digests"], "both": ["deliveries", "digests"]}[which]
        found |= {
            (f"user_alert_{one}", before.strip("`"), after.strip("`"), name.replace("*", one))
            for one in short
            for name in names(statements)
        }
    return found


def test_transitions_are_those_of_the_sql():
    """Every change of state that a statement makes is in the table, and nothing else is (DB-7)."""
    assert transitions_in_document() == transitions_in_sql()


def test_picture_of_the_states_says_what_the_table_says():
    """The same arrows, drawn."""
    picture = next(block for block in blocks("replit.md") if block.lines[0] == "stateDiagram-v2")
    drawn = re.findall(r"^\s*(\S+) --> (\w+)", picture.text, re.MULTILINE)
    assert {(NEW if one == "[*]" else one, other) for one, other in drawn} == {
        (one, other) for _, one, other, _ in transitions_in_document()
    }


def test_states_are_those_that_the_database_knows(postgresql: psycopg.Connection):
    """The CHECKs of both tables, the column's default and the diagram have one set of states (DB-6, DB-7)."""
    drawn = {state for _, before, after, _ in transitions_in_document() for state in (before, after)} - {NEW}
    for name in ("user_alert_deliveries", "user_alert_digests"):
        row = postgresql.execute(
            "SELECT pg_get_constraintdef(c.oid), pg_get_expr(d.adbin, d.adrelid) FROM pg_constraint AS c "
            "JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attname = 'status' "
            "JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE c.conname = %s",
            [f"{name}_status_known"],
        ).fetchone()
        assert row is not None
        assert set(re.findall(r"'(\w+)'", row[0])) == drawn == set(Status)
        assert re.findall(r"'(\w+)'", row[1]) == ["queued"]


# --- lists ----------------------------------------------------------------------------------------------------------


def outcome_rows() -> list[list[str]]:
    """One row for each provider and meaning, from the providers' own tables."""
    rows = []
    for module in (brevo, resend, telegram, twilio):
        meanings: dict[StrEnum, list[str]] = {}
        for (status, code), meaning in module.OUTCOMES.rows.items():
            answer = " ".join(str(part) for part in (status, code) if part is not None)
            meanings.setdefault(meaning, []).append(f"`{answer}`")
        for meaning, answers in meanings.items():
            word = f"channel down: `{meaning}`" if isinstance(meaning, DownCause) else meaning.replace("_", " ")
            rows.append([module.OUTCOMES.provider, word, ", ".join(answers)])
    return rows


def test_provider_answers_are_those_of_the_tables():
    """What each answer means is listed as the adapters have it (C-6, C-7)."""
    assert table("### Answers of the providers") == outcome_rows()


def test_modules_named_are_there():
    """The floors are built of modules that exist."""
    named = [name for row in table("## Architecture") for name in names(row[1]) if not name.startswith(".")]
    assert named
    for name in named:
        found = REPOSITORY / "alerts_engine" / name
        assert found.is_dir() or found.with_suffix(".py").is_file(), name


def test_migrations_are_all_there():
    """One line each, in order (DB-2)."""
    assert [row[0].strip("`") for row in table("## Migrations")] == list(migration_ids())


def test_dependencies_are_all_there():
    """Each says why it is there, and none is missing."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    wanted = project["dependencies"] + [
        one for name in ("embedded", "fastapi", "speed") for one in project["optional-dependencies"][name]
    ]
    assert [row[0].strip("`") for row in table("## Dependencies")] == [re.split(r"[>\[;]", one)[0] for one in wanted]


def test_columns_of_a_rule_are_all_there():
    """What a rule returns, and how much is too much (A-1)."""
    assert {row[0].strip("`") for row in table("## Rules")} == set(rules.COLUMNS)
    section = text_of("replit.md").split("\n## Rules\n")[1].split("\n## ")[0]
    assert f"{rules.MOST_EVENTS:,}" in section
    assert f"{rules.PATIENCE.removesuffix('s')} seconds" in section


def test_templates_and_their_fields_are_all_there():
    """What can be replaced, and what it may say (M-1)."""
    packaged = {path.name for path in (REPOSITORY / "alerts_engine" / "rendering" / "templates").iterdir()}
    assert {row[0].strip("`") for row in table("## Templates")} == packaged
    shown = {row[0].strip("`"): names(row[1]) for row in table("### What a template may say")}
    classes = {
        "alert": views.AlertView,
        "digest": views.DigestView,
        "digest.rest": views.RestView,
        "digest.by_severity": views.Tally,
    }
    expected = {name: {one.name for one in dataclasses.fields(view)} for name, view in classes.items()}
    assert shown == expected | {"everywhere": {"preferences_link"}}


def test_faults_of_the_sandbox_are_all_there():
    """Every field of a fault is explained."""
    assert {row[0].strip("`") for row in table("### Faults on demand")} == {
        one.name for one in dataclasses.fields(Fault)
    } - {"_"}
