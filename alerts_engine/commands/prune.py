"""The command ``prune``: end the life of what is finished and old (SPEC K-1).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, exit_with, on_signal, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import AsJson, DryRun, Embedded, LogJson, Verbose  # noqa: TC001 - typer reads them

if TYPE_CHECKING:
    from alerts_engine.commands.console import Console
    from alerts_engine.operations.prune import Pruned
    from alerts_engine.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "prune --older-than 90d --dry-run",
            "prune --older-than 90d",
            failed=f"a signal ended it (the next time goes on), {BROKE}",
        )
    )(prune)


def parse_age(text: str) -> timedelta:
    """Days or weeks, such as ``90d`` or ``12w``; anything else is wrong usage, exit 2 (SPEC CLI-2)."""
    from alerts_engine.operations.prune import GREATEST_AGE, LEAST_AGE

    found = re.fullmatch(r"([0-9]{1,6})([dw])", text)
    age = timedelta(days=int(found[1]) * (7 if found[2] == "w" else 1)) if found else timedelta(0)
    if not LEAST_AGE <= age <= GREATEST_AGE:
        raise typer.BadParameter(f"{text!r} is not an age from {LEAST_AGE.days}d to {GREATEST_AGE.days}d, such as 90d")
    return age


def prune(  # noqa: PLR0917 - typer gives them by name
    older_than: Annotated[
        timedelta, typer.Option("--older-than", parser=parse_age, metavar="AGE", help="Days or weeks: 90d, 12w.")
    ],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Delete what is finished, old, and needed by nothing.

    Deliveries, digests, events and runs, in batches that block nobody.
    """
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            pruned = run_loop(_prune(settings, console, older_than, dry_run=dry_run))
        if console.as_json:
            console.json(pruned)
        else:
            from alerts_engine.commands.tables.prune import prune_blocks

            console.draw(*prune_blocks(pruned))
        exit_with(ok=not pruned.stopped)


async def _prune(settings: Settings, console: Console, older_than: timedelta, *, dry_run: bool) -> Pruned:
    from alerts_engine.engine import AlertsEngine

    stopping = asyncio.Event()
    with (
        console.progress() as progress,
        on_signal(stopping.set, hint="the batch under way may finish; a second signal exits at once"),
    ):
        async with AlertsEngine(settings, progress=progress) as engine:
            return await engine.prune(older_than, dry_run=dry_run, stopping=stopping)
