"""The command ``preflight``: what would keep a run from doing its work (SPEC section 12).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.options import (  # noqa: TC001 - typer reads them at run time
    AsJson,
    DryRun,
    Embedded,
    LogJson,
    PhaseOption,
    Verbose,
)
from alerts_engine.errors import AlertsEngineError
from alerts_engine.settings import SettingProblem, load_usable_settings
from alerts_engine.types import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from alerts_engine.operations.preflight import Findings
    from alerts_engine.settings import Settings

_MARKS = {True: "✓", False: "✗"}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(preflight)


def preflight(  # noqa: PLR0917 - typer gives them by name
    phase: PhaseOption = Phase.ALL,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Check settings, database, rules and templates before a run; exit 1 when one would keep it from working."""
    problems: list[SettingProblem] = []

    def load() -> Settings:
        settings, found = load_usable_settings()
        problems.extend(found)
        return settings

    with command(Output(as_json, log_json, verbose), load=load) as (given, console), ExitStack() as stack:
        from alerts_engine.operations.preflight import preflight as find

        settings = given
        if embedded:
            try:
                settings = stack.enter_context(database_settings(given, embedded=True))
            except AlertsEngineError as error:
                problems.append(SettingProblem(("database_url",), str(error)))
                settings = given.model_copy(update={"database_url": None})
        findings = run_loop(find(settings, phase, dry_run=dry_run, problems=problems))
        if console.as_json:
            console.json(findings.as_json())
        else:
            console.draw(_table_of(findings))
        if not findings.ok:
            raise typer.Exit(1)


def _table_of(findings: Findings) -> Table:
    from alerts_engine.commands.console import table_of

    found = findings.as_json()
    caption = f"{len(found['errors'])} error(s), {len(found['warnings'])} warning(s)"
    return table_of("preflight", ("", "what"), _rows(findings), caption)


def _rows(findings: Findings) -> Iterator[tuple[str, str]]:
    found = findings.as_json()
    yield _MARKS[findings.db_ok], "the database answers"
    yield _MARKS[findings.migrations_ok], "every migration is applied"
    for channel, is_configured in findings.channels_configured.items():
        yield ("✓", f"{channel} is configured") if is_configured else ("–", f"{channel} is not configured")
    yield from (("✗", error) for error in found["errors"])
    yield from (("!", warning) for warning in found["warnings"])
