"""What ``preflight`` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.channels.credential_check import Verdict
from alerts_engine.commands.tables.drawing import Marked
from alerts_engine.commands.tables.words import many

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.operations.findings import Findings


def preflight_marks(findings: Findings) -> Marked:
    """What is well, what is wrong, and what may be."""
    caption = f"{many(len(findings.errors), 'error')}, {many(len(findings.warnings), 'warning')}"
    return Marked("preflight", list(_lines(findings)), caption)


def _lines(findings: Findings) -> Iterator[tuple[str, str]]:
    """What is well has a line of its own; what is not is told by its error, in the same place."""
    if findings.db_ok:
        yield "✓", "the database answers"
    if findings.migrations_ok:
        yield "✓", "every migration is applied"
    yield from (("✗", error) for error in findings.errors)
    for channel, is_configured in findings.channels_configured.items():
        yield ("✓", f"{channel} is configured") if is_configured else ("–", f"{channel} is not configured")
    yield from (("✓", f"{channel}: the provider takes its key") for channel in _known_good(findings))
    yield from (("·", note) for note in findings.notes)
    yield from (("!", warning) for warning in findings.warnings)


def _known_good(findings: Findings) -> list[str]:
    return [channel for channel, verdict in (findings.credentials or {}).items() if verdict == Verdict.GOOD]
