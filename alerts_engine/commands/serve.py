"""The command ``serve``: the admin API and the dashboard (SPEC section 11).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from alerts_engine.commands.frame import Output, command, database_settings, on_signal, run_loop
from alerts_engine.commands.help_text import epilog
from alerts_engine.commands.options import Embedded, LogJson, Verbose  # noqa: TC001 - typer reads them at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts_engine.commands.console import Console
    from alerts_engine.settings import Settings

log = structlog.get_logger("alerts_engine.command")
_NO_TOKEN = "every request gets 503 until INTERNAL_RUNNER_TOKEN is set: openssl rand -hex 32 makes one"  # noqa: S105
_SHORT_TOKEN = "INTERNAL_RUNNER_TOKEN is short enough to be guessed: openssl rand -hex 32 makes a good one"  # noqa: S105
_LEAST = 16


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "serve",
            "serve --port 9000 --embedded",
            "serve --host 0.0.0.0 --allow-host ops.example.com",
            done="it was ended by a signal",
            failed="a setting cannot be used, the database cannot be reached, the port is taken, or something broke",
        )
    )(serve)


def serve(  # noqa: PLR0917 - typer gives them by name
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8026,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name by which it may be called; repeatable."),
    ] = None,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Serve the dashboard and the admin API.

    INTERNAL_RUNNER_TOKEN opens them; without it every request is refused.
    """
    with command(Output(log_json=log_json, verbose=verbose)) as (given, console):
        _warn_of_the_token(given)
        with database_settings(given, embedded=embedded) as settings:
            run_loop(_serve(console, settings, host, port, allowed_hosts or ()))


def _warn_of_the_token(settings: Settings) -> None:
    token = settings.internal_runner_token
    if token is None:
        log.warning("admin_api_is_closed", hint=_NO_TOKEN)
    elif len(token.get_secret_value()) < _LEAST:
        log.warning("token_is_short", hint=_SHORT_TOKEN)


async def _serve(console: Console, settings: Settings, host: str, port: int, allowed_hosts: Sequence[str]) -> None:
    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.server import serve_admin
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.preferences.routes import preferences_site
    from alerts_engine.settings.links import reader_links

    stop = asyncio.Event()
    with on_signal(stop.set):
        async with AlertsEngine(settings) as engine, AsyncExitStack() as serving:
            also = [preferences_site(EngineSource(engine))] if reader_links(settings) else []
            server = serve_admin(engine, host, port, allowed_hosts=allowed_hosts, also=also)
            url = await serving.enter_async_context(server)
            console.say(f"dashboard: {url} (Ctrl-C ends it)")
            await stop.wait()
