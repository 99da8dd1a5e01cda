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
            failed=f"there is no such user or event, {BROKE}",
        )
    )(explain)


def explain(  # noqa: PLR0917 - typer gives them by name
    user: Annotated[int, typer.Option("--user", min=1, max=MOST, help="Whom to explain it for.")],
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
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_explain(settings, user, event))
        if console.as_json:
            console.json({"user_id": user, "explanations": found})
            return
        from alerts_engine.commands.tables.explain import explanation_tables, explanations_table

        if event is None:
            console.draw(explanations_table(user, found))
        else:
            console.draw(*(table for one in found for table in explanation_tables(one)))


async def _explain(settings: Settings, user_id: int, event_id: int | None) -> list[Explanation]:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.explain(user_id, event_id)
