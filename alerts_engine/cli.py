"""The command line: its commands, each a module of its own, composed (SPEC section 3)."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from alerts_engine import __version__
from alerts_engine.commands import (
    config,
    demo,
    explain,
    failures,
    health,
    lives,
    migrate,
    preflight,
    preview,
    prune,
    retry_failed,
    rules,
    run,
    runs,
    sandbox,
    serve,
    summary,
    templates,
)
from alerts_engine.commands.help_text import epilog

app = typer.Typer(
    name="alerts-engine",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code: 0, 1 (error, or a phase failed) or 2 (wrong usage) (SPEC CLI-2)."""
    app(arguments, prog_name="alerts-engine")
    sys.exit(0)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"alerts-engine {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]


@app.callback(epilog=epilog("migrate", "preflight", "run --phase all", "runs show last"))
def alerts_engine(version: Version = False) -> None:
    """Turn risk data in your PostgreSQL into alerts, and send them by email, Telegram and SMS."""


for module in (
    run,
    migrate,
    serve,
    sandbox,
    demo,
    explain,
    preview,
    preflight,
    health,
    runs,
    failures,
    lives,
    retry_failed,
    rules,
    templates,
    config,
    summary,
    prune,
):
    module.register(app)
