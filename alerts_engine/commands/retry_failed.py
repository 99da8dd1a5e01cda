"""The command ``retry-failed``: take up what failed (SPEC O-5).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, exit_with, on_signal, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import (  # noqa: TC001 - typer reads them
    AsJson,
    ChannelName,
    DryRun,
    Embedded,
    LogJson,
    Verbose,
)

if TYPE_CHECKING:
    from alerts_engine.operations.retry_failed import RetriedFailed
    from alerts_engine.settings import Settings


class RetryKind(StrEnum):
    """What is taken up."""

    DELIVERIES = "deliveries"
    DIGESTS = "digests"


class SkippedFor(StrEnum):
    """What was skipped for a reason that may be gone."""

    CHANNEL_NOT_CONFIGURED = "channel_not_configured"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        name="retry-failed",
        epilog=epilog(
            "retry-failed --kind deliveries --since-hours 24 --dry-run",
            "retry-failed --kind digests --since-hours 24 --reset-attempts",
            "retry-failed --kind digests --since-hours 48",
            failed=f"a signal ended it (the next time goes on), {BROKE}",
        ),
    )(retry_failed)


def retry_failed(  # noqa: PLR0917 - typer gives them by name
    kind: Annotated[RetryKind, typer.Option("--kind", help="deliveries or digests.")],
    since_hours: Annotated[float, typer.Option("--since-hours", min=0, help="What failed within this many hours.")],
    reset_attempts: Annotated[
        bool, typer.Option("--reset-attempts", help="Also rows that used up their attempts; they start again at 0.")
    ] = False,
    reason: Annotated[
        SkippedFor | None, typer.Option("--reason", help="Take up what was skipped for this reason instead.")
    ] = None,
    cause: Annotated[str | None, typer.Option("--cause", help="Only rows with this code.")] = None,
    channel: ChannelName = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Queue failed rows again, where trying again can help.

    The next run sends them.
    """
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            work = _retry_failed(
                settings, kind, since_hours,
                reset_attempts=reset_attempts, reason=reason, cause=cause, channel=channel, dry_run=dry_run,
            )  # fmt: skip
            done = run_loop(work)
        if console.as_json:
            console.json(done)
        else:
            from alerts_engine.commands.tables.retry_failed import retried_blocks

            console.draw(*retried_blocks(done, reset_attempts=reset_attempts))
        exit_with(ok=not done.stopped)


async def _retry_failed(
    settings: Settings,
    kind: RetryKind,
    since_hours: float,
    *,
    reset_attempts: bool,
    reason: SkippedFor | None,
    cause: str | None,
    channel: str | None,
    dry_run: bool,
) -> RetriedFailed:
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.operations.retry_failed import RetryReason
    from alerts_engine.phases.send.claims import SourceName

    stopping = asyncio.Event()
    with on_signal(stopping.set, hint="the batch under way may finish; a second signal exits at once"):
        async with AlertsEngine(settings) as engine:
            return await engine.retry_failed(
                SourceName(kind), since_hours, reset_attempts=reset_attempts,
                reason=None if reason is None else RetryReason(reason), cause=cause, channel=channel,
                dry_run=dry_run, stopping=stopping,
            )  # fmt: skip
