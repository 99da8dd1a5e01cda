"""What the documents list is compared with the code."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from alerts_engine.channels import brevo, resend, telegram, twilio
from alerts_engine.cli import app
from alerts_engine.phases import rules
from alerts_engine.rendering import views
from alerts_engine.sandbox import Fault
from alerts_engine.settings import PlanQuota, Settings, accepted, variable_name
from alerts_engine.statements import migration_ids
from alerts_engine.types import DownCause
from tests.support.documents import DOCUMENTS, MANUAL, REPOSITORY, anchors, blocks, names, table, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import StrEnum

    from click import Command, Group

CONTRIBUTING = ".github/CONTRIBUTING.md"
RENDERING = "alerts_engine/rendering/README.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str):
    """A file or folder that is linked exists, and so does the heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = ((REPOSITORY / document).parent / name).resolve() if name else REPOSITORY / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(str(path.relative_to(REPOSITORY))), target


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
    assert table(MANUAL, "## Settings") == settings_rows()


def test_built_in_plans_are_the_ones_listed():
    """The plan table is the built-in map (B-5)."""

    def allowance(number: int | None) -> str:
        return "–" if number is None else str(number)

    def row(name: str, quota: PlanQuota) -> list[str]:
        types = ", ".join(f"`{one}`" for one in quota.alert_types)
        return [name, *map(allowance, (quota.email, quota.telegram, quota.sms, quota.digests)), types]

    assert table("sql/README.md", "### Plans") == [
        row(name, quota) for name, quota in Settings.model_construct().plans.items()
    ]


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
    listed = {re.sub(r" [A-Z_]+`$", "`", row[0]).strip("`"): names(row[1]) for row in table(MANUAL, "## Commands")}
    assert listed == {name: command_options(command) for name, command in commands(group)}  # type: ignore[arg-type]


def test_options_are_all_explained():
    """Each that some command has, and no other."""
    section = text_of(MANUAL).split("\n| option | means |\n", 1)[1].split("\n\n", 1)[0]
    explained = {flag for row in section.splitlines() for flag in names(row.split("|")[1]) if flag.startswith("--")}
    assert explained == {flag for _, command in commands(get_command(app)) for flag in command_options(command)}  # type: ignore[arg-type]


def test_every_command_is_shown_in_use():
    """So each is executed at least once."""
    shown = [line for name in DOCUMENTS for block in blocks(name) if block.language == "sh" for line in block.lines]
    unseen = {name for name, _ in commands(get_command(app)) if not any(line.startswith(name) for line in shown)}
    assert not unseen


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
    assert table("alerts_engine/channels/README.md", "## Answers of the providers") == outcome_rows()


def test_modules_named_are_there():
    """The floors are built of modules that exist."""
    named = [name for row in table(CONTRIBUTING, "## Floors") for name in names(row[1]) if not name.startswith(".")]
    assert named
    for name in named:
        found = REPOSITORY / "alerts_engine" / name
        assert found.is_dir() or found.with_suffix(".py").is_file(), name


def test_migrations_are_all_there():
    """One line each, in order (DB-2)."""
    assert [row[0].strip("`") for row in table("migrations/README.md", "# Migrations")] == list(migration_ids())


def test_dependencies_are_all_there():
    """Each says why it is there, and none is missing."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    wanted = project["dependencies"] + [
        one for name in ("embedded", "fastapi", "speed") for one in project["optional-dependencies"][name]
    ]
    assert [row[0].strip("`") for row in table(CONTRIBUTING, "## Dependencies")] == [
        re.split(r"[>\[;]", one)[0] for one in wanted
    ]


def test_columns_of_a_rule_are_all_there():
    """What a rule returns, and how much is too much (A-1)."""
    assert {row[0].strip("`") for row in table("sql/rules/README.md", "# Rules")} == set(rules.COLUMNS)
    page = text_of("sql/rules/README.md")
    assert f"{rules.MOST_EVENTS:,}" in page
    assert f"{rules.PATIENCE.removesuffix('s')} seconds" in page


def test_templates_and_their_fields_are_all_there():
    """What can be replaced, and what it may say (M-1)."""
    packaged = {path.name for path in (REPOSITORY / "alerts_engine" / "rendering" / "templates").iterdir()}
    assert {row[0].strip("`") for row in table(RENDERING, "## Templates")} == packaged
    shown = {row[0].strip("`"): names(row[1]) for row in table(RENDERING, "### What a template may say")}
    classes = {
        "alert": views.AlertView,
        "digest": views.DigestView,
        "digest.rest": views.RestView,
        "digest.by_severity": views.Tally,
    }
    expected = {name: {one.name for one in dataclasses.fields(view)} for name, view in classes.items()}
    assert shown == expected | {"everywhere": {"preferences_link", "why", "unsubscribe_url", "preferences_url"}}


def test_faults_of_the_sandbox_are_all_there():
    """Every field of a fault is explained."""
    assert {row[0].strip("`") for row in table("alerts_engine/sandbox/README.md", "## Faults on demand")} == {
        one.name for one in dataclasses.fields(Fault)
    } - {"_"}
