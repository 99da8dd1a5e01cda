"""The command line: parse, call the engine, print (SPEC section 3). A command imports what it needs when it runs."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID  # noqa: TC003 - typer reads it at run time

import typer

from alerts_engine import __version__
from alerts_engine.commands import insight, preflight, preview
from alerts_engine.commands.frame import (
    Output,
    command,
    database_settings,
    importing,
    on_signal,
    program_name,
    run_loop,
    url_of,
)
from alerts_engine.commands.options import (  # noqa: TC001 - typer reads them at run time
    AsJson,
    DryRun,
    Embedded,
    LogJson,
    Now,
    PhaseOption,
    Verbose,
)
from alerts_engine.reports import RunStatus, to_json
from alerts_engine.types import SINCE_HOURS, Phase

if TYPE_CHECKING:
    from alerts_engine.commands.console import Console
    from alerts_engine.demo.story import Played
    from alerts_engine.operations.runs import RecordedPhase, RecordedRun
    from alerts_engine.reports import RunReport
    from alerts_engine.sandbox import Sandbox
    from alerts_engine.settings import Settings

_LONGEST_HOURS = 24 * 366 * 100
_INBOX_FILE = "demo-inbox.html"

app = typer.Typer(
    name="alerts-engine",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(rich_markup_mode=None)
app.add_typer(runs_app, name="runs")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code: 0, 1 (error, or a phase failed) or 2 (wrong usage) (SPEC CLI-2)."""
    app(arguments, prog_name="alerts-engine")
    sys.exit(0)


# --- options --------------------------------------------------------------------------------------------------------


def _check_hours(value: float) -> float:
    if not (math.isfinite(value) and 0 <= value <= _LONGEST_HOURS):
        raise typer.BadParameter(f"{value} is not in the range 0<=x<={_LONGEST_HOURS}.")
    return value


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"alerts-engine {__version__}")
        raise typer.Exit


BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Most rows one claim takes.")]
SinceHours = Annotated[
    float, typer.Option("--since-hours", callback=_check_hours, help="Fan out events this young; 0 is no limit.")
]
Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]


# --- commands -------------------------------------------------------------------------------------------------------


@app.callback()
def alerts_engine(version: Version = False) -> None:
    """Turn risk data in your PostgreSQL into alerts, and send them by email, Telegram and SMS."""


@app.command()
def run(  # noqa: PLR0917 - typer gives them by name
    phase: PhaseOption = Phase.ALL,
    dry_run: DryRun = False,
    batch_size: BatchSize = None,
    since_hours: SinceHours = SINCE_HOURS,
    now: Now = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Run phases: generate events (a), fan out (b), build digests (d), send (c)."""
    with command(Output(as_json, log_json, verbose)) as (given, console):
        if not given.enabled:
            _say_disabled(given, console, dry_run=dry_run)
            return
        with database_settings(given, embedded=embedded) as settings:
            order = {"dry_run": dry_run, "batch_size": batch_size, "since_hours": since_hours, "now": now}
            report = run_loop(_run(settings, console, phase, order))
        if console.as_json:
            console.json(to_json(report))
        else:
            from alerts_engine.commands.console import run_table

            console.draw(run_table(report))
        _exit(ok=report.status is not RunStatus.FAILED)


async def _run(settings: Settings, console: Console, phase: Phase, order: dict[str, Any]) -> RunReport:
    with importing():
        from alerts_engine.engine import AlertsEngine

    # Given to the run, not asked of the engine: the signal may come while the database is being opened.
    stopping = asyncio.Event()
    with (
        console.progress() as progress,
        on_signal(stopping.set, hint="sends in flight may finish; a second signal exits at once"),
    ):
        async with AlertsEngine(settings, progress=progress) as engine:
            return await engine.run(phase, stopping=stopping, **order)


def _say_disabled(settings: Settings, console: Console, *, dry_run: bool) -> None:
    """One log line, and the report of a run in which nothing happened (SPEC CLI-2)."""
    import structlog

    from alerts_engine.history import triggered_by

    structlog.get_logger("alerts_engine").warning("engine_disabled", variable="ALERTS_V2_ENABLED")
    if console.as_json:
        report = {"run_id": None, "status": "skipped", "dry_run": dry_run, "triggered_by": triggered_by(settings)}
        console.json({**report, "started_at": None, "finished_at": None, "duration_ms": 0, "phases": []})


@app.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when something is pending.")] = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Bring the database to this version's shape. Twice is a no-op."""
    with command(Output(as_json, log_json, verbose)) as (given, console):
        from alerts_engine import schema

        with database_settings(given, embedded=embedded, migrated=False) as settings:
            applied = [] if check else schema.apply(url_of(settings))
            pending = schema.pending(url_of(settings))
        if console.as_json:
            console.json({"applied": applied, "pending": pending})
        else:
            console.say(*(f"applied  {name}" for name in applied), *(f"pending  {name}" for name in pending))
            console.say(f"{len(applied)} applied, {len(pending)} pending")
        _exit(ok=not pending)


@runs_app.callback(invoke_without_command=True)
def runs(  # noqa: PLR0917 - typer gives them by name
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many.")] = 20,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """List the newest runs, or show one."""
    if context.invoked_subcommand is not None:
        return
    with command(Output(as_json, log_json, verbose)) as (given, console):
        from alerts_engine.commands.console import runs_table

        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_newest_runs(settings, limit))
        if console.as_json:
            console.json({"runs": to_json(found)})
        else:
            console.draw(runs_table(found))


async def _newest_runs(settings: Settings, limit: int) -> list[RecordedRun]:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.recorded_runs(limit)


@runs_app.command("show")
def show_run(
    run_id: Annotated[UUID, typer.Argument(metavar="RUN_ID")],
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Show one run and its phases."""
    with command(Output(as_json, log_json, verbose)) as (given, console):
        from alerts_engine.commands.console import recorded_run_table

        with database_settings(given, embedded=embedded) as settings:
            found, items = run_loop(_one_run(settings, run_id))
        if console.as_json:
            console.json(to_json(found) | {"items": to_json(items)})
        else:
            console.draw(recorded_run_table(found, items))


async def _one_run(settings: Settings, run_id: UUID) -> tuple[RecordedRun, list[RecordedPhase]]:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.recorded_run(run_id)


@app.command()
def sandbox(
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8025,
    log_json: LogJson = False,
    verbose: Verbose = False,
) -> None:
    """Serve fake providers that speak the real wire formats, with an inbox of what they got."""
    with command(Output(log_json=log_json, verbose=verbose), tables_in_a_pipe=True) as (_, console):
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


@app.command()
def demo(
    wait: Annotated[bool, typer.Option(help="On a terminal, keep the inbox open until Ctrl-C.")] = True,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
) -> None:
    """Replay three weeks of real history on an embedded PostgreSQL; the sandbox gets what is sent."""
    output = Output(as_json, log_json, verbose)
    with command(output, quiet=True, tables_in_a_pipe=True) as (given, console):
        on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        with database_settings(given, embedded=True) as settings:
            played = run_loop(_play_demo(url_of(settings), console, wait=wait and on_terminal and not as_json))
        _exit(ok=played.status == "success")


async def _play_demo(url: str, console: Console, *, wait: bool) -> Played:
    from alerts_engine.commands.console import demo_tables, messages_table
    from alerts_engine.demo.story import play
    from alerts_engine.sandbox import Sandbox

    stop = asyncio.Event()
    async with Sandbox.start() as inbox:
        with on_signal(stop.set):
            with console.progress() as progress:
                played = await play(url, inbox.url, progress=progress, stopping=stop)
            where = inbox.url if wait else _save_inbox(inbox)
            if console.as_json:
                console.json(played.as_json() | {"inbox": where})
                return played
            console.draw(*demo_tables(played), messages_table(inbox.messages))
            console.say(*_what_next(where))
            if wait:
                console.say("", "Ctrl-C ends the demo.")
                await stop.wait()
    return played


def _what_next(where: str) -> list[str]:
    return [
        "Every message, as its user would see it:",
        f"  {where}",
        "",
        "On the same database:",
        f"  {program_name()} runs --embedded                   the runs of the replay",
        f"  {program_name()} run --phase all --embedded        one run more: nothing is sent twice",
        f"  {program_name()} demo                              all of it again",
    ]


def _save_inbox(inbox: Sandbox) -> str:
    from pathlib import Path

    from alerts_engine.demo.inbox_file import inbox_file
    from alerts_engine.embedded import FOLDER

    path = Path(FOLDER) / _INBOX_FILE
    path.write_text(inbox_file(inbox.messages, inbox.attempts), encoding="utf-8")
    return str(path)


def _exit(*, ok: bool) -> None:
    if not ok:
        raise typer.Exit(1)


insight.register(app)
preview.register(app)
preflight.register(app)
