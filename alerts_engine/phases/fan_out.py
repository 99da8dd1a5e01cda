"""Phase B: make deliveries out of every pending event, a page of users at a time (SPEC section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.locks import FAN_OUT_PAGE_KEY
from alerts_engine.phases.plans import plans_as_json
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext

EVENTS_AT_ONCE = 1_000
"""They compete for the quotas together, the most severe first (B-7)."""
DECISIONS_PER_PAGE = 40_000
LARGEST_PAGE, SMALLEST_PAGE = 20_000, 500


@dataclass(frozen=True, slots=True)
class PendingEvent:
    id: int
    fanout_position: int


@dataclass(frozen=True, slots=True)
class Count:
    count: int


@dataclass(frozen=True, slots=True)
class Page:
    last_user: int
    users: int
    more: bool


@dataclass(frozen=True, slots=True)
class FanOutPage:
    users_considered: int
    created_instant: int
    created_digest: int
    skipped_plan: int
    skipped_prefs: int
    skipped_missing_dest: int
    skipped_quota: int
    users_skipped_allowlist: int
    decisions: list[dict[str, Any]] | None
    preferences: list[dict[str, Any]] | None


@dataclass(slots=True)
class FanOutCounts:
    """SPEC B-8: decisions are per event, user and channel, ``users_considered`` per event and user."""

    events_processed: int = 0
    users_considered: int = 0
    deliveries_created: int = 0
    created_instant: int = 0
    created_digest: int = 0
    deliveries_skipped_plan: int = 0
    deliveries_skipped_prefs: int = 0
    deliveries_skipped_missing_dest: int = 0
    deliveries_skipped_quota: int = 0
    events_outside_window: int = 0
    allowlist_active: bool = False
    users_skipped_allowlist: int = 0

    def add(self, page: FanOutPage) -> None:
        """Count one committed page."""
        self.users_considered += page.users_considered
        self.created_instant += page.created_instant
        self.created_digest += page.created_digest
        self.deliveries_created += page.created_instant + page.created_digest
        self.deliveries_skipped_plan += page.skipped_plan
        self.deliveries_skipped_prefs += page.skipped_prefs
        self.deliveries_skipped_missing_dest += page.skipped_missing_dest
        self.deliveries_skipped_quota += page.skipped_quota
        self.users_skipped_allowlist += page.users_skipped_allowlist


pending_events = statement("phase_b_fan_out", "pending_events", PendingEvent)
events_outside_window = statement("phase_b_fan_out", "events_outside_window", Count)
audience_size = statement("phase_b_fan_out", "audience_size", Count)
begin_page = command("phase_b_fan_out", "begin_page")
next_page = statement("phase_b_fan_out", "next_page", Page)
fan_out_page = statement("phase_b_fan_out", "fan_out_page", FanOutPage)
advance_fan_out = statement("phase_b_fan_out", "advance_fan_out", Count)


async def fan_out(context: PhaseContext, counts: FanOutCounts) -> None:
    """Fan out what is pending and within the window, oldest events first (B-1)."""
    database = context.database
    outside = await database.row(events_outside_window, now=context.now, since=context.since)
    counts.events_outside_window = outside.count
    counts.allowlist_active = context.allowlist is not None
    plans = await plans_as_json(database, context.settings)
    while not context.stopping.is_set():
        events = await database.rows(pending_events, now=context.now, since=context.since, most=EVENTS_AT_ONCE)
        if not events:
            context.check_lock()  # lost during the last page: what it did stands, but somebody must know
            return
        await _fan_out_together(context, counts, events, plans)


async def _fan_out_together(
    context: PhaseContext, counts: FanOutCounts, events: list[PendingEvent], plans: list[dict[str, Any]]
) -> None:
    """Take these events to the end of the audience; each page is a transaction that can be the last."""
    audience = (await context.database.row(audience_size)).count
    position, done, more = min(event.fanout_position for event in events), 0, True
    while more and not context.stopping.is_set():
        context.check_lock()
        page, advanced = await _fan_out_page(context, counts, [event.id for event in events], position, plans)
        position, done = page.last_user, done + page.users
        # No event left to advance: another runner has completed them.
        more = page.more and advanced > 0
        counts.events_processed += 0 if page.more else advanced
        context.progress("fan-out", done, max(audience, done))


async def _fan_out_page(
    context: PhaseContext, counts: FanOutCounts, event_ids: list[int], after_user: int, plans: list[dict[str, Any]]
) -> tuple[Page, int]:
    """Fan out to one page of users; how many events this advanced."""
    page_size = max(SMALLEST_PAGE, min(LARGEST_PAGE, DECISIONS_PER_PAGE // len(event_ids)))
    async with context.database.transaction() as transaction:
        await transaction.run(begin_page, key=FAN_OUT_PAGE_KEY)
        page = await transaction.row(next_page, after_user=after_user, page_size=page_size)
        done = await transaction.row(
            fan_out_page,
            event_ids=event_ids,
            after_user=after_user,
            last_user=page.last_user,
            now=context.now,
            time_zone=context.settings.time_zone,
            plans=plans,
            allowlist=context.allowlist,
            record=True,
        )
        advanced = await transaction.row(
            advance_fan_out,
            event_ids=event_ids,
            last_user=page.last_user,
            completed=not page.more,
            now=context.now,
        )
    counts.add(done)
    return page, advanced.count
