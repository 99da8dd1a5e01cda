"""The command ``explain``: why somebody gets an alert, or does not (SPEC B-9).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import MOST, AsJson, Embedded, LogJson, Verbose

if TYPE_CHECKING:
    from alerts_engine.operations.explain import Explanation
    from alerts_engine.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "explain --user 17",
            "explain --user 17 --event 5 --json",
            "explain --user reader@example.com",
            failed=f"there is no such user or event, or several have this address; {BROKE}",
        )
    )(explain)


def explain(  # noqa: PLR0917 - typer gives them by name
    user: Annotated[
        str,
        typer.Option("--user", metavar="ID|ADDRESS", help="Whom to explain it for: an id, an email address, a number."),
    ],
    event: Annotated[
        int | None, typer.Option("--event", min=1, max=MOST, help="One event; without it the ten newest, in short.")
    ] = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Say why a user does or does not get an event.

    Channel by channel, with what came of it.
    """
    _check_user(user)
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            user_id, found = run_loop(_explain(settings, user, event))
        if console.as_json:
            console.json({"user_id": user_id, "explanations": found})
            return
        from alerts_engine.commands.tables.explain import explanation_tables, explanations_table

        if event is None:
            console.draw(explanations_table(user_id, found))
        else:
            console.draw(*(table for one in found for table in explanation_tables(one)))


def _check_user(user: str) -> None:
    """A number that no user can have is wrong usage, exit 2 (SPEC CLI-2)."""
    if not user.strip():
        raise typer.BadParameter("give a user's id or address", param_hint="--user")
    if user.isascii() and user.isdecimal() and not 1 <= int(user[:20]) <= MOST:
        raise typer.BadParameter(f"{user} is not a number from 1 to {MOST}", param_hint="--user")


async def _explain(settings: Settings, user: str, event_id: int | None) -> tuple[int, list[Explanation]]:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        user_id = await engine.user_named(user)
        return user_id, await engine.explain(user_id, event_id)
