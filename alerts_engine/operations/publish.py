"""Publishing an application's own events, in its own transaction if it likes (SPEC A-7, I-1, I-2)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from alerts_engine.database import database_now
from alerts_engine.database.borrowed import CallersSession
from alerts_engine.errors import DatabaseError
from alerts_engine.phases.generate import insert
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from alerts_engine.database import Database, Executor
    from alerts_engine.phases.generate import InsertedEvent
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.settings import Settings

log = structlog.get_logger("alerts_engine.publish")

_TRIES = 5
"""For an event that another session has just published: the first try may not see it yet."""
_PREFERENCES_LOOKED_AT = 10_000
"""Some milliseconds' worth; only asked while a word is not known yet."""
_ONLY_ASSET_ALERTS_HAVE_ASSETS = "ASSET_RISK_SPIKE"
"""The one type for which a preference's asset matters (SPEC B-4)."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an event that was published."""

    event_id: int
    created: bool
    """``False``: an event with this fingerprint was there already, and is as it was."""
    warnings: tuple[str, ...] = ()
    """Why nobody, or hardly anybody, can get it: a misspelt region, say. The event is published all the same."""


# --- rows -----------------------------------------------------------------------------------------------------------


class UnknownTo(StrEnum):
    """Where a word of an event was looked for in vain."""

    PLANS = "plans"
    TYPE = "preferences_for_type"
    REGION = "preferences_for_region"
    ASSET = "preferences_for_asset"


@dataclass(frozen=True, slots=True)
class EventsTable:
    number: int
    schema: str


@dataclass(frozen=True, slots=True)
class Found:
    now: datetime
    is_there: bool
    search_path_before: str
    search_path: str | None
    """``None`` where nothing had to be changed."""


@dataclass(frozen=True, slots=True)
class UnknownWord:
    unknown_to: UnknownTo
    word: str
    looked_at: int


events_table = statement("publish", "events_table", EventsTable)
find_events_table = statement("publish", "find_events_table", Found)
restore_search_path = command("publish", "restore_search_path")
unknown_words = statement("publish", "unknown_words", UnknownWord)


# --- publishing -----------------------------------------------------------------------------------------------------


class Publisher:
    """Publishes on one database; remembers where its events are, and which words are known to somebody."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._table: EventsTable | None = None
        self._known: set[tuple[UnknownTo, str]] = set()

    async def find_table(self) -> EventsTable:
        """Where the engine's connections find the events; asked once. Raises :class:`SchemaError`."""
        if self._table is None:
            self._table = await self._database.row(events_table)
        return self._table

    async def publish(self, events: Sequence[NewEvent], connection: Any | None) -> list[Published]:
        """Publish all of them or none, each with its result, in the order given.

        ``connection`` is the application's: its transaction decides, and a publish that fails leaves it as it was.
        """
        if not events:
            return []
        if connection is None:
            now = await database_now(self._database)
            return await self._publish(self._database, events, now)
        table = await self.find_table()
        async with CallersSession(connection).transaction() as session, _found(session, table) as found:
            return await self._publish(session, events, found.now)

    async def _publish(self, database: Executor, events: Sequence[NewEvent], now: datetime) -> list[Published]:
        inserted = await _insert_all(database, events, now)
        unknown = await self._unknown(database, events)
        return [
            Published(found_id, one.is_new, tuple(_warnings(event, unknown)))
            for event, one in zip(events, inserted, strict=True)
            if (found_id := one.id) is not None
        ]

    # --- what nobody can get ----------------------------------------------------------------------------------------

    async def _unknown(self, database: Executor, events: Sequence[NewEvent]) -> list[UnknownWord]:
        """What keeps the events from everybody. That it cannot be found out is no reason not to publish."""
        asked = {word for event in events for word in _words(event)} - self._known
        if not asked:
            return []
        built_in = [{"plan": name, "alert_types": list(one.alert_types)} for name, one in self._settings.plans.items()]
        try:
            async with database.transaction() as transaction:
                unknown = await transaction.rows(
                    unknown_words,
                    alert_types=_of(asked, UnknownTo.TYPE),
                    regions=_of(asked, UnknownTo.REGION),
                    assets=_of(asked, UnknownTo.ASSET),
                    built_in=built_in,
                    most=_PREFERENCES_LOOKED_AT,
                )
        except DatabaseError as error:  # such as an application's role that may not read preferences
            log.debug("published_event_not_checked", error=str(error))
            return []
        missing = {(one.unknown_to, one.word) for one in unknown}
        missing |= {(UnknownTo.TYPE, word) for kind, word in missing if kind is UnknownTo.PLANS}
        self._known |= asked - missing
        return unknown


def _of(words: Iterable[tuple[UnknownTo, str]], kind: UnknownTo) -> list[str]:
    return sorted(word for one, word in words if one is kind)


async def _insert_all(
    database: Executor, events: Sequence[NewEvent], now: datetime, *, tries: int = _TRIES
) -> list[InsertedEvent]:
    inserted = await insert(database, events, now)
    if all(one.id is not None for one in inserted):
        return inserted
    if tries == 1:
        raise DatabaseError(
            "an event that is published has the fingerprint of one that another session publishes, which this "
            "transaction cannot see: publish it again in a new transaction"
        )
    again = await _insert_all(database, events, now, tries=tries - 1)
    # What the first try has made is known to the second.
    return [first if first.id is not None else second for first, second in zip(inserted, again, strict=True)]


@asynccontextmanager
async def _found(session: CallersSession, table: EventsTable) -> AsyncIterator[Found]:
    """The engine's tables come first on the search path, and triggers still find the application's."""
    found = await session.row(find_events_table, number=table.number, schema=table.schema)
    if not found.is_there:
        raise DatabaseError(
            "the connection is not one to the engine's database: publish on a connection to DATABASE_URL"
        )
    yield found
    if found.search_path is not None:  # after an error, the savepoint takes it back
        await session.run(restore_search_path, search_path=found.search_path_before)


def _words(event: NewEvent) -> list[tuple[UnknownTo, str]]:
    words = [(UnknownTo.TYPE, event.alert_type)]
    if event.scope_region and event.scope_region.strip():
        words.append((UnknownTo.REGION, event.scope_region))
    if event.alert_type == _ONLY_ASSET_ALERTS_HAVE_ASSETS:
        words += [(UnknownTo.ASSET, asset) for asset in event.scope_assets or ()]
    return words


def _warnings(event: NewEvent, unknown: list[UnknownWord]) -> list[str]:
    words = set(_words(event)) | {(UnknownTo.PLANS, event.alert_type)}
    return [_warning(one) for one in unknown if (one.unknown_to, one.word) in words]


def _warning(one: UnknownWord) -> str:
    some = "none of the newest preferences" if one.looked_at >= _PREFERENCES_LOOKED_AT else "no preference"
    match one.unknown_to:
        case UnknownTo.PLANS:
            return f"no plan allows the alert type {one.word!r}: nobody gets this event"
        case UnknownTo.TYPE:
            return f"{some} asks for the alert type {one.word!r}: nobody gets this event"
        case UnknownTo.REGION:
            return f"{some} names the region {one.word!r}: only who asked for every region gets this event"
        case UnknownTo.ASSET:
            return f"{some} names the asset {one.word!r}: only who asked for every asset gets this event"
        case _:
            assert_never(one.unknown_to)
