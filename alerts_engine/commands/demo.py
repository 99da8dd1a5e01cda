"""The command ``demo``: weeks of real history, replayed on an embedded PostgreSQL (SPEC F-2).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import (
    Output,
    command,
    database_settings,
    exit_with,
    on_signal,
    program_name,
    run_loop,
    url_of,
)
from alerts_engine.commands.help_text import epilog
from alerts_engine.commands.options import AsJson, LogJson, Verbose  # noqa: TC001 - typer reads them at run time
from alerts_engine.reports import to_json

if TYPE_CHECKING:
    from alerts_engine.commands.console import Console
    from alerts_engine.demo.story import Played
    from alerts_engine.sandbox import Sandbox

_INBOX_FILE = "demo-inbox.html"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog=epilog("demo", "demo --no-wait --json"))(demo)


def demo(
    wait: Annotated[bool, typer.Option(help="On a terminal, keep the inbox open until Ctrl-C.")] = True,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
) -> None:
    """Replay three weeks of real history for made-up users.

    It brings a PostgreSQL and providers of its own, and ends with the messages.
    """
    output = Output(as_json, log_json, verbose)
    with command(output, quiet=True) as (given, console):
        on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        with database_settings(given, embedded=True) as settings:
            played = run_loop(_play_demo(url_of(settings), console, wait=wait and on_terminal and not as_json))
        exit_with(ok=played.status == "success")


async def _play_demo(url: str, console: Console, *, wait: bool) -> Played:
    from alerts_engine.commands.tables.demo import demo_tables, messages_table
    from alerts_engine.demo.story import play
    from alerts_engine.sandbox import Sandbox

    stop = asyncio.Event()
    async with Sandbox.start() as inbox:
        with on_signal(stop.set):
            with console.progress() as progress:
                played = await play(url, inbox.settings, progress=progress, stopping=stop)
            where = inbox.url if wait else _save_inbox(inbox)
            if console.as_json:
                console.json({**to_json(played), "inbox": where})
                return played
            console.draw(*demo_tables(played), messages_table(inbox.messages))
            console.say(*_what_next(where))
            if wait:
                console.say("", "Ctrl-C ends the demo.")
                await stop.wait()
    return played


def _what_next(where: str) -> list[str]:
    return [
        "",
        "Every message, as its user would see it:",
        f"  {where}",
        "",
        "On the same database:",
        f"  {program_name()} runs --embedded",
        "      the runs of the replay",
        f"  {program_name()} run --phase all --embedded",
        "      one run more: nothing is sent twice",
        f"  {program_name()} demo",
        "      all of it again",
    ]


def _save_inbox(inbox: Sandbox) -> str:
    from pathlib import Path

    from alerts_engine.demo.inbox_file import inbox_file
    from alerts_engine.embedded import FOLDER

    path = Path(FOLDER) / _INBOX_FILE
    path.write_text(inbox_file(inbox.messages, inbox.attempts), encoding="utf-8")
    return str(path)
