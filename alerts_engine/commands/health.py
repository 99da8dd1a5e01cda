"""The command ``health``: what is wrong first, and what to do next to it (SPEC O-4).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, exit_with, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import AsJson, Embedded, LogJson, Verbose  # noqa: TC001 - typer reads them

if TYPE_CHECKING:
    from alerts_engine.operations.health import HealthReport
    from alerts_engine.settings import Settings


class FailOn(StrEnum):
    """From which status on the exit code is 1."""

    DEGRADED = "degraded"
    FAILING = "failing"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "health",
            "health --json --fail-on degraded",
            done="ok or degraded (with --fail-on degraded: ok)",
            failed=f"failing, or {BROKE}",
        )
    )(health)


def health(
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="From which status on the exit code is 1.")
    ] = FailOn.FAILING,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Say whether alerts go out.

    What is wrong comes first, and next to it what helps; then what was done in the last day.
    """
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_health(settings))
        if console.as_json:
            console.json(found)
        else:
            from alerts_engine.commands.tables.health import health_blocks

            console.draw(*health_blocks(found))
        _add_to_summary(found, given)
        bad = {FailOn.DEGRADED: {"degraded", "failing"}, FailOn.FAILING: {"failing"}}[fail_on]
        exit_with(ok=found.status not in bad)


def _add_to_summary(found: HealthReport, settings: Settings) -> None:
    if settings.github_step_summary is not None and found.problems:
        from alerts_engine.commands.step_summary import append_step_summary, health_markdown

        append_step_summary(health_markdown(found), settings)


async def _health(settings: Settings) -> HealthReport:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.health()
