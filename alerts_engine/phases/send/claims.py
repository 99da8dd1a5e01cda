"""Deliveries and digests as one thing to send: two sets of statements, one life (SPEC section 8)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - row types are read at run time
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid5

from alerts_engine.phases.fan_out import Count
from alerts_engine.statements import Statement, statement
from alerts_engine.types import Alert, DigestContent, Period

if TYPE_CHECKING:
    from alerts_engine.database import Executor
    from alerts_engine.phases.send.event_cache import EventCache

KEY_NAMESPACE = UUID("6f2e6c0e-5a0f-4a53-9d0c-2f7a4b8f6f11")
"""Idempotency keys are name-based UUIDs in this namespace: the same row has the same key for ever (SPEC C-12)."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    id: int
    attempts: int
    created_at: datetime
    destination: str | None
    channel_enabled: bool
    event_id: int


@dataclass(frozen=True, slots=True)
class ClaimedDigest:
    id: int
    attempts: int
    created_at: datetime
    destination: str | None
    channel_enabled: bool
    digest_key: str
    period: Period
    window_start: datetime
    window_end: datetime


@dataclass(frozen=True, slots=True)
class DigestItem:
    digest_id: int
    event_id: int


@dataclass(frozen=True, slots=True)
class RowId:
    id: int


@dataclass(frozen=True, slots=True)
class Due:
    due: bool


@dataclass(frozen=True, slots=True)
class Reclaimed:
    reclaimed: int
    failed: int


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """One claimed row on its way: what it says, where to, and how often that was tried."""

    id: int
    attempts: int
    destination: str | None
    channel_enabled: bool
    content: Alert | DigestContent
    idempotency_key: UUID


@dataclass(frozen=True, slots=True)
class SourceStatements:
    """The statements of one table's life."""

    reclaim: Statement[Reclaimed]
    skip_unconfigured: Statement[Count]
    due: Statement[Due]
    begin: Statement[RowId]
    settle: Statement[RowId]
    release: Statement[RowId]
    release_unbegun: Statement[RowId]


class Source(Protocol):
    """A table of rows to send."""

    @property
    def name(self) -> str: ...
    @property
    def statements(self) -> SourceStatements: ...
    async def claim(self, database: Executor, events: EventCache, **values: Any) -> list[ClaimedMessage]:
        """Lease due rows of one channel to this run, with all that their messages are made of."""
        ...


def _statements(table: str) -> SourceStatements:
    file = "phase_c_send"
    return SourceStatements(
        reclaim=statement(file, f"reclaim_{table}", Reclaimed),
        skip_unconfigured=statement(file, f"skip_unconfigured_{table}", Count),
        due=statement(file, f"are_{table}_due", Due),
        begin=statement(file, f"begin_{table}", RowId),
        settle=statement(file, f"settle_{table}", RowId),
        release=statement(file, f"release_{table}", RowId),
        release_unbegun=statement(file, f"release_unbegun_{table}", RowId),
    )


claim_deliveries = statement("phase_c_send", "claim_deliveries", ClaimedDelivery)
claim_digests = statement("phase_c_send", "claim_digests", ClaimedDigest)
digest_items = statement("phase_c_send", "digest_items", DigestItem)


class Deliveries:
    name = "deliveries"
    statements = _statements("deliveries")

    async def claim(self, database: Executor, events: EventCache, **values: Any) -> list[ClaimedMessage]:
        claimed = await database.rows(claim_deliveries, **values)
        known = await events.of(row.event_id for row in claimed)
        return [
            ClaimedMessage(
                id=row.id,
                attempts=row.attempts,
                destination=row.destination,
                channel_enabled=row.channel_enabled,
                content=known[row.event_id].alert,
                idempotency_key=_key("delivery", row.id, row.created_at, known[row.event_id].fingerprint),
            )
            for row in claimed
        ]


class Digests:
    name = "digests"
    statements = _statements("digests")

    async def claim(self, database: Executor, events: EventCache, **values: Any) -> list[ClaimedMessage]:
        claimed = await database.rows(claim_digests, **values)
        items = await items_of(database, [row.id for row in claimed], events) if claimed else {}
        return [
            ClaimedMessage(
                id=row.id,
                attempts=row.attempts,
                destination=row.destination,
                channel_enabled=row.channel_enabled,
                content=DigestContent(row.period, row.window_start, row.window_end, items.get(row.id, ())),
                idempotency_key=_key("digest", row.id, row.created_at, row.digest_key),
            )
            for row in claimed
        ]


DELIVERIES = Deliveries()
DIGESTS = Digests()
SOURCES: tuple[Source, ...] = (DELIVERIES, DIGESTS)
"""In the order in which they are sent (SPEC C-1)."""


async def items_of(database: Executor, digest_ids: list[int], events: EventCache) -> dict[int, tuple[Alert, ...]]:
    """The alerts in each of these digests, the most severe first."""
    rows = await database.rows(digest_items, digest_ids=digest_ids)
    known = await events.of(row.event_id for row in rows)
    return {
        digest: tuple(known[item.event_id].alert for item in items)
        for digest, items in groupby(rows, key=lambda row: row.digest_id)
    }


def _key(kind: str, row_id: int, created_at: datetime, identity: str) -> UUID:
    # The time and the identity keep the rows of two databases apart that share one provider account.
    return uuid5(KEY_NAMESPACE, f"{kind}:{row_id}:{created_at.isoformat()}:{identity}")
