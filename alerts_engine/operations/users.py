"""Whom an operator means: a user by id, or by an address (SPEC O-6). No address is ever logged or repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.errors import AmbiguousError, NotFoundError
from alerts_engine.operations.explain import explained_user
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Executor

_MOST_LISTED = 5
_MOST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class UserId:
    id: int


users_of_address = statement("explain", "users_of_address", UserId)


async def user_named(database: Executor, name: str) -> int:
    """The id of the user that ``name`` means: an id, an email address, a phone number or a chat id.

    Raises :class:`NotFoundError`, or :class:`AmbiguousError`, which lists the ids.
    """
    address = name.strip().replace("\0", "")  # PostgreSQL takes no NUL, and no address has one
    number = _as_id(address)
    if number is not None and await database.rows(explained_user, user_id=number):
        return number
    found = await database.rows(users_of_address, address=address, most=_MOST_LISTED + 1) if address else []
    if not found:
        raise NotFoundError("no user has this address" if number is None else f"there is no user {number}")
    if len(found) > 1:
        listed = ", ".join(str(user.id) for user in found[:_MOST_LISTED])
        more = " and more" if len(found) > _MOST_LISTED else ""
        raise AmbiguousError(f"several users have this address: {listed}{more}; give the id of one")
    return found[0].id


def _as_id(name: str) -> int | None:
    if not (name.isascii() and name.isdecimal()):
        return None
    number = int(name)
    return number if 1 <= number <= _MOST_ID else None
