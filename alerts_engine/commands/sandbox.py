"""The command ``sandbox``: serve the providers' doubles.

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, on_signal, run_loop
from alerts_engine.commands.help_text import epilog
from alerts_engine.commands.options import LogJson, Verbose  # noqa: TC001 - typer reads them at run time

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from alerts_engine.commands.console import Console
    from alerts_engine.sandbox import Sandbox


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "sandbox",
            "sandbox --port 0 --key BREVO_API_KEY=abc",
            done="it was ended by a signal",
            failed="a key cannot be used, the port is taken, or something broke",
        )
    )(sandbox)


def sandbox(  # noqa: PLR0917 - typer gives them by name
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8025,
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="NAME=VALUE", help="The right value of a key, such as BREVO_API_KEY=abc; repeatable."
        ),
    ] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name by which it may be called; repeatable."),
    ] = None,
    log_json: LogJson = False,
    verbose: Verbose = False,
) -> None:
    """Serve fake providers, with an inbox of what they got.

    They speak the real wire formats of Brevo, Resend, Telegram and Twilio.
    """
    with command(Output(log_json=log_json, verbose=verbose)) as (_, console):
        from alerts_engine.sandbox import Credentials, Sandbox

        served = Sandbox.start(host, port, credentials=Credentials.of(keys or ()), allowed_hosts=allowed_hosts or ())
        run_loop(_serve(console, served))


async def _serve(console: Console, served: AbstractAsyncContextManager[Sandbox]) -> None:
    import shlex

    stop = asyncio.Event()
    with on_signal(stop.set):
        async with served as sandbox:
            exports = (f"export {name}={shlex.quote(value)}" for name, value in sandbox.settings.items())
            console.say(
                f"# inbox: {sandbox.url} (Ctrl-C ends it); the engine sends here with these settings:", *exports
            )
            await stop.wait()
