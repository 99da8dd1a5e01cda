"""Phase A: run every rule, and keep what it finds as global alert events (SPEC section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import DatabaseError, DuplicateKeyError, PhaseError, RuleError
from alerts_engine.phases.counts import PhaseCounts
from alerts_engine.phases.rules import find_events
from alerts_engine.statements import rule_files, statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts_engine.database import Executor
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.statements import RuleFile

log = structlog.get_logger("alerts_engine.generate")

_TRIES = 5
"""For inserting beside an application that inserts the same: one is enough unless that happens at the same moment."""


@dataclass(frozen=True, slots=True)
class InsertedEvent:
    """What became of one new event, in the order in which they were given."""

    id: int | None
    """``None``: another session's, which this statement could not see yet."""
    is_new: bool


@dataclass(slots=True)
class RuleCounts:
    created: int = 0
    skipped_duplicate: int = 0


@dataclass(slots=True)
class GenerateCounts(PhaseCounts):
    """SPEC A-6."""

    events_created: int = 0
    events_skipped_duplicate: int = 0
    rules_failed: int = 0
    by_rule: dict[str, RuleCounts] = field(default_factory=dict)


insert_events = statement("phase_a_generate", "insert_events", InsertedEvent)


async def generate(context: PhaseContext, counts: GenerateCounts) -> None:
    """Run the rules one after the other, each on its own: one that fails takes nothing from the others (A-5)."""
    failures: list[str] = []
    for rule in rule_files(context.settings.rules_dir):
        context.check_lock()
        if context.must_stop(counts):
            break
        try:
            await _run_rule(context, rule, counts)
        except (RuleError, DatabaseError) as error:
            counts.rules_failed += 1
            failures.append(f"rule {rule.path.name}: {error}")
            log.error("rule_failed", rule=rule.path.name, error=str(error))
    context.check_lock()
    if failures:
        raise PhaseError("; ".join(failures))


async def _run_rule(context: PhaseContext, rule: RuleFile, counts: GenerateCounts) -> None:
    rule.check()
    zone = context.settings.time_zone
    found = await find_events(context.database, rule, now=context.now, time_zone=zone)
    inserted = await insert(context.database, found, context.now)
    own = counts.by_rule.setdefault(rule.name, RuleCounts())
    own.created = sum(event.is_new for event in inserted)
    own.skipped_duplicate = len(found) - own.created
    counts.events_created += own.created
    counts.events_skipped_duplicate += own.skipped_duplicate


async def insert(
    database: Executor, events: Sequence[NewEvent], now: datetime, *, tries: int = _TRIES
) -> list[InsertedEvent]:
    """Insert what is not known yet, in one statement; each event's fate in the order given (SPEC A-1)."""
    try:
        async with database.transaction() as transaction:
            return await transaction.rows(insert_events, events=[event.as_row() for event in events], now=now)
    except DuplicateKeyError as error:
        # A legacy cooldown key that another session has just taken: the next try sees it. A taken id stays taken.
        if error.is_id or tries == 1:
            raise
        return await insert(database, events, now, tries=tries - 1)
