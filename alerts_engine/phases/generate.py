"""Phase A: run every rule, and keep what it finds as global alert events (SPEC section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import DatabaseError, PhaseError, RuleError
from alerts_engine.phases.rules import find_events
from alerts_engine.statements import rule_files, statement

if TYPE_CHECKING:
    from datetime import datetime

    from alerts_engine.database import Executor
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.statements import RuleFile

log = structlog.get_logger("alerts_engine.generate")


@dataclass(frozen=True, slots=True)
class InsertedEvent:
    id: int
    event_fingerprint: str


@dataclass(slots=True)
class RuleCounts:
    created: int = 0
    skipped_duplicate: int = 0


@dataclass(slots=True)
class GenerateCounts:
    """SPEC A-6."""

    events_created: int = 0
    events_skipped_duplicate: int = 0
    rules_failed: int = 0
    by_rule: dict[str, RuleCounts] = field(default_factory=dict)


insert_events = statement("phase_a_generate", "insert_events", InsertedEvent)
event_by_fingerprint = statement("phase_a_generate", "event_by_fingerprint", InsertedEvent)


async def generate(context: PhaseContext, counts: GenerateCounts) -> None:
    """Run the rules one after the other, each on its own: one that fails takes nothing from the others (A-5)."""
    failures: list[str] = []
    for rule in rule_files(context.settings.rules_dir):
        context.check_lock()
        if context.stopping.is_set():
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
    async with context.database.transaction() as transaction:
        inserted = await transaction.rows(insert_events, events=[event.as_json() for event in found], now=context.now)
    own = counts.by_rule.setdefault(rule.name, RuleCounts())
    own.created = len(inserted)
    own.skipped_duplicate = len(found) - len(inserted)
    counts.events_created += own.created
    counts.events_skipped_duplicate += own.skipped_duplicate


async def publish_event(database: Executor, event: NewEvent, now: datetime) -> tuple[int, bool]:
    """Insert an application's own event: its id, and whether it is new (A-7). A known one is left as it is."""
    async with database.transaction() as transaction:
        row = event.as_json()
        inserted = await transaction.rows(insert_events, events=[row], now=now)
        if inserted:
            return inserted[0].id, True
        known = await transaction.row(
            event_by_fingerprint, event_fingerprint=row["event_fingerprint"], cooldown_key=row["cooldown_key"]
        )
        return known.id, False
