"""Command-line options that several commands have."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.types import EARLIEST_NOW, LATEST_NOW, Phase

if TYPE_CHECKING:
    from alerts_engine.operations.runs import RunName


def parse_moment(text: str) -> datetime:
    """A moment with a time zone; anything else is wrong usage, exit 2 (SPEC CLI-2)."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time such as 2022-02-24T10:00:00+00:00") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: add one, as in 2022-02-24T10:00:00+00:00 or …T10:00:00Z")
    if not EARLIEST_NOW <= moment <= LATEST_NOW:
        raise typer.BadParameter(f"{text!r} is not between the years {EARLIEST_NOW.year} and {LATEST_NOW.year}")
    return moment


def parse_run_name(text: str) -> RunName:
    """A run's id, the first characters of one, or ``last``; anything else is wrong usage, exit 2 (SPEC CLI-6b)."""
    from alerts_engine.operations.runs import RunName

    try:
        return RunName.of(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a run's id, the first characters of one, or last", param_hint="RUN_ID"
        ) from None


MOST = 2**63 - 1
"""No id in PostgreSQL is larger."""

PhaseOption = Annotated[Phase, typer.Option("--phase", help="One phase, or all: a, b, d, c.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing, send nothing.")]
Now = Annotated[
    datetime | None, typer.Option("--now", parser=parse_moment, metavar="ISO8601", help="Replay another moment.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of tables.")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Logs as JSON lines; on by default when CI=true.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log everything.")]
Embedded = Annotated[bool, typer.Option("--embedded", help="Use a PostgreSQL kept in .alerts-engine/ here.")]

ChannelName = Annotated[str | None, typer.Option("--channel", help="Only this channel.")]
SinceHours = Annotated[float, typer.Option("--since-hours", min=0, help="What ended within this many hours.")]

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="Its id, the first characters of it, or last.")]


def refuse_options_before_a_command(context: typer.Context) -> None:
    """``runs --json show ID`` would lose its ``--json``: wrong usage, exit 2. Called where a group has a command."""
    given = [
        name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        flags = " ".join(f"--{name.removeprefix('as_').replace('_', '-')}" for name in given)
        raise typer.BadParameter(f"put {flags} behind {context.invoked_subcommand}")
