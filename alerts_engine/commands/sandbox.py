"""The command ``sandbox``: serve the providers' doubles.

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, on_signal, run_loop
from alerts_engine.commands.options import LogJson, Verbose  # noqa: TC001 - typer reads them at run time

if TYPE_CHECKING:
    from alerts_engine.commands.console import Console


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(sandbox)


def sandbox(
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8025,
    log_json: LogJson = False,
    verbose: Verbose = False,
) -> None:
    """Serve fake providers that speak the real wire formats, with an inbox of what they got."""
    with command(Output(log_json=log_json, verbose=verbose)) as (_, console):
        run_loop(_serve_sandbox(console, host, port))


async def _serve_sandbox(console: Console, host: str, port: int) -> None:
    import shlex

    from alerts_engine.demo.providers import provider_settings
    from alerts_engine.sandbox import run_forever

    def tell(url: str) -> None:
        exports = (f"export {name}={shlex.quote(value)}" for name, value in provider_settings(url).items())
        console.say(f"# inbox: {url} (Ctrl-C ends it); the engine sends here with these settings:", *exports)

    stop = asyncio.Event()
    with on_signal(stop.set):
        await run_forever(host, port, tell, stop)
