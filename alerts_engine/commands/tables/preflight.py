"""What ``preflight`` shows on a terminal. rich is imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from alerts_engine.operations.preflight import Findings

_MARKS = {True: "✓", False: "✗"}


def preflight_table(findings: Findings) -> Table:
    """What is well, what is wrong, and what may be."""
    found = findings.as_json()
    caption = f"{len(found['errors'])} error(s), {len(found['warnings'])} warning(s)"
    return table_of("preflight", ("", "what"), _rows(findings), caption)


def _rows(findings: Findings) -> Iterator[tuple[str, str]]:
    found = findings.as_json()
    yield _MARKS[findings.db_ok], "the database answers"
    yield _MARKS[findings.migrations_ok], "every migration is applied"
    for channel, is_configured in findings.channels_configured.items():
        yield ("✓", f"{channel} is configured") if is_configured else ("–", f"{channel} is not configured")
    yield from (("✗", error) for error in found["errors"])
    yield from (("!", warning) for warning in found["warnings"])
