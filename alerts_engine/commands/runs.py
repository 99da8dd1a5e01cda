"""The commands ``runs`` and ``runs show``: the run history (SPEC O-1).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import (
    AsJson,
    Embedded,
    LogJson,
    RunId,
    Verbose,
    parse_run_name,
    refuse_options_before_a_command,
)

if TYPE_CHECKING:
    from alerts_engine.operations.runs import RecordedRun, RunName
    from alerts_engine.settings import Settings

runs_app = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(runs_app, name="runs")


@runs_app.callback(invoke_without_command=True, epilog=epilog("runs --limit 5", "runs show last"))
def runs(  # noqa: PLR0917 - typer gives them by name
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many.")] = 20,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """List the newest runs, or show one."""
    if context.invoked_subcommand is not None:
        refuse_options_before_a_command(context)
        return
    with command(Output(as_json, log_json, verbose)) as (given, console):
        from alerts_engine.commands.tables.runs import runs_table

        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_newest_runs(settings, limit))
        if console.as_json:
            console.json({"runs": found})
        else:
            console.draw(runs_table(found))


async def _newest_runs(settings: Settings, limit: int) -> list[RecordedRun]:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.recorded_runs(limit)


@runs_app.command(
    "show",
    epilog=epilog(
        "runs show last",
        "runs show 3f2a --json",
        failed=f"no run has this id, or several begin with it; {BROKE}",
    ),
)
def show_run(
    run_id: RunId,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Show one run and its phases. RUN_ID is an id, the first characters of one, or “last”."""
    name = parse_run_name(run_id)
    with command(Output(as_json, log_json, verbose)) as (given, console):
        from alerts_engine.commands.tables.runs import recorded_run_blocks

        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_one_run(settings, name))
        if console.as_json:
            console.json(found)
        else:
            console.draw(*recorded_run_blocks(found))


async def _one_run(settings: Settings, name: RunName) -> RecordedRun:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.named_run(name)
