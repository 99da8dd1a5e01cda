"""Deciding on pages of users, two at a time; on smaller ones, and fewer events together, where time runs out (B-2).

Nobody is waited for while others are held: an application that deletes users would come to wait for the fan-out, and
the fan-out for it. So a page whose users others hold is undone and decided in smaller ones, down to a single user.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from alerts_engine.errors import AlertsEngineError, PhaseError
from alerts_engine.locks import FAN_OUT_KEYS
from alerts_engine.phases.context import STATEMENT_PATIENCE
from alerts_engine.phases.one_page import OnePage, PageHeldUp, PageTimedOut
from alerts_engine.phases.portion import Portion
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alerts_engine.database import Session
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.fan_out import FanOutCounts
    from alerts_engine.phases.group import Group
    from alerts_engine.phases.one_page import FanOutPage

log = structlog.get_logger("alerts_engine.fan_out")

WORTH_TWO_PAGES = 4_000
"""Decisions from which on an audience is divided; fewer become visible in one transaction (B-2)."""
_NEIGHBOUR_TIMEOUT_SECONDS = 3.0
MOST_SET_ASIDE = 20
"""Users at events that are passed over in one run. More of them have another cause than what the users have written."""
_MOST_CONFLICTS = 5
"""In a row, until the phase fails with the last one."""
_FEWEST_OF_TWO_PAGES = 4
"""Fewer users are one page: who waits for a single user must not have a neighbour that holds others."""


# --- rows -----------------------------------------------------------------------------------------------------------


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


end_pages = command("phase_b_fan_out", "end_pages")
next_pages = statement("phase_b_fan_out", "next_pages", Pages)


# --- deciding -------------------------------------------------------------------------------------------------------


class PageDecisions:
    """Takes groups of events through the audience; each page is a transaction that can be the last."""

    def __init__(self, context: PhaseContext, counts: FanOutCounts, plans: list[dict[str, Any]]) -> None:
        self._context = context
        self._counts = counts
        self._alone = False
        """Set once there was no second connection in time: it will not be waited for again."""
        self._portion = Portion()
        """Beside others who delete and lock users: those wait less, and less is decided again."""
        self._one = OnePage(context, plans, self._portion)
        self._conflicts = 0
        self.timed_out = 0
        """Pages that took too long."""
        self.set_aside: list[tuple[int, int]] = []
        """Users and events that could not be decided at all."""
        self.users_passed = 0
        """For the progress bar."""

    async def go_on(self, group: Group) -> list[Group]:
        """Decide on the next two pages of users, or on one; what is left to do of the group."""
        try:
            return await self._next_pages(group)
        except PageTimedOut as late:
            return await self._in_smaller_steps(late)
        except PageHeldUp as page:
            return [self._once_more(page)]

    async def _in_smaller_steps(self, late: PageTimedOut) -> list[Group]:
        """Fewer users, then fewer events; one user at one event is passed over, and named."""
        group = late.group
        self.timed_out += 1
        log.warning(
            "page_timed_out", patience=STATEMENT_PATIENCE, users=late.users, events=len(group.event_ids),
            after_user=group.position, last_user=late.last_user,
        )  # fmt: skip
        if late.users > 1:
            return [group.narrowed(late.last_user, late.users)]
        if len(group.event_ids) > 1:
            return group.parts()
        await self._pass_over(group.event_ids[0], late.last_user)
        return [group.beyond(late.last_user)]

    def _once_more(self, page: PageHeldUp) -> Group:
        """The same users in smaller pages. Raises the conflict once there were too many in a row."""
        if page.conflict is not None:
            self._conflicts += 1
            if self._conflicts == _MOST_CONFLICTS:
                raise page.conflict
        log.debug("page_held_up", after_user=page.group.position, users=page.users, error=str(page.conflict or ""))
        if page.users:
            self._portion.shrink(page.users)
        return page.group

    async def _pass_over(self, event_id: int, user_id: int) -> None:
        if len(self.set_aside) == MOST_SET_ASIDE:
            raise PhaseError(
                f"the fan-out took longer than {STATEMENT_PATIENCE} even for one user at one event, again "
                "and again: is the database overloaded? The next run goes on from here"
            )
        async with self._context.database.transaction() as transaction:
            await self._one.advance(transaction, (event_id,), user_id, completed=False)
        self.set_aside.append((user_id, event_id))
        self._counts.users_set_aside += 1
        log.error("user_set_aside", user=user_id, event_id=event_id, patience=STATEMENT_PATIENCE)

    async def _next_pages(self, group: Group) -> list[Group]:
        async with self._context.database.transaction() as transaction:
            await self._one.lock(transaction, FAN_OUT_KEYS[0])
            pages = await transaction.row(
                next_pages,
                after_user=group.position,
                page_size=self._portion.of(group.page_size),
                worth_two=max(2, WORTH_TWO_PAGES // len(group.event_ids)),
            )
            lower: FanOutPage | None = None
            upper: FanOutPage | BaseException
            async with self._neighbour(group, pages) as neighbour:
                if neighbour is None:
                    await self._one.lock(transaction, FAN_OUT_KEYS[1])
                    pages = pages.lower()
                    upper = await self._one.decide(transaction, group, pages.last_user, pages.users)
                else:
                    lower, upper = await self._side_by_side(neighbour, transaction, group, pages)
            # The lower page is committed: only now may the position go beyond it.
            if lower is not None:
                self._counts.add(lower)
            if isinstance(upper, BaseException):
                raise upper
            advanced = await self._one.advance(transaction, group.event_ids, pages.last_user, completed=not pages.more)
        self._counts.add(upper)
        self._conflicts = 0
        self.users_passed += pages.users
        if pages.more and advanced:
            return [group.beyond(pages.last_user)]
        # At the end; or no event is left to advance: another runner has completed them.
        self._counts.events_processed += 0 if pages.more else advanced
        return []

    async def _side_by_side(
        self, below: Session, above: Session, group: Group, pages: Pages
    ) -> tuple[FanOutPage, FanOutPage | BaseException]:
        """Decide on both pages at once; what goes wrong with the upper one takes nothing from the lower."""
        half = pages.lower()
        lower, upper = await asyncio.gather(
            self._one.decide(below, group, half.last_user, half.users),
            self._one.decide(above, group.beyond(half.last_user), pages.last_user, pages.users - half.users),
            return_exceptions=True,
        )
        if isinstance(lower, BaseException):
            raise lower
        await self._one.advance(below, group.event_ids, half.last_user, completed=False)
        return lower, upper

    @asynccontextmanager
    async def _neighbour(self, group: Group, pages: Pages) -> AsyncIterator[Session | None]:
        """A second transaction with the second lock; ``None`` for a single page, or where no connection is to spare."""
        async with AsyncExitStack() as stack:
            neighbour = None
            two_pages = pages.middle_user is not None and pages.users >= _FEWEST_OF_TWO_PAGES
            if two_pages and not self._alone and not group.narrow:
                neighbour = await self._begin_neighbour(stack)
                self._alone = neighbour is None
            yield neighbour

    async def _begin_neighbour(self, stack: AsyncExitStack) -> Session | None:
        try:
            async with asyncio.timeout(_NEIGHBOUR_TIMEOUT_SECONDS):
                neighbour = await stack.enter_async_context(self._context.database.spare_transaction())
                if neighbour is not None:
                    await self._one.lock(neighbour, FAN_OUT_KEYS[1])
                return neighbour
        except (TimeoutError, AlertsEngineError):  # such as too many connections: one of them is enough
            await stack.aclose()
            return None
