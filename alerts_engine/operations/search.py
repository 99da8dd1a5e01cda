"""Finding a user, an event, a delivery or a digest by what an operator knows of it (SPEC P-4a)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING

from alerts_engine.errors import NotFoundError
from alerts_engine.operations.users import users_of_address
from alerts_engine.statements import statement
from alerts_engine.types import Kind, Status  # noqa: TC001 - row types are read at run time

if TYPE_CHECKING:
    from alerts_engine.database import Executor

MOST_FOUND = 20
_LONGEST_LINE = 300
_LARGEST_ID = 2**31 - 1
_BETWEEN_DIGITS = re.compile(r"[\s()./-]")
_AN_ADDRESS = re.compile(r"\S+@\S+|[+-]?\d{5,}")


# --- rows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowsWithNumber:
    is_user: bool
    is_event: bool
    is_delivery: bool
    is_digest: bool


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event as a list shows it."""

    id: int
    alert_type: str
    scope_region: str | None
    severity: int
    headline: str
    created_at: datetime
    fanout_completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """How many of an event's deliveries came to it."""

    channel: str
    outcome: str
    """A status, or ``batched_into_digest``."""
    rows: int


@dataclass(frozen=True, slots=True)
class UserDelivery:
    """One of a user's deliveries."""

    id: int
    channel: str
    kind: Kind
    status: Status
    attempts: int
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None
    event_id: int
    severity: int
    headline: str
    digest_id: int | None


@dataclass(frozen=True, slots=True)
class KnownUser:
    """What decides about a user; no address."""

    id: int
    plan: str
    considered: bool
    """Whether the fan-out looks at them at all: not with an unverified email address."""
    digest_only: bool
    channels: list[str]
    """Those with a destination."""
    switched_off: list[str]


@dataclass(frozen=True, slots=True)
class EventWay:
    """An event, and what became of it: of a hundred thousand deliveries at most."""

    event: FoundEvent
    outcomes: tuple[EventOutcome, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a text may mean."""

    user_ids: tuple[int, ...] = ()
    delivery_ids: tuple[int, ...] = ()
    digest_ids: tuple[int, ...] = ()
    events: tuple[FoundEvent, ...] = ()


rows_with_number = statement("search", "rows_with_number", RowsWithNumber)
events_found = statement("search", "events_found", FoundEvent)
deliveries_to_user = statement("search", "deliveries_to_user", UserDelivery)
event_by_id = statement("search", "event_by_id", FoundEvent)
outcomes_of_event = statement("search", "outcomes_of_event", EventOutcome)
known_user = statement("search", "known_user", KnownUser)


async def search(database: Executor, text: str) -> Found:
    """What ``text`` may mean: an id, an address or a number to send to, a fingerprint, words of a headline."""
    text = text.strip()
    number = int(text) if text.isascii() and text.isdecimal() and int(text) <= _LARGEST_ID else None
    numbered = RowsWithNumber(False, False, False, False)
    if number is not None:
        numbered = await database.row(rows_with_number, number=number)
    users = [number] if number is not None and numbered.is_user else []
    if _AN_ADDRESS.fullmatch(_BETWEEN_DIGITS.sub("", text)):
        users += [row.id for row in await database.rows(users_of_address, address=text, most=MOST_FOUND)]
    return Found(
        user_ids=tuple(dict.fromkeys(users)),
        delivery_ids=(number,) if number is not None and numbered.is_delivery else (),
        digest_ids=(number,) if number is not None and numbered.is_digest else (),
        events=await _events_of(database, text, number if numbered.is_event else None),
    )


async def _events_of(database: Executor, text: str, number: int | None) -> tuple[FoundEvent, ...]:
    by_number = [] if number is None else await events(database, before=number + 1, limit=1)
    by_words = [] if number is not None or "@" in text else await events(database, words=text)
    return (*by_number, *by_words)


async def events(
    database: Executor, *, words: str | None = None, before: int | None = None, limit: int = MOST_FOUND
) -> list[FoundEvent]:
    """Events, the newest first; of the newest ten thousand those with the words, where there are some."""
    pattern = None if words is None else f"%{_literally(words)}%"
    return await database.rows(
        events_found, pattern=pattern, fingerprint=words, before=before, most=limit, longest_line=_LONGEST_LINE
    )


async def event_way(database: Executor, event_id: int) -> EventWay:
    """An event, and what became of its deliveries. Raises :class:`NotFoundError`."""
    found = await database.rows(event_by_id, id=event_id, longest_line=_LONGEST_LINE)
    if not found:
        raise NotFoundError(f"there is no event {event_id}")
    return EventWay(found[0], tuple(await database.rows(outcomes_of_event, event_id=event_id)))


async def user_deliveries(
    database: Executor, user_id: int, *, before: int | None = None, limit: int = MOST_FOUND
) -> list[UserDelivery]:
    """A user's deliveries, the newest first."""
    return await database.rows(
        deliveries_to_user, user_id=user_id, before=before, most=limit, longest_line=_LONGEST_LINE
    )


async def user(database: Executor, user_id: int) -> KnownUser:
    """Raises :class:`NotFoundError`."""
    found = await database.rows(known_user, user_id=user_id)
    if not found:
        raise NotFoundError(f"there is no user {user_id}")
    return found[0]


def _literally(words: str) -> str:
    """The words as ILIKE takes them at their word."""
    return re.sub(r"([%_\\])", r"\\\1", words)
