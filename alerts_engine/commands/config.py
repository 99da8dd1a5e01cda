"""The command ``config show``: every setting, its value, and where it came from (SPEC section 3, CLI-6a).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import typer

from alerts_engine.commands.frame import Output, command, exit_with
from alerts_engine.commands.help_text import epilog
from alerts_engine.commands.options import AsJson, LogJson, Verbose  # noqa: TC001 - typer reads them at run time
from alerts_engine.settings import SettingProblem, Settings, load_usable_settings

config_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(config_app, name="config")


@config_app.callback(epilog=epilog("config show"))
def config() -> None:
    """Show the settings."""


@config_app.command(
    "show", epilog=epilog("config show", "config show --json", failed="a setting cannot be used, and is named")
)
def show_config(as_json: AsJson = False, log_json: LogJson = False, verbose: Verbose = False) -> None:
    """Show every setting, its value, and where it came from.

    Secrets are masked.
    """
    problems: list[SettingProblem] = []

    def load() -> Settings:
        settings, found = load_usable_settings()
        problems.extend(found)
        return settings

    with command(Output(as_json, log_json, verbose), load=load) as (settings, console):
        from alerts_engine.operations.configuration import configuration

        found = configuration(settings, problems)
        if console.as_json:
            from alerts_engine.reports import to_json

            by_name = {one.pop("variable"): one for one in to_json(found.settings)}
            console.json({"settings": by_name, "warnings": list(found.warnings), "errors": list(found.errors)})
        else:
            from alerts_engine.commands.tables.config import config_blocks

            console.draw(*config_blocks(found))
        exit_with(ok=found.ok)
