"""The command ``summary``: a run in Markdown, for the page of a CI job (SPEC R-4).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import AsJson, Embedded, LogJson, Verbose, parse_run_name

if TYPE_CHECKING:
    from alerts_engine.operations.runs import RunName
    from alerts_engine.operations.summary import RunSummary
    from alerts_engine.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "summary",
            "summary --run 3f2a",
            failed=f"no run has this id, or several begin with it; {BROKE}",
        )
    )(summary)


def summary(
    run: Annotated[
        str, typer.Option("--run", metavar="RUN_ID", help="Its id, the first characters of it, or last.")
    ] = "last",
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Write what a run did, and what waits now, in Markdown."""
    name = parse_run_name(run)
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_summary(settings, name))
        if console.as_json:
            console.json(found)
        else:
            from alerts_engine.commands.step_summary import summary_markdown

            console.hand_over(summary_markdown(found, given).removesuffix("\n"))


async def _summary(settings: Settings, name: RunName) -> RunSummary:
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.operations.summary import summary_of_record

    async with AlertsEngine(settings) as engine:
        return summary_of_record(await engine.named_run(name), await engine.queue_state())
