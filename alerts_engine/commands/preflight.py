"""The command ``preflight``: what would keep a run from doing its work (SPEC section 12).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import epilog
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
    from alerts_engine.operations.findings import Findings
    from alerts_engine.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "preflight",
            "preflight --phase c --json",
            "preflight --check-credentials",
            done="no errors; there may be warnings",
            failed="at least one error: a run would not do its work",
        )
    )(preflight)


def preflight(  # noqa: PLR0917 - typer gives them by name
    phase: PhaseOption = Phase.ALL,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
    check_credentials: Annotated[
        bool, typer.Option("--check-credentials", help="Ask each configured provider whether it takes its key.")
    ] = False,
) -> None:
    """Say what would keep a run from working, all of it at once.

    Looks at settings, database, rules and templates; changes nothing.
    """
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
                problems.append(SettingProblem(("DATABASE_URL",), str(error)))
                settings = given.model_copy(update={"database_url": None})
        findings = run_loop(find(settings, phase, dry_run=dry_run, problems=problems, ask_providers=check_credentials))
        _add_to_step_summary(findings, given)
        if console.as_json:
            console.json(findings)
        else:
            from alerts_engine.commands.tables.preflight import preflight_marks

            console.draw(preflight_marks(findings))
        if not findings.ok:
            raise typer.Exit(1)


def _add_to_step_summary(findings: Findings, settings: Settings) -> None:
    """What keeps a job from running stands on its page (SPEC R-4)."""
    if settings.github_step_summary is None:
        return
    from alerts_engine.commands.step_summary import append_step_summary, preflight_markdown

    page = preflight_markdown(findings)
    if page is not None:
        append_step_summary(page, settings)
