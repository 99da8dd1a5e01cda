"""The states that are drawn are those that the SQL and the database have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alerts_engine.phases.send.backoff import RetryPolicy
from alerts_engine.phases.send.row_update import Provider, row_update_for
from alerts_engine.statements import folder, load
from alerts_engine.types import (
    ChannelDown,
    DownCause,
    Failed,
    Outcome,
    Retry,
    Sent,
    Skipped,
    SkipReason,
    Status,
    Uncertain,
)
from tests.support.documents import blocks, names, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from alerts_engine.statements import Source

PAGE = "alerts_engine/phases/send/README.md"
NEW = "new"
"""Where a row comes from that was not there before."""
Transition = tuple[str, str, str, str]
"""Table, from, to, and the statement that does it."""


def settled_statuses() -> set[str]:
    """What a settle can write."""
    policy = RetryPolicy(60, 3600, max_attempts=2)
    outcomes: list[tuple[Outcome, int]] = [
        (Sent("id"), 0),
        (Retry("timeout"), 0),
        (Retry("timeout"), 1),
        (Failed("brevo_400"), 0),
        (Skipped(SkipReason.CHANNEL_DISABLED), 0),
        (ChannelDown(DownCause.AUTH_FAILED, "brevo_401"), 0),
        (Uncertain("timeout"), 0),
    ]
    assert {type(outcome) for outcome, _ in outcomes} == set(Outcome.__args__)
    mute = Provider(key_seconds=None, can_ask=False, gives_up=True)
    updates = [row_update_for(outcome, attempts, policy, mute, random=0) for outcome, attempts in outcomes]
    return {str(update.status) for update in updates if update is not None}


_INSERT = re.compile(r"INSERT INTO (user_alert_deliveries|user_alert_digests)\b[^(]*\(([^)]*)\)")
_UPDATE = re.compile(
    r"UPDATE (?:/\* TABLE \*/ )?(user_alert_deliveries|user_alert_digests) AS (\w)\s+SET (.*?)(?=\s(?:FROM|WHERE)\s)",
    re.DOTALL,
)
_NEW_STATUS = re.compile(r"\bstatus = (.+?)(?=,\s+\w+ =|\Z)", re.DOTALL)


def transitions_of(source: Source) -> Iterator[Transition]:
    """Which states a statement takes rows from, and to which."""
    for insert in _INSERT.finditer(source.text):
        assert "status" not in insert[2], "an INSERT leaves the state to the column's default"
        yield insert[1], NEW, Status.QUEUED, source.name
    for update in _UPDATE.finditer(source.text):
        written = _NEW_STATUS.search(update[3])
        if written is None:
            continue
        reached = set(re.findall(r"'(\w+)'", re.sub(r"WHEN .*? THEN", "", written[1], flags=re.DOTALL)))
        if written[1] == "o.status":
            reached = settled_statuses()
        assert reached, f"{source.name}: which state does it write?"
        yield from (
            (update[1], before, after, source.name)
            for before, only in _states_before(source, update[2])
            for after in reached & only
        )


def _states_before(source: Source, alias: str) -> Iterator[tuple[str, set[str]]]:
    """The states that a statement asks for, each with the states that it may then write."""
    condition = re.compile(rf"(?:o\.status = '(\w+)' AND )?\b{alias}\.status (?:= '(\w+)'|IN \(([^)]*)\))")
    # A row has a lease exactly while it is being sent.
    text = source.text.replace(f"{alias}.lease_expires_at IS NOT NULL", f"{alias}.status = 'sending'")
    asked = list(condition.finditer(text))
    assert asked, f"{source.name}: from which state?"
    for one in asked:
        only = {one[1]} if one[1] else {str(status) for status in Status}
        yield from ((before, only) for before in re.findall(r"\w+", one[2] or one[3]))


def transitions_in_sql() -> set[Transition]:
    files = [path.stem for path in folder("sql").glob("*.sql")]
    return {one for file in files for source in load(file).values() for one in transitions_of(source)}


def transitions_in_document() -> set[Transition]:
    found = set()
    for which, before, after, statements, _ in table(PAGE, "## States"):
        short = {"deliveries": ["deliveries"], "digests": ["digests"], "both": ["deliveries", "digests"]}[which]
        found |= {
            (f"user_alert_{one}", before.strip("`"), after.strip("`"), name.replace("*", one))
            for one in short
            for name in names(statements)
        }
    return found


def test_transitions_are_those_of_the_sql():
    """Every change of state that a statement makes is in the table, and nothing else is (DB-7)."""
    assert transitions_in_document() == transitions_in_sql()


def test_picture_of_the_states_says_what_the_table_says():
    """The same arrows, drawn."""
    picture = next(block for block in blocks(PAGE) if block.lines[0] == "stateDiagram-v2")
    drawn = re.findall(r"^\s*(\S+) --> (\w+)", picture.text, re.MULTILINE)
    assert {(NEW if one == "[*]" else one, other) for one, other in drawn} == {
        (one, other) for _, one, other, _ in transitions_in_document()
    }


def test_states_are_those_that_the_database_knows(postgresql: psycopg.Connection):
    """The CHECKs of both tables, the column's default and the diagram have one set of states (DB-6, DB-7)."""
    drawn = {state for _, before, after, _ in transitions_in_document() for state in (before, after)} - {NEW}
    for name in ("user_alert_deliveries", "user_alert_digests"):
        row = postgresql.execute(
            "SELECT pg_get_constraintdef(c.oid), pg_get_expr(d.adbin, d.adrelid) FROM pg_constraint AS c "
            "JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attname = 'status' "
            "JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE c.conname = %s",
            [f"{name}_status_known"],
        ).fetchone()
        assert row is not None
        assert set(re.findall(r"'(\w+)'", row[0])) == drawn == set(Status)
        assert re.findall(r"'(\w+)'", row[1]) == ["queued"]
