"""The command ``failures``: what is wrong now, by cause (SPEC O-6).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import epilog
from alerts_engine.commands.options import (  # noqa: TC001 - typer reads them
    AsJson,
    ChannelName,
    Embedded,
    LogJson,
    SinceHours,
    Verbose,
)

if TYPE_CHECKING:
    from alerts_engine.operations.failures import FailureReport
    from alerts_engine.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog=epilog("failures", "failures --cause brevo_401 --limit 50", "failures --channel sms --json"))(
        failures
    )


def failures(  # noqa: PLR0917 - typer gives them by name
    since_hours: SinceHours = 24,
    channel: ChannelName = None,
    cause: Annotated[str | None, typer.Option("--cause", help="A code: list its deliveries and digests.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many of each on a page.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="What the page before ended with.")] = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Say what is wrong now, by cause.

    Since when, whom it touches, and what to do.
    """
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_failures(settings, since_hours, channel, cause, limit, cursor))
        if console.as_json:
            console.json(found)
        else:
            from alerts_engine.commands.tables.failures import failure_blocks

            console.draw(*failure_blocks(found, cause))


async def _failures(  # noqa: PLR0917 - one after the other, as the command has them
    settings: Settings, since_hours: float, channel: str | None, cause: str | None, limit: int, cursor: str | None
) -> FailureReport:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.failures(since_hours=since_hours, channel=channel, cause=cause, limit=limit, cursor=cursor)
