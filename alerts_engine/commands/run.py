"""The command ``run``: run phases, and say what came of them (SPEC section 3).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alerts_engine.commands.frame import (
    Output,
    command,
    database_settings,
    exit_with,
    importing,
    log_warnings,
    on_signal,
    run_loop,
    warnings_once,
)
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import (  # noqa: TC001 - typer reads them at run time
    AsJson,
    DryRun,
    Embedded,
    LogJson,
    Now,
    PhaseOption,
    Verbose,
)
from alerts_engine.errors import AlertsEngineError
from alerts_engine.reports import RunStatus
from alerts_engine.settings import MOST_ROWS_A_CLAIM
from alerts_engine.types import MOST_SINCE_HOURS, SINCE_HOURS, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.commands.console import Console
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.reports import RunReport
    from alerts_engine.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "run --phase all --dry-run",
            "run --phase b --since-hours 48",
            "run --quiet",
            "run --json --log-json",
            done="done; also when another run held a lock, or ALERTS_V2_ENABLED is not true",
            failed=f"a phase failed, a signal ended the run, {BROKE}",
        )
    )(run)


def _check_hours(value: float) -> float:
    if not 0 <= value <= MOST_SINCE_HOURS:  # not a number is in no range
        raise typer.BadParameter(f"{value} is not in the range 0<=x<={MOST_SINCE_HOURS}.")
    return value


BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, max=MOST_ROWS_A_CLAIM, help="Most rows one claim takes.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="For cron: say nothing unless there is a warning or an error.")
]
SinceHours = Annotated[
    float, typer.Option("--since-hours", callback=_check_hours, help="Fan out events this young; 0 is no limit.")
]


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
    quiet: Quiet = False,
) -> None:
    """Run phases: find events, fan out, build digests, send.

    Phase a finds events, b fans them out to users, d builds digests, c sends.
    """
    if quiet and (as_json or verbose):
        raise typer.BadParameter("--quiet says nothing; leave out --json and --verbose")
    with command(Output(as_json, log_json, verbose), quiet=quiet) as (given, console):
        if not given.enabled:
            _say_disabled(given, console, dry_run=dry_run)
            return
        in_table = not (as_json or quiet) and sys.stdout.isatty() and sys.stderr.isatty()
        with (
            warnings_once(given, in_table=in_table),
            _failure_in_step_summary(given),
            database_settings(given, embedded=embedded) as settings,
        ):
            order = {"dry_run": dry_run, "batch_size": batch_size, "since_hours": since_hours, "now": now}
            report = run_loop(_run(settings, console, phase, order))
        _say(report, given, console, quiet=quiet)
        exit_with(ok=report.status is not RunStatus.FAILED)


def _say(report: RunReport, settings: Settings, console: Console, *, quiet: bool) -> None:
    if console.as_json:
        console.json(report)
        return
    if quiet:  # what a table would show, a log line must
        log_warnings([warning for warning in report.warnings if warning not in settings.warnings], "run")
    if not quiet or report.status is RunStatus.FAILED:
        from alerts_engine.commands.tables.runs import run_blocks

        console.draw(*run_blocks(report))


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
            report = await engine.run(phase, stopping=stopping, **order)
            if settings.github_step_summary is not None:
                await _summarise(engine, report, phase)
            return report


async def _summarise(engine: AlertsEngine, report: RunReport, phase: Phase) -> None:
    """Write the page that GitHub shows below the job (SPEC R-4)."""
    from alerts_engine.commands.step_summary import append_step_summary, summary_markdown
    from alerts_engine.operations.summary import summary_of_report

    try:
        queue = await engine.queue_state()
    except AlertsEngineError as error:
        log_warnings([f"the summary lacks the queue: {error}"], "run")
        queue = None
    summary = summary_of_report(report, phase, engine.settings.github_sha, queue)
    append_step_summary(summary_markdown(summary, engine.settings), engine.settings)


@contextmanager
def _failure_in_step_summary(settings: Settings) -> Iterator[None]:
    """What kept a run from beginning stands on its page, too."""
    try:
        yield
    except AlertsEngineError as error:
        if settings.github_step_summary is not None:
            from alerts_engine.commands.step_summary import append_step_summary, failure_markdown
            from alerts_engine.masking import Redaction

            message = Redaction(settings.secrets()).text(str(error))
            append_step_summary(failure_markdown(message), settings)
        raise


def _say_disabled(settings: Settings, console: Console, *, dry_run: bool) -> None:
    """One log line, and the report of a run in which nothing happened (SPEC CLI-2)."""
    import structlog

    from alerts_engine.history import triggered_by

    structlog.get_logger("alerts_engine").warning("engine_disabled", variable="ALERTS_V2_ENABLED")
    if console.as_json:
        report = {"run_id": None, "status": "skipped", "dry_run": dry_run, "triggered_by": triggered_by(settings)}
        console.json(
            {**report, "started_at": None, "finished_at": None, "duration_ms": 0, "phases": [], "warnings": []}
        )
