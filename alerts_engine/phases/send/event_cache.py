"""The alerts that messages tell: many rows tell the same few, so each is read once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from typing import TYPE_CHECKING

from alerts_engine.statements import statement
from alerts_engine.types import Alert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alerts_engine.database import Executor

_MOST_KEPT = 2_000
_MOST_CHARACTERS_KEPT = 8_000_000
"""Of bodies; 16 MB of memory where they are not plain ASCII."""


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    event_fingerprint: str
    alert_type: str
    scope_region: str | None
    scope_assets: tuple[str, ...]
    severity: int
    headline: str
    body: str | None
    created_at: datetime
    value: float | None
    previous: float | None
    what: str | None
    digest_headline: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class CachedEvent:
    fingerprint: str
    alert: Alert


event_rows = statement("phase_c_send", "event_rows", EventRow)


class EventCache:
    """The alerts of one run, remembered up to about 2,000 events. Several senders ask at the same time."""

    def __init__(self, database: Executor) -> None:
        self._database = database
        self._known: dict[int, CachedEvent] = {}
        self._characters = 0

    async def of(self, event_ids: Iterable[int]) -> Mapping[int, CachedEvent]:
        """The alerts of these events, by event id; reads only those that are not known."""
        wanted = set(event_ids)
        # Taken out before anything is awaited: meanwhile another sender may have all of them forgotten.
        found = {event_id: self._known[event_id] for event_id in wanted & self._known.keys()}
        unknown = wanted - found.keys()
        if unknown:
            read = await self._read(sorted(unknown))
            self._remember(read)
            found |= read
        return found

    async def _read(self, event_ids: list[int]) -> dict[int, CachedEvent]:
        from alerts_engine.rendering.views import LONGEST_RAW_BODY, LONGEST_RAW_LINE, MOST_RAW_ASSETS

        rows = await self._database.rows(
            event_rows,
            event_ids=event_ids,
            longest_line=LONGEST_RAW_LINE,
            longest_body=LONGEST_RAW_BODY,
            most_assets=MOST_RAW_ASSETS,
        )
        return {row.id: CachedEvent(row.event_fingerprint, _alert_of(row)) for row in rows}

    def _remember(self, read: dict[int, CachedEvent]) -> None:
        characters = sum(len(event.alert.body) for event in read.values())
        if len(self._known) + len(read) > _MOST_KEPT or self._characters + characters > _MOST_CHARACTERS_KEPT:
            self._known.clear()
            self._characters = 0
        self._known |= read
        self._characters += characters


def _alert_of(row: EventRow) -> Alert:
    return Alert(
        event_id=row.id,
        alert_type=row.alert_type,
        scope_region=row.scope_region,
        scope_assets=row.scope_assets,
        severity=row.severity,
        headline=row.headline,
        body=row.body or "",
        created_at=row.created_at,
        value=row.value,
        previous=row.previous,
        what=row.what,
        digest_headline=row.digest_headline,
        source=row.source,
    )
