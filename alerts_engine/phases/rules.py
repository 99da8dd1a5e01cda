"""Running one phase-A rule: a SELECT in a file that finds events (SPEC A-1, A-5)."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import DatabaseError, EventError, RuleError, StatementTimeoutError
from alerts_engine.masking import without_values
from alerts_engine.phases.new_event import COLUMNS, NewEvent
from alerts_engine.statements import command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts_engine.database import Executor, Selection, Session
    from alerts_engine.statements import RuleFile

MOST_EVENTS = 10_000
"""A rule that finds more than this in one run has lost its condition."""

MOST_CHARACTERS = 20_000_000
"""What all events of a rule may say together: 2,000 characters each, if they are as many as there may be."""

_PORTION = 50
"""Rows that are fetched together: few enough to notice in time that they are too many or too long."""

PATIENCE = "60s"
"""A rule that takes longer has lost its index, and would keep the others waiting."""

_BEGINS_AS_SELECT = re.compile(
    r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE | re.DOTALL
)
_READ_ONLY = "25006"
_ABOUT_A_REMOTE_SERVER = ("08", "28", "3D", "57P", "HV")
"""SQLSTATEs of a server that does not answer or does not let one in. Ours does both: it sent the error."""

begin_rule = command("phase_a_generate", "begin_rule")


class _Undone(Exception):  # noqa: N818 - not an error: it carries what was found out of a savepoint that is rolled back
    def __init__(self, found: list[NewEvent]) -> None:
        super().__init__()  # no arguments: an error that this is the context of must not show the events
        self.found = found


async def find_events(database: Executor, rule: RuleFile, *, now: datetime, time_zone: str) -> list[NewEvent]:
    """What ``rule`` finds at ``now``, checked; nothing is written, whatever the file contains.

    Raises :class:`RuleError`, which says what is wrong with the file and what to do.
    """
    _check_text(rule.text)
    try:
        async with database.transaction() as transaction:
            await transaction.run(begin_rule, patience=PATIENCE)
            raise _Undone(await _select(transaction, rule, now, time_zone))
    except _Undone as undone:
        return undone.found
    except DatabaseError as error:
        raise RuleError(_explain(error)) from error


def _check_text(text: str) -> None:
    # A COMMIT, which is no error in PostgreSQL, would end the transaction that keeps a rule from writing.
    if _BEGINS_AS_SELECT.match(text) is None:
        raise RuleError("is not a SELECT: a rule begins with SELECT or WITH")
    if "\0" in text:
        raise RuleError("contains a NUL character: take it out")


def _explain(error: DatabaseError) -> str:
    if error.sqlstate == _READ_ONLY:
        return "tries to write or to lock: a rule only reads, the engine inserts what it returns"
    if isinstance(error, StatementTimeoutError):
        return f"took longer than {PATIENCE}: narrow it, or add an index"
    if (error.sqlstate or "").startswith(_ABOUT_A_REMOTE_SERVER):
        return f"{error}: the server behind a foreign table or a dblink that it reads cannot be used; check that server"
    return f"{error}: fix the SQL"


async def _select(session: Session, rule: RuleFile, now: datetime, time_zone: str) -> list[NewEvent]:
    selection = await session.select(rule.text, lambda types: _arguments(types, now, time_zone))
    _check_columns(selection.columns)
    rows = await _fetch(selection)
    events = [
        _event(number, dict(zip(selection.columns, row, strict=True))) for number, row in enumerate(rows, start=1)
    ]
    doubles = [name for name, count in Counter(event.event_fingerprint for event in events).items() if count > 1]
    if doubles:
        example = without_values(doubles[0])
        raise RuleError(
            f"returns {len(doubles)} event_fingerprint(s) more than once, such as {example!r}: make it unique"
        )
    return events


async def _fetch(selection: Selection) -> list[tuple[Any, ...]]:
    """All rows, or :class:`RuleError` as soon as they are too many or say too much."""
    rows: list[tuple[Any, ...]] = []
    characters = 0
    while portion := await selection.next_rows(_PORTION):
        rows += portion
        characters += sum(len(str(value)) for row in portion for value in row)
        if len(rows) > MOST_EVENTS:
            raise RuleError(f"returns more than {MOST_EVENTS} rows: narrow its condition")
        if characters > MOST_CHARACTERS:
            raise RuleError(
                f"returns more than {MOST_CHARACTERS} characters: cut its texts, such as left(raw_text, 1000)"
            )
    return rows


def _arguments(types: Sequence[str], now: datetime, time_zone: str) -> list[Any]:
    moment = now.astimezone(UTC).replace(tzinfo=None) if types and types[0] == "timestamp" else now
    if types and types[0] not in {"timestamptz", "timestamp"}:
        raise RuleError(f"uses $1 as {types[0]}: $1 is the moment, so write $1::timestamptz")
    if len(types) > 1 and types[1] not in {"text", "varchar"}:
        raise RuleError(f"uses $2 as {types[1]}: $2 is the time zone, so write $2::text")
    if len(types) > 2:  # noqa: PLR2004 - $1 and $2
        raise RuleError(f"uses ${len(types)}: a rule gets $1 (the moment) and $2 (the time zone) only")
    return [moment, time_zone][: len(types)]


def _check_columns(columns: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown or len(set(columns)) != len(columns):
        parts = [f"lacks the column(s) {', '.join(missing)}"] if missing else []
        parts += [f"returns the unknown column(s) {without_values(', '.join(unknown))}"] if unknown else []
        raise RuleError(
            f"{' and '.join(parts) or 'returns a column twice'}: a rule returns {', '.join(sorted(COLUMNS))}"
        )


def _event(number: int, row: dict[str, Any]) -> NewEvent:
    try:
        return NewEvent(**row)
    except EventError as error:
        raise RuleError(f"row {number}: {error}") from None
