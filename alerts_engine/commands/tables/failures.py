"""What ``failures`` shows to people: a paragraph for each cause, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Marked, Table
from alerts_engine.commands.tables.words import many, moment_text
from alerts_engine.operations.causes import FailureState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.failures import FailedRow, FailureCause, FailureReport

_STATES = {
    FailureState.PERMANENT: ("✗", "failed for good"),
    FailureState.EXHAUSTED: ("✗", "failed after the last attempt"),
    FailureState.WAITING: ("!", "will be tried again"),
    FailureState.UNCERTAIN: ("!", "may have been accepted; it is being found out"),
    FailureState.NOT_CONFIGURED: ("!", "skipped"),
    FailureState.CHANNEL_DOWN: ("✗", "waiting: the channel is down"),
}
_NOUNS = {"delivery": ("delivery", "deliveries"), "digest": ("digest", "digests")}


def failure_blocks(report: FailureReport, asked: str | None) -> Iterator[Block]:
    """The causes; with one asked for, its rows."""
    if not report.causes:
        about = f" of {asked}" if asked else ""
        words = f"nothing{about} failed in the last {report.since_hours:g} hours, and nothing waits for another attempt"
        yield Marked("", [("✓", words)])
        return
    yield Marked("", [(_STATES[cause.state][0], _cause(cause)) for cause in report.causes])
    for name, rows in (("deliveries", report.deliveries), ("digests", report.digests)):
        if rows:
            yield _rows_table(name, rows)
    if report.cursor is not None:
        yield Marked("", [("…", f"and more: alerts-engine failures --cause {asked} --cursor {report.cursor}")])


def _cause(cause: FailureCause) -> str:
    who = f"{many(cause.count, *_NOUNS[cause.kind])} for {many(cause.users, 'person', 'people')}"
    users = ", ".join(map(str, cause.newest_user_ids))
    lines = [
        f"{cause.channel}: {who} {_STATES[cause.state][1]}, since {moment_text(cause.since)} UTC",
        f"{cause.code}: {cause.meaning}; {cause.advice}",
        *([f"newest users: {users}{_at(cause.newest_at)}"] if users else []),
        f"→ {cause.command}",
    ]
    return "\n".join(lines)


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f", the last one at {moment_text(moment)} UTC"


def _rows_table(name: str, rows: Sequence[FailedRow]) -> Table:
    cells = [
        (str(row.id), str(row.user_id), row.channel, _state(row), str(row.attempts), moment_text(row.created_at))
        for row in rows
    ]
    return Table(name, ("id", "user", "channel", "state", "tried", "created (UTC)"), cells)


def _state(row: FailedRow) -> str:
    if row.next_retry_at is not None:
        return f"{row.state.value}, due {moment_text(row.next_retry_at)}"
    return row.state.value if row.ended_at is None else f"{row.state.value} {moment_text(row.ended_at)}"
