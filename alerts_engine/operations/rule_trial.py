"""What a rule would create now, without creating it (SPEC A-1, A-4, A-5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.errors import DatabaseError, RuleError
from alerts_engine.phases.rules import find_events
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from datetime import datetime

    from alerts_engine.database import Executor
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.statements import RuleFile


@dataclass(frozen=True, slots=True)
class KnownEvent:
    event_fingerprint: str
    id: int


@dataclass(frozen=True, slots=True)
class TriedEvent:
    """One event that a rule found."""

    event: NewEvent
    known_id: int | None
    """The event that is there already, which phase A would leave alone."""


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """What a rule found at a moment."""

    rule: str
    now: datetime
    events: tuple[TriedEvent, ...]

    @property
    def known(self) -> int:
        """How many of the events are there already."""
        return sum(tried.known_id is not None for tried in self.events)


known_events = statement("rule_trial", "known_events", KnownEvent)


async def try_rule(database: Executor, rule: RuleFile, *, now: datetime, time_zone: str) -> RuleTrial:
    """What ``rule`` finds at ``now``; nothing is written.

    Raises :class:`RuleError`, which names the file and says what to do.
    """
    try:
        rule.check()
        found = await find_events(database, rule, now=now, time_zone=time_zone)
    except (RuleError, DatabaseError) as error:
        raise RuleError(f"rule {rule.path.name}: {error}") from error
    rows = [event.as_row() for event in found]
    known = await database.rows(
        known_events,
        event_fingerprints=[row["event_fingerprint"] for row in rows],
        cooldown_keys=[row["cooldown_key"] for row in rows],
    )
    ids = {one.event_fingerprint: one.id for one in known}
    tried = tuple(TriedEvent(event, ids.get(event.event_fingerprint)) for event in found)
    return RuleTrial(rule.name, now, tried)
