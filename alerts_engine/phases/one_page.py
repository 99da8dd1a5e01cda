"""One page of users, decided within one transaction (SPEC B-2, B-3)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import AlertsEngineError, ConflictError, LockTimeoutError, StatementTimeoutError
from alerts_engine.locks import lock_holders
from alerts_engine.phases.context import LOCK_PATIENCE, STATEMENT_PATIENCE
from alerts_engine.phases.plans import channels_as_json
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from alerts_engine.database import Session
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.group import Group
    from alerts_engine.phases.portion import Portion


@dataclass(frozen=True, slots=True)
class Count:
    count: int


@dataclass(frozen=True, slots=True)
class FanOutPage:
    users_considered: int
    created_instant: int
    created_digest: int
    moved_to_digest: int
    """Of these, what a quota refused as instant (SPEC B-7)."""
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
hold_user = command("phase_b_fan_out", "hold_user")
still_there = statement("phase_b_fan_out", "still_there", UserId)
fan_out_page = statement("phase_b_fan_out", "fan_out_page", FanOutPage)
advance_fan_out = statement("phase_b_fan_out", "advance_fan_out", Count)


class PageTimedOut(Exception):  # noqa: N818 - not an error: it says where to go on in smaller steps
    def __init__(self, group: Group, last_user: int, users: int) -> None:
        self.group = group
        """As it stands before the page."""
        self.last_user = last_user
        self.users = users


class PageHeldUp(Exception):  # noqa: N818 - not an error: it says where to go on in smaller steps
    def __init__(self, group: Group, users: int, conflict: ConflictError | None = None) -> None:
        self.group = group
        """As it stands before the page."""
        self.users = users
        self.conflict = conflict
        """``None`` where others hold some of the users."""


class OnePage:
    """Takes one page of users for a group of events: its lock, its decisions, and how far the events have come."""

    def __init__(self, context: PhaseContext, plans: list[dict[str, Any]], portion: Portion) -> None:
        self._context = context
        self._plans = plans
        self._portion = portion

    async def lock(self, transaction: Session, key: int) -> None:
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

    async def decide(self, transaction: Session, group: Group, last_user: int, users: int) -> FanOutPage:
        """Decide on one page. A single user may be waited for, as nobody else is held meanwhile."""
        clock = asyncio.get_running_loop().time
        began = clock()
        alone = users == 1 and not self._context.dry_run
        if alone:
            await self._hold(transaction, last_user)
        page = await self._decisions(transaction, group, last_user, users)
        # A dry run holds whom it locked to its end: it leaves out whom it would have to wait for.
        if users > 1 and await self._are_any_still_there(transaction, page.held_by_others):
            raise PageHeldUp(group, users)
        if users and not self._context.dry_run:
            await self._portion.adapt(transaction, users, clock() - began)
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

    async def _decisions(self, transaction: Session, group: Group, last_user: int, users: int) -> FanOutPage:
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
                overflow=self._context.settings.quota_overflow == "digest",
            )
        except StatementTimeoutError:
            if not users:
                raise
            raise PageTimedOut(group, last_user, users) from None
        except ConflictError as conflict:
            raise PageHeldUp(group, users, conflict) from None

    async def advance(
        self, transaction: Session, event_ids: tuple[int, ...], last_user: int, *, completed: bool
    ) -> int:
        advanced = await transaction.row(
            advance_fan_out, event_ids=event_ids, last_user=last_user, completed=completed, now=self._context.now
        )
        return advanced.count
