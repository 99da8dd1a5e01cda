"""What ``retry-failed`` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Marked, Table
from alerts_engine.commands.tables.words import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.retry_failed import RetriedFailed


def retried_blocks(done: RetriedFailed, *, reset_attempts: bool) -> Iterator[Block]:
    """How many of each cause, and what comes next."""
    rows = [(one.channel, one.cause, f"{one.count:,}") for one in done.by_cause]
    verb = "would be queued again" if done.dry_run else "queued again"
    title = f"{done.count:,} {done.kind} {verb} (since {moment_text(done.since)} UTC)"
    hint = "" if reset_attempts else "; --reset-attempts takes those too that used up their attempts"
    none = f"Nothing that trying again could help{hint}."
    then = "The next run of phase C sends them: alerts-engine run --phase c"
    yield Table(title, ("channel", "cause", "rows"), rows, then if rows and not done.dry_run else "", none)
    if done.stopped:
        yield Marked("", [("!", "A signal ended it: what is queued stays so, and the next time goes on.")])
    if done.warnings:
        yield Marked("warnings", [("!", warning) for warning in done.warnings])
