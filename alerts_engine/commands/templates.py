"""The commands ``templates check`` and ``templates list``: custom templates, before they are used (SPEC M-1).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import typer

from alerts_engine.commands.frame import Output, command
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import AsJson, LogJson, Verbose  # noqa: TC001 - typer reads them at run time

templates_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(templates_app, name="templates")


@templates_app.callback(epilog=epilog("templates check", "templates list"))
def templates() -> None:
    """Check custom templates, or list what there is to replace."""


@templates_app.command(
    "check",
    epilog=epilog(
        "templates check",
        "templates check --json",
        done="every template can be used",
        failed=f"a template cannot be used, {BROKE}",
    ),
)
def check_own(as_json: AsJson = False, log_json: LogJson = False, verbose: Verbose = False) -> None:
    """Try the templates of ALERTS_TEMPLATES_DIR on samples."""
    with command(Output(as_json, log_json, verbose)) as (settings, console):
        from alerts_engine.operations.templates import template_problems

        folder = settings.templates_dir
        problems = template_problems(folder)
        if console.as_json:
            console.json({"folder": folder, "problems": problems})
        elif folder is None:
            console.say("ALERTS_TEMPLATES_DIR is not set: the built-in templates are in use")
        elif problems:
            from alerts_engine.commands.tables.templates import template_problems_table

            console.draw(template_problems_table(str(folder), problems))
        else:
            console.say(f"every template in {folder} can be used")
        if problems:
            raise typer.Exit(1)


@templates_app.command("list", epilog=epilog("templates list", "templates list --json"))
def list_all(as_json: AsJson = False, log_json: LogJson = False, verbose: Verbose = False) -> None:
    """List the templates that can be replaced, and what they may say."""
    with command(Output(as_json, log_json, verbose)) as (settings, console):
        custom = settings.templates_dir
        in_use = {name: "custom" if custom and (custom / name).is_file() else "built-in" for name in _template_names()}
        fields = _view_fields()
        if console.as_json:
            console.json({"templates": in_use, "fields": fields})
        else:
            from alerts_engine.commands.tables.templates import templates_tables

            console.draw(*templates_tables(in_use, fields))


def _template_names() -> list[str]:
    from importlib.resources import files

    return sorted(file.name for file in files("alerts_engine.rendering").joinpath("templates").iterdir())


def _view_fields() -> dict[str, dict[str, str]]:
    """The fields of what templates get, by the name that they have there, or of what stands in one."""
    from dataclasses import fields

    from alerts_engine.rendering.views import AlertView, DigestView, RestView, Tally

    views = {"alert": AlertView, "digest": DigestView, "digest.rest": RestView, "digest.by_severity": Tally}
    told = {name: {field.name: str(field.type) for field in fields(view)} for name, view in views.items()}
    return told | {"everywhere": {"preferences_link": "str | None"}}
