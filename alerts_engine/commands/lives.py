"""The commands ``delivery show`` and ``digest show``: what became of one row (SPEC section 3).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import MOST, AsJson, Embedded, LogJson, Verbose

if TYPE_CHECKING:
    from alerts_engine.operations.delivery_life import Life
    from alerts_engine.settings import Settings

delivery_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look at one delivery.")
digest_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look at one digest.")

DeliveryId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MOST, help="Its id: failures and explain name it.")]
DigestId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MOST, help="Its id: delivery show names it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(delivery_app, name="delivery", epilog=epilog("delivery show 17"))
    app.add_typer(digest_app, name="digest", epilog=epilog("digest show 3"))


@delivery_app.callback()
def _deliveries() -> None:
    """Look at one delivery."""


@digest_app.callback()
def _digests() -> None:
    """Look at one digest."""


@delivery_app.command(
    "show", epilog=epilog("delivery show 17", "delivery show 17 --json", failed=f"there is no such delivery, {BROKE}")
)
def show_delivery(
    delivery_id: DeliveryId,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Tell a delivery's life.

    Created, each attempt and what came of it, its end, and what comes next.
    """
    _show(Output(as_json, log_json, verbose), delivery_id, is_digest=False, embedded=embedded)


@digest_app.command(
    "show", epilog=epilog("digest show 3", "digest show 3 --json", failed=f"there is no such digest, {BROKE}")
)
def show_digest(
    digest_id: DigestId,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Tell a digest's life.

    Its window, its deliveries, each attempt and what came of it, and what comes next.
    """
    _show(Output(as_json, log_json, verbose), digest_id, is_digest=True, embedded=embedded)


def _show(output: Output, row_id: int, *, is_digest: bool, embedded: bool) -> None:
    with command(output) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_life(settings, row_id, is_digest=is_digest))
        if console.as_json:
            console.json(found)
        else:
            from alerts_engine.commands.tables.lives import life_blocks

            console.draw(*life_blocks(found))


async def _life(settings: Settings, row_id: int, *, is_digest: bool) -> Life:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await (engine.digest_life(row_id) if is_digest else engine.delivery_life(row_id))
