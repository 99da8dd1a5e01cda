"""What ``prune`` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Facts, Marked
from alerts_engine.commands.tables.words import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.prune import Pruned


def prune_blocks(pruned: Pruned) -> Iterator[Block]:
    """How many of each went, and what did not."""
    numbers = [(name, f"{getattr(pruned, name):,}") for name in ("deliveries", "digests", "events", "runs")]
    verb = "would be deleted" if pruned.dry_run else "deleted"
    caption = f"A signal ended it: {'' if pruned.dry_run else 'what is deleted stays so, and '}the next time goes on."
    yield Facts(f"{verb}: finished before {moment_text(pruned.before)} UTC", numbers, caption if pruned.stopped else "")
    if pruned.warnings:
        yield Marked("warnings", [("!", warning) for warning in pruned.warnings])
