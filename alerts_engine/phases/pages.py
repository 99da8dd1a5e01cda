"""Deciding on pages of users, two at a time; on smaller ones, and fewer events together, where time runs out (B-2).

Nobody is waited for while others are held: an application that deletes users would come to wait for the fan-out, and
the fan-out for it. So a page whose users others hold is undone and decided in smaller ones, down to a single user.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from alerts_engine.errors import AlertsEngineError, ConflictError, LockTimeoutError, PhaseError, StatementTimeoutError
from alerts_engine.locks import FAN_OUT_KEYS, lock_holders
from alerts_engine.phases.context import LOCK_PATIENCE, STATEMENT_PATIENCE
from alerts_engine.phases.plans import channels_as_json
from alerts_engine.phases.portion import Portion
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from alerts_engine.database import Session
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.fan_out import FanOutCounts, PendingEvent

log = structlog.get_logger("alerts_engine.fan_out")

DECISIONS_PER_PAGE = 40_000
LARGEST_PAGE, SMALLEST_PAGE = 20_000, 200
WORTH_TWO_PAGES = 4_000
"""Decisions from which on an audience is divided; fewer become visible in one transaction (B-2)."""
_NEIGHBOUR_TIMEOUT_SECONDS = 3.0
MOST_SET_ASIDE = 20
"""Users at events that are passed over in one run. More of them have another cause than what the users have written."""
_PARTS = 10
"""What took too long is divided into so many: five times find one of 20,000 users."""
_MOST_CONFLICTS = 5
"""In a row, until the phase fails with the last one."""
_FEWEST_OF_TWO_PAGES = 4
"""Fewer users are one page: who waits for a single user must not have a neighbour that holds others."""


# --- rows -----------------------------------------------------------------------------------------------------------


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
    held_by_others: list[int]
    """Users who should get something and did not, since another session deletes or locks them."""
    decisions: list[dict[str, Any]] | None
    preferences: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class UserId:
    id: int


begin_page = command("phase_b_fan_out", "begin_page")
end_pages = command("phase_b_fan_out", "end_pages")
next_pages = statement("phase_b_fan_out", "next_pages", Pages)
hold_user = command("phase_b_fan_out", "hold_user")
still_there = statement("phase_b_fan_out", "still_there", UserId)
fan_out_page = statement("phase_b_fan_out", "fan_out_page", FanOutPage)
advance_fan_out = statement("phase_b_fan_out", "advance_fan_out", Count)


# --- what goes together ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Narrow:
    """Up to this user pages are small: one that reached so far took too long."""

    last_user: int
    page_size: int


@dataclass(frozen=True, slots=True)
class Group:
    """Events that go through the audience together, the most severe first."""

    event_ids: tuple[int, ...]
    position: int
    """They are decided up to this user."""
    narrow: tuple[_Narrow, ...] = ()

    @classmethod
    def of(cls, events: Iterable[PendingEvent]) -> Group:
        """These events, from where the first of them stands."""
        ranked = sorted(events, key=lambda event: -event.severity)
        return cls(tuple(event.id for event in ranked), min(event.fanout_position for event in ranked))

    @property
    def page_size(self) -> int:
        """The most users of the next page."""
        usual = max(SMALLEST_PAGE, min(LARGEST_PAGE, DECISIONS_PER_PAGE // len(self.event_ids)))
        return min([usual, *(narrow.page_size for narrow in self.narrow)])

    def beyond(self, user: int) -> Group:
        """The same events, decided up to ``user``."""
        return replace(self, position=user, narrow=tuple(one for one in self.narrow if one.last_user > user))

    def narrowed(self, last_user: int, users: int) -> Group:
        """With smaller pages up to ``last_user``, since one of so many ``users`` took too long."""
        return replace(self, narrow=(*self.narrow, _Narrow(last_user, max(1, users // _PARTS))))

    def parts(self) -> list[Group]:
        """Fewer events together, the most severe first."""
        size = -(-len(self.event_ids) // _PARTS)
        starts = range(0, len(self.event_ids), size)
        return [replace(self, event_ids=self.event_ids[start : start + size]) for start in starts]


class _PageTimedOut(Exception):  # noqa: N818 - not an error: it says where to go on in smaller steps
    def __init__(self, group: Group, last_user: int, users: int) -> None:
        self.group = group
        """As it stands before the page."""
        self.last_user = last_user
        self.users = users


class _PageHeldUp(Exception):  # noqa: N818 - not an error: it says where to go on in smaller steps
    def __init__(self, group: Group, users: int, conflict: ConflictError | None = None) -> None:
        self.group = group
        """As it stands before the page."""
        self.users = users
        self.conflict = conflict
        """``None`` where others hold some of the users."""


# --- deciding -------------------------------------------------------------------------------------------------------


class PageDecisions:
    """Takes groups of events through the audience; each page is a transaction that can be the last."""

    def __init__(self, context: PhaseContext, counts: FanOutCounts, plans: list[dict[str, Any]]) -> None:
        self._context = context
        self._counts = counts
        self._plans = plans
        self._alone = False
        """Set once there was no second connection in time: it will not be waited for again."""
        self._portion = Portion()
        """Beside others who delete and lock users: those wait less, and less is decided again."""
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
        except _PageTimedOut as late:
            return await self._in_smaller_steps(late)
        except _PageHeldUp as page:
            return [self._once_more(page)]

    async def _in_smaller_steps(self, late: _PageTimedOut) -> list[Group]:
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

    def _once_more(self, page: _PageHeldUp) -> Group:
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
            await self._advance(transaction, (event_id,), user_id, completed=False)
        self.set_aside.append((user_id, event_id))
        self._counts.users_set_aside += 1
        log.error("user_set_aside", user=user_id, event_id=event_id, patience=STATEMENT_PATIENCE)

    async def _next_pages(self, group: Group) -> list[Group]:
        async with self._context.database.transaction() as transaction:
            await self._lock(transaction, FAN_OUT_KEYS[0])
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
                    await self._lock(transaction, FAN_OUT_KEYS[1])
                    pages = pages.lower()
                    upper = await self._page(transaction, group, pages.last_user, pages.users)
                else:
                    lower, upper = await self._side_by_side(neighbour, transaction, group, pages)
            # The lower page is committed: only now may the position go beyond it.
            if lower is not None:
                self._counts.add(lower)
            if isinstance(upper, BaseException):
                raise upper
            advanced = await self._advance(transaction, group.event_ids, pages.last_user, completed=not pages.more)
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
            self._page(below, group, half.last_user, half.users),
            self._page(above, group.beyond(half.last_user), pages.last_user, pages.users - half.users),
            return_exceptions=True,
        )
        if isinstance(lower, BaseException):
            raise lower
        await self._advance(below, group.event_ids, half.last_user, completed=False)
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
                    await self._lock(neighbour, FAN_OUT_KEYS[1])
                return neighbour
        except (TimeoutError, AlertsEngineError):  # such as too many connections: one of them is enough
            await stack.aclose()
            return None

    async def _lock(self, transaction: Session, key: int) -> None:
        try:
            await transaction.run(begin_page, key=key, lock_patience=LOCK_PATIENCE, patience=STATEMENT_PATIENCE)
        except LockTimeoutError as error:
            holders = ""
            with suppress(AlertsEngineError):
                holders = ", ".join(map(str, await self._context.database.rows(lock_holders, key=key)))
            raise LockTimeoutError(
                f"waited {LOCK_PATIENCE} for another fan-out to end its page ({holders or 'it has just ended'}): "
                "the next run goes on",
                sqlstate=error.sqlstate,
            ) from None

    async def _page(self, transaction: Session, group: Group, last_user: int, users: int) -> FanOutPage:
        """Decide on one page. A single user may be waited for, as nobody else is held meanwhile."""
        alone = users == 1 and not self._context.dry_run
        if alone:
            await self._hold(transaction, last_user)
        page = await self._decide(transaction, group, last_user, users)
        # A dry run holds whom it locked to its end: it leaves out whom it would have to wait for.
        if users > 1 and await self._are_any_still_there(transaction, page.held_by_others):
            raise _PageHeldUp(group, users)
        if users and not self._context.dry_run:
            await self._portion.adapt(transaction, users)
        return page

    async def _are_any_still_there(self, transaction: Session, users: list[int]) -> bool:
        return bool(users) and bool(await transaction.rows(still_there, user_ids=users))

    async def _hold(self, transaction: Session, user_id: int) -> None:
        try:
            await transaction.run(hold_user, user_id=user_id)
        except LockTimeoutError as error:
            raise LockTimeoutError(
                f"waited {LOCK_PATIENCE} for user {user_id}, whose row another session keeps locked: the next run goes "
                "on",
                sqlstate=error.sqlstate,
            ) from None

    async def _decide(self, transaction: Session, group: Group, last_user: int, users: int) -> FanOutPage:
        try:
            return await transaction.row(
                fan_out_page,
                event_ids=group.event_ids,
                after_user=group.position,
                last_user=last_user,
                now=self._context.now,
                time_zone=self._context.settings.time_zone,
                plans=self._plans,
                allowlist=self._context.allowlist,
                record=True,
                channels=channels_as_json(),
            )
        except StatementTimeoutError:
            if not users:
                raise
            raise _PageTimedOut(group, last_user, users) from None
        except ConflictError as conflict:
            raise _PageHeldUp(group, users, conflict) from None

    async def _advance(
        self, transaction: Session, event_ids: tuple[int, ...], last_user: int, *, completed: bool
    ) -> int:
        advanced = await transaction.row(
            advance_fan_out, event_ids=event_ids, last_user=last_user, completed=completed, now=self._context.now
        )
        return advanced.count
