"""The command ``migrate``: bring the database to this version's shape (SPEC DB-2).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, exit_with, url_of
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import AsJson, Embedded, LogJson, Verbose  # noqa: TC001 - typer reads them
from alerts_engine.commands.tables.words import many


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "migrate",
            "migrate --check",
            done="nothing is pending (any more)",
            failed=f"--check: something is pending; else: {BROKE}",
        )
    )(migrate)


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when something is pending.")] = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Bring the database to this version's shape. Twice is a no-op."""
    with command(Output(as_json, log_json, verbose)) as (given, console):
        from alerts_engine import schema

        with database_settings(given, embedded=embedded, migrated=False) as settings:
            applied = [] if check else schema.apply(url_of(settings))
            pending = schema.pending(url_of(settings))
        if console.as_json:
            console.json({"applied": applied, "pending": pending})
        else:
            console.say(*(f"applied  {name}" for name in applied), *(f"pending  {name}" for name in pending))
            console.say(f"{many(len(applied), 'migration')} applied, {len(pending) or 'none'} pending")
        exit_with(ok=not pending)
