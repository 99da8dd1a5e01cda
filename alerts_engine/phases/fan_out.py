"""Phase B: make deliveries out of every pending event, two pages of users at a time (SPEC section 6)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import AlertsEngineError
from alerts_engine.locks import FAN_OUT_KEYS
from alerts_engine.phases.counts import PhaseCounts
from alerts_engine.phases.plans import channels_as_json, plans_as_json
from alerts_engine.statements import command, statement
from alerts_engine.types import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alerts_engine.database import Session
    from alerts_engine.phases.context import PhaseContext

EVENTS_AT_ONCE = 1_000
"""They compete for the quotas together, the most severe first (B-7)."""
DECISIONS_PER_PAGE = 40_000
LARGEST_PAGE, SMALLEST_PAGE = 20_000, 200
WORTH_TWO_PAGES = 4_000
"""Decisions from which on an audience is divided; fewer become visible in one transaction (B-2)."""
_NEIGHBOUR_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class PendingEvent:
    id: int
    fanout_position: int


@dataclass(frozen=True, slots=True)
class Count:
    count: int


@dataclass(frozen=True, slots=True)
class Pages:
    """The next two pages; with few users ``middle_user`` is ``None``, and they are one."""

    middle_user: int | None
    last_user: int
    users: int
    more: bool

    def lower(self) -> Pages:
        """The lower page alone."""
        if self.middle_user is None:
            return self
        return Pages(None, self.middle_user, (self.users + 1) // 2, more=True)


@dataclass(frozen=True, slots=True)
class FanOutPage:
    users_considered: int
    created_instant: int
    created_digest: int
    refusals: dict[str, int]
    """How many decisions each :class:`~alerts_engine.types.Refusal` ended."""
    users_skipped_allowlist: int
    decisions: list[dict[str, Any]] | None
    preferences: list[dict[str, Any]] | None


@dataclass(slots=True)
class FanOutCounts(PhaseCounts):
    """SPEC B-8: decisions are per event, user and channel, ``users_considered`` per event and user."""

    events_processed: int = 0
    users_considered: int = 0
    deliveries_created: int = 0
    created_instant: int = 0
    created_digest: int = 0
    refused: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(Refusal, 0))
    events_outside_window: int = 0
    allowlist_active: bool = False
    users_skipped_allowlist: int = 0

    def add(self, page: FanOutPage) -> None:
        """Count one committed page."""
        self.users_considered += page.users_considered
        self.created_instant += page.created_instant
        self.created_digest += page.created_digest
        self.deliveries_created += page.created_instant + page.created_digest
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
begin_page = command("phase_b_fan_out", "begin_page")
next_pages = statement("phase_b_fan_out", "next_pages", Pages)
fan_out_page = statement("phase_b_fan_out", "fan_out_page", FanOutPage)
advance_fan_out = statement("phase_b_fan_out", "advance_fan_out", Count)


async def fan_out(context: PhaseContext, counts: FanOutCounts) -> None:
    """Fan out what is pending and within the window, oldest events first (B-1)."""
    database = context.database
    outside = await database.row(events_outside_window, now=context.now, since=context.since)
    counts.events_outside_window = outside.count
    counts.allowlist_active = context.allowlist is not None
    plans = await plans_as_json(database, context.settings)
    while not context.must_stop(counts):
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
    decisions = _Decisions(context, [event.id for event in events], plans)
    position, done, more = min(event.fanout_position for event in events), 0, True
    while more and not context.must_stop(counts):
        context.check_lock()
        pages, advanced = await decisions.next_pages(counts, position)
        position, done = pages.last_user, done + pages.users
        # No event left to advance: another runner has completed them.
        more = pages.more and advanced > 0
        counts.events_processed += 0 if pages.more else advanced
        context.progress("fan-out", done, max(audience, done))


class _Decisions:
    """Decides on some events for page after page of users."""

    def __init__(self, context: PhaseContext, event_ids: list[int], plans: list[dict[str, Any]]) -> None:
        self._context = context
        self._event_ids = event_ids
        self._plans = plans
        self._alone = False
        """Set once there was no second connection in time: it will not be waited for again."""

    async def next_pages(self, counts: FanOutCounts, after_user: int) -> tuple[Pages, int]:
        """Decide on the next two pages of users, or on one; which they were, and how many events this advanced."""
        events = len(self._event_ids)
        async with self._context.database.transaction() as transaction:
            await transaction.run(begin_page, key=FAN_OUT_KEYS[0])
            pages = await transaction.row(
                next_pages,
                after_user=after_user,
                page_size=max(SMALLEST_PAGE, min(LARGEST_PAGE, DECISIONS_PER_PAGE // events)),
                worth_two=max(2, WORTH_TWO_PAGES // events),
            )
            lower: FanOutPage | None = None
            upper: FanOutPage | BaseException
            async with self._neighbour(pages) as neighbour:
                if neighbour is None:
                    await transaction.run(begin_page, key=FAN_OUT_KEYS[1])
                    pages = pages.lower()
                    upper = await self._page(transaction, after_user, pages.last_user)
                else:
                    lower, upper = await self._side_by_side(neighbour, transaction, after_user, pages)
            # The lower page is committed: only now may the position go beyond it.
            if lower is not None:
                counts.add(lower)
            if isinstance(upper, BaseException):
                raise upper
            advanced = await self._advance(transaction, pages.last_user, completed=not pages.more)
        counts.add(upper)
        return pages, advanced

    async def _side_by_side(
        self, below: Session, above: Session, after_user: int, pages: Pages
    ) -> tuple[FanOutPage, FanOutPage | BaseException]:
        """Decide on both pages at once; what goes wrong with the upper one takes nothing from the lower."""
        half = pages.lower()
        lower, upper = await asyncio.gather(
            self._page(below, after_user, half.last_user),
            self._page(above, half.last_user, pages.last_user),
            return_exceptions=True,
        )
        if isinstance(lower, BaseException):
            raise lower
        await self._advance(below, half.last_user, completed=False)
        return lower, upper

    @asynccontextmanager
    async def _neighbour(self, pages: Pages) -> AsyncIterator[Session | None]:
        """A second transaction with the second lock; ``None`` for a single page, or where no connection is to spare."""
        async with AsyncExitStack() as stack:
            neighbour = None
            if pages.middle_user is not None and not self._alone:
                neighbour = await self._begin_neighbour(stack)
                self._alone = neighbour is None
            yield neighbour

    async def _begin_neighbour(self, stack: AsyncExitStack) -> Session | None:
        try:
            async with asyncio.timeout(_NEIGHBOUR_TIMEOUT_SECONDS):
                neighbour = await stack.enter_async_context(self._context.database.spare_transaction())
                if neighbour is not None:
                    await neighbour.run(begin_page, key=FAN_OUT_KEYS[1])
                return neighbour
        except (TimeoutError, AlertsEngineError):  # such as too many connections: one of them is enough
            await stack.aclose()
            return None

    async def _page(self, transaction: Session, after_user: int, last_user: int) -> FanOutPage:
        return await transaction.row(
            fan_out_page,
            event_ids=self._event_ids,
            after_user=after_user,
            last_user=last_user,
            now=self._context.now,
            time_zone=self._context.settings.time_zone,
            plans=self._plans,
            allowlist=self._context.allowlist,
            record=True,
            channels=channels_as_json(),
        )

    async def _advance(self, transaction: Session, last_user: int, *, completed: bool) -> int:
        advanced = await transaction.row(
            advance_fan_out,
            event_ids=self._event_ids,
            last_user=last_user,
            completed=completed,
            now=self._context.now,
        )
        return advanced.count
