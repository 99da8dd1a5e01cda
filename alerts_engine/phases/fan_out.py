"""Phase B: make deliveries out of every pending event, page after page of users (SPEC section 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import PhaseError
from alerts_engine.phases.context import STATEMENT_PATIENCE
from alerts_engine.phases.counts import PhaseCounts
from alerts_engine.phases.group import Group
from alerts_engine.phases.one_page import Count
from alerts_engine.phases.pages import PageDecisions, end_pages
from alerts_engine.phases.plans import plans_as_json
from alerts_engine.statements import statement
from alerts_engine.types import Refusal

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.one_page import FanOutPage

EVENTS_AT_ONCE = 1_000
"""They compete for the quotas together, the most severe first (B-7)."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    id: int
    severity: int
    fanout_position: int


@dataclass(slots=True)
class FanOutCounts(PhaseCounts):
    """SPEC B-8: decisions are per event, user and channel, ``users_considered`` per event and user."""

    events_processed: int = 0
    users_considered: int = 0
    deliveries_created: int = 0
    created_instant: int = 0
    created_digest: int = 0
    deliveries_moved_to_digest: int = 0
    """Of these, what a quota refused as instant (SPEC B-7)."""
    refused: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(Refusal, 0))
    users_set_aside: int = 0
    """Users at events that could not be decided at all."""
    events_outside_window: int = 0
    allowlist_active: bool = False
    users_skipped_allowlist: int = 0

    def add(self, page: FanOutPage) -> None:
        """Count one committed page."""
        self.users_considered += page.users_considered
        self.created_instant += page.created_instant
        self.created_digest += page.created_digest
        self.deliveries_created += page.created_instant + page.created_digest
        self.deliveries_moved_to_digest += page.moved_to_digest
        self.users_skipped_allowlist += page.users_skipped_allowlist
        for reason, count in page.refusals.items():
            self.refused[Refusal(reason)] += count

    def as_counts(self) -> dict[str, Any]:
        """With a count of its own for each reason, in the place of ``refused``."""
        counts: dict[str, Any] = {}
        for name, value in PhaseCounts.as_counts(self).items():
            counts |= {reason.count_name: value[reason] for reason in Refusal} if name == "refused" else {name: value}
        return counts


pending_events = statement("phase_b_fan_out", "pending_events", PendingEvent)
events_outside_window = statement("phase_b_fan_out", "events_outside_window", Count)
audience_size = statement("phase_b_fan_out", "audience_size", Count)


async def fan_out(context: PhaseContext, counts: FanOutCounts) -> None:
    """Fan out what is pending and within the window, oldest events first (B-1).

    Raises :class:`PhaseError` at the end when users had to be passed over.
    """
    database = context.database
    outside = await database.row(events_outside_window, now=context.now, since=context.since)
    counts.events_outside_window = outside.count
    counts.allowlist_active = context.allowlist is not None
    decisions = PageDecisions(context, counts, await plans_as_json(database, context.settings))
    groups: list[Group] = []
    audience = 0
    while not context.must_stop(counts):
        context.check_lock()  # lost during the last page: what it did stands, but somebody must know
        if not groups:
            events = await database.rows(pending_events, now=context.now, since=context.since, most=EVENTS_AT_ONCE)
            if not events:
                break
            groups = [Group.of(events)]
            audience += (await database.row(audience_size)).count
        groups[:1] = await decisions.go_on(groups[0])
        context.progress("fan-out", decisions.users_passed, max(audience, decisions.users_passed))
    if context.dry_run:
        await database.run(end_pages)
    _report_slow_pages(context, decisions)


def _report_slow_pages(context: PhaseContext, decisions: PageDecisions) -> None:
    if decisions.timed_out:
        context.warnings.append(
            f"the fan-out took longer than {STATEMENT_PATIENCE} for {decisions.timed_out} page(s) of users, and went "
            "on in smaller ones: the log names them as page_timed_out"
        )
    if decisions.set_aside:
        named = ", ".join(f"user {user} at event {event}" for user, event in decisions.set_aside)
        raise PhaseError(
            f"{len(decisions.set_aside)} decision(s) took longer than {STATEMENT_PATIENCE} even alone and were passed "
            f"over, so that these users get nothing of these events: {named}"
        )
