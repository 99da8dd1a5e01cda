"""Deliveries and digests as one thing to send: two tables, one life, one text of SQL (SPEC section 8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime  # noqa: TC003 - row types are read at run time
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid5

from alerts_engine.phases.one_page import Count
from alerts_engine.statements import Statement, statement
from alerts_engine.types import Alert, DigestContent, Period

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts_engine.database import Executor
    from alerts_engine.phases.send.event_cache import EventCache

KEY_NAMESPACE = UUID("6f2e6c0e-5a0f-4a53-9d0c-2f7a4b8f6f11")
"""Idempotency keys are name-based UUIDs in this namespace: the same row has the same key for ever (SPEC C-12)."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    id: int
    attempts: int
    created_at: datetime
    next_retry_at: datetime | None
    destination: str | None
    channel_enabled: bool
    is_repeat: bool
    is_begun: bool
    user_id: int
    reasons: str | None
    event_id: int


@dataclass(frozen=True, slots=True)
class ClaimedDigest:
    id: int
    attempts: int
    created_at: datetime
    next_retry_at: datetime | None
    destination: str | None
    channel_enabled: bool
    is_repeat: bool
    is_begun: bool
    user_id: int
    reasons: str | None


@dataclass(frozen=True, slots=True)
class DigestRow:
    """A digest, and one event in it; ``None`` when it is empty."""

    digest_id: int
    digest_key: str
    period: Period
    window_start: datetime
    window_end: datetime
    event_id: int | None
    over_quota: bool
    """The day's quota refused it as an instant message (SPEC B-7)."""


@dataclass(frozen=True, slots=True)
class RowId:
    id: int


@dataclass(frozen=True, slots=True)
class Due:
    due: bool


@dataclass(frozen=True, slots=True)
class ChannelWork:
    """What there is to do on one channel."""

    channel: str
    is_due: bool
    is_uncertain: bool


@dataclass(frozen=True, slots=True)
class Reclaimed:
    reclaimed: int
    failed: int
    uncertain: int


@dataclass(frozen=True, slots=True)
class UncertainRow:
    """A row that a provider can be asked about."""

    id: int
    attempts: int
    created_at: datetime
    uncertain_since: datetime
    sent_by: str
    body_digest: bytes | None
    destination: str | None
    identity: str
    taken: list[str]
    """What the provider gave to other messages of the same text to the same number."""


class Verdict(StrEnum):
    """What became of an uncertain row after its provider was asked (SPEC C-17)."""

    SENT = "sent"
    AGAIN = "again"
    """It was not accepted: it is due."""
    NOT_SENT = "not_sent"
    """It was not accepted, and has no attempts left."""
    LATER = "later"
    """It is asked about again."""
    REPEAT = "repeat"
    """Nobody can tell: it is sent again."""
    GIVE_UP = "give_up"
    """Nobody can tell: it is not sent again."""
    EXHAUSTED = "exhausted"
    """Nobody can tell, and it has no attempts left."""


@dataclass(frozen=True, slots=True)
class Resolved:
    id: int
    verdict: Verdict
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """How far the claims of this run have come: among the rows never tried, and among those that wait for a time."""

    new_from: datetime | None = None
    new_from_id: int | None = None
    due_from: datetime | None = None
    due_from_id: int | None = None

    def after(self, claimed: Sequence[ClaimedMessage]) -> Position:
        """Where the next claim begins when this one took ``claimed``, which are in their order."""
        position = self
        new = [message for message in claimed if message.next_retry_at is None]
        due = [(message.next_retry_at, message.id) for message in claimed if message.next_retry_at is not None]
        if new:
            position = replace(position, new_from=new[-1].created_at, new_from_id=new[-1].id)
        if due:
            due_from, due_from_id = max(due)
            position = replace(position, due_from=due_from, due_from_id=due_from_id)
        return position


HEAD = Position()
"""Before every row."""


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """One claimed row on its way: what it says, where to, and how often that was tried."""

    id: int
    attempts: int
    created_at: datetime
    next_retry_at: datetime | None
    destination: str | None
    channel_enabled: bool
    is_repeat: bool
    """An earlier attempt may have been accepted (SPEC C-17)."""
    is_begun: bool
    """Its claim has noted that its send begins."""
    content: Alert | DigestContent
    idempotency_key: UUID
    user_id: int
    reasons: str | None
    """JSON: the preferences that matched, kept since the first claim (SPEC M-3b)."""


@dataclass(frozen=True, slots=True)
class SourceStatements:
    """The statements of one table's life."""

    reclaim: Statement[Reclaimed]
    skip_unconfigured: Statement[Count]
    due: Statement[Due]
    begin: Statement[RowId]
    settle: Statement[RowId]
    release: Statement[RowId]
    release_unheard: Statement[RowId]
    uncertain: Statement[UncertainRow]
    resolve: Statement[Resolved]


class SourceName(StrEnum):
    """The tables of what is sent; also the names that counts and reports use."""

    DELIVERIES = "deliveries"
    DIGESTS = "digests"


class Source(Protocol):
    """A table of rows to send."""

    @property
    def name(self) -> SourceName: ...
    @property
    def kind(self) -> str:
        """What one row is called in its idempotency key."""
        ...

    @property
    def statements(self) -> SourceStatements: ...
    async def claim(
        self, database: Executor, events: EventCache, start: Position, **values: Any
    ) -> list[ClaimedMessage]:
        """Lease due rows of one channel to this run, from ``start`` on, with all that their messages are made of."""
        ...


def _statements(source: SourceName) -> SourceStatements:
    file = "phase_c_send"
    return SourceStatements(
        reclaim=statement(file, f"reclaim_{source}", Reclaimed),
        skip_unconfigured=statement(file, f"skip_unconfigured_{source}", Count),
        due=statement(file, f"are_{source}_due", Due),
        begin=statement(file, f"begin_{source}", RowId),
        settle=statement(file, f"settle_{source}", RowId),
        release=statement(file, f"release_{source}", RowId),
        release_unheard=statement(file, f"release_unheard_{source}", RowId),
        uncertain=statement(file, f"uncertain_{source}", UncertainRow),
        resolve=statement(file, f"resolve_{source}", Resolved),
    )


channel_work = statement("phase_c_send", "channel_work", ChannelWork)
claim_deliveries = statement("phase_c_send", "claim_deliveries", ClaimedDelivery)
claim_digests = statement("phase_c_send", "claim_digests", ClaimedDigest)
digest_contents = statement("phase_c_send", "digest_contents", DigestRow)


class Deliveries:
    name = SourceName.DELIVERIES
    kind = "delivery"
    statements = _statements(SourceName.DELIVERIES)

    async def claim(
        self, database: Executor, events: EventCache, start: Position, **values: Any
    ) -> list[ClaimedMessage]:
        claimed = await database.rows(claim_deliveries, **asdict(start), **values)
        known = await events.of(row.event_id for row in claimed)
        return [_message(row, known[row.event_id].alert, self.kind, known[row.event_id].fingerprint) for row in claimed]


class Digests:
    name = SourceName.DIGESTS
    kind = "digest"
    statements = _statements(SourceName.DIGESTS)

    async def claim(
        self, database: Executor, events: EventCache, start: Position, **values: Any
    ) -> list[ClaimedMessage]:
        claimed = await database.rows(claim_digests, **asdict(start), **values)
        found = await digests_by_id(database, [row.id for row in claimed], events) if claimed else {}
        return [_message(row, found[row.id].content, self.kind, found[row.id].digest_key) for row in claimed]


DELIVERIES = Deliveries()
DIGESTS = Digests()
SOURCES: tuple[Source, ...] = (DELIVERIES, DIGESTS)
"""In the order in which they are sent (SPEC C-1)."""


@dataclass(frozen=True, slots=True)
class KeyedDigest:
    """A digest's content and its key."""

    digest_key: str
    content: DigestContent


async def digests_by_id(database: Executor, digest_ids: list[int], events: EventCache) -> dict[int, KeyedDigest]:
    """What stands in these digests, the most severe alert first."""
    rows = await database.rows(digest_contents, digest_ids=digest_ids)
    known = await events.of(row.event_id for row in rows if row.event_id is not None)
    digests = {}
    for digest_id, group in groupby(rows, key=lambda row: row.digest_id):
        items = list(group)
        alerts = tuple(known[row.event_id].alert for row in items if row.event_id is not None)
        digests[digest_id] = _keyed(items, alerts)
    return digests


def _keyed(rows: Sequence[DigestRow], alerts: tuple[Alert, ...]) -> KeyedDigest:
    first = rows[0]
    over_quota = frozenset(row.event_id for row in rows if row.over_quota and row.event_id is not None)
    content = DigestContent(first.period, first.window_start, first.window_end, alerts, over_quota)
    return KeyedDigest(first.digest_key, content)


def _message(
    row: ClaimedDelivery | ClaimedDigest, content: Alert | DigestContent, kind: str, identity: str
) -> ClaimedMessage:
    return ClaimedMessage(
        id=row.id,
        attempts=row.attempts,
        created_at=row.created_at,
        next_retry_at=row.next_retry_at,
        destination=row.destination,
        channel_enabled=row.channel_enabled,
        is_repeat=row.is_repeat,
        is_begun=row.is_begun,
        content=content,
        idempotency_key=idempotency_key(kind, row.id, row.created_at, identity),
        user_id=row.user_id,
        reasons=row.reasons,
    )


def idempotency_key(kind: str, row_id: int, created_at: datetime, identity: str) -> UUID:
    """The key of a row: the same for ever; ``identity`` is its event's fingerprint or its digest's key."""
    # The time and the identity keep the rows of two databases apart that share one provider account.
    return uuid5(KEY_NAMESPACE, f"{kind}:{row_id}:{created_at.isoformat()}:{identity}")
