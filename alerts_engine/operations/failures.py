"""What is wrong now, since when, whom it touches, and what to do: by cause (SPEC O-6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from alerts_engine.channels import channels
from alerts_engine.errors import SettingsError
from alerts_engine.operations.causes import FailureState, cause_of, command_for
from alerts_engine.statements import statement
from alerts_engine.types import MOST_SINCE_HOURS, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine.database import Database
    from alerts_engine.settings import Settings

USERS_SHOWN = 5
MOST_ROWS = 100
_MOST_WAITING = 100_000
"""More than this many rows that wait for a channel are not counted one by one."""


# --- rows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CauseRow:
    kind: str
    channel: str
    code: str
    state: FailureState
    count: int
    users: int
    since: datetime
    newest_at: datetime
    user_ids: list[int]
    sample_id: int


@dataclass(frozen=True, slots=True)
class FailedRow:
    """One delivery or digest of a cause."""

    id: int
    user_id: int
    channel: str
    status: Status
    state: FailureState
    attempts: int
    created_at: datetime
    ended_at: datetime | None
    next_retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChannelDownRow:
    channel: str
    cause: str
    since: datetime


@dataclass(frozen=True, slots=True)
class WaitingOnChannel:
    count: int
    users: int
    newest_at: datetime | None
    user_ids: list[int]
    sample_id: int | None


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FailureCause:
    """Everything that is wrong for one reason."""

    kind: str
    """``delivery`` or ``digest``."""
    channel: str
    code: str
    state: FailureState
    count: int
    users: int
    since: datetime
    newest_at: datetime | None
    newest_user_ids: tuple[int, ...]
    """Those of the newest rows."""
    sample_id: int | None
    """The newest row: ``delivery show`` (or ``digest show``) tells its life."""
    meaning: str
    advice: str
    command: str
    """What to type next."""


@dataclass(frozen=True, slots=True)
class FailureReport:
    """What is wrong, the most rows first; a channel that is down as a whole before all others."""

    generated_at: datetime
    since_hours: float
    causes: tuple[FailureCause, ...]
    deliveries: tuple[FailedRow, ...] | None = None
    """With one cause asked for: its deliveries, the newest first."""
    digests: tuple[FailedRow, ...] | None = None
    """With one cause asked for: its digests, the newest first."""
    cursor: str | None = None
    """What to give for the next page; ``None`` on the last one."""


failure_causes = statement("failures", "failure_causes", CauseRow)
failed_rows = statement("failures", "failed_rows", FailedRow)
failed_digest_rows = statement("failures", "failed_digest_rows", FailedRow)
channels_down = statement("failures", "channels_down", ChannelDownRow)
waiting_on_channel = statement("failures", "waiting_on_channel", WaitingOnChannel)


async def failures(
    database: Database,
    settings: Settings,
    now: datetime,
    *,
    since_hours: float = 24,
    channel: str | None = None,
    cause: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> FailureReport:
    """What is wrong; with ``cause`` also its rows, a page of at most ``limit`` of each kind.

    What failed or was skipped counts when that was within ``since_hours``; what waits counts always. Raises
    :class:`SettingsError` for an argument that cannot be.
    """
    names = _channels(channel)
    if not 0 < since_hours <= MOST_SINCE_HOURS:
        raise SettingsError(f"since_hours must be a number above 0, at most {MOST_SINCE_HOURS}")
    since = now - timedelta(hours=since_hours)
    found = [_cause(row) for row in await database.rows(failure_causes, channels=names, since=since, cause=cause)]
    down = [
        await _down(database, row, now)
        for row in await database.rows(channels_down, channels=names)
        if cause in {None, row.cause} and row.channel not in settings.channels_paused
    ]
    report = FailureReport(now, since_hours, (*down, *found))
    if cause is None:
        return report
    page = _Page(names, since, cause, limit, _Cursor.of(cursor))
    return await _with_rows(database, report, page)


def _channels(channel: str | None) -> list[str]:
    known = list(channels())
    if channel is not None and channel not in known:
        raise SettingsError(f"there is no channel {channel}: there are {', '.join(known)}")
    return known if channel is None else [channel]


def _cause(row: CauseRow) -> FailureCause:
    known = cause_of(row.code, is_permanent=row.state is FailureState.PERMANENT)
    return FailureCause(
        kind=row.kind, channel=row.channel, code=row.code, state=row.state, count=row.count, users=row.users,
        since=row.since, newest_at=row.newest_at, newest_user_ids=_newest(row.user_ids), sample_id=row.sample_id,
        meaning=known.meaning, advice=known.advice,
        command=command_for(row.state, row.channel, row.kind, row.sample_id),
    )  # fmt: skip


async def _down(database: Database, row: ChannelDownRow, now: datetime) -> FailureCause:
    waiting = await database.row(waiting_on_channel, channel=row.channel, now=now, most=_MOST_WAITING)
    known = cause_of(row.cause, is_permanent=False)
    return FailureCause(
        kind="delivery", channel=row.channel, code=row.cause, state=FailureState.CHANNEL_DOWN, count=waiting.count,
        users=waiting.users, since=row.since, newest_at=waiting.newest_at,
        newest_user_ids=_newest(waiting.user_ids), sample_id=waiting.sample_id, meaning=known.meaning,
        advice=known.advice, command=command_for(FailureState.CHANNEL_DOWN, row.channel, "delivery", None),
    )  # fmt: skip


def _newest(user_ids: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(user_ids))[:USERS_SHOWN]


# --- the rows of one cause ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where the page before ended: the last delivery and the last digest; 0 where there are no more."""

    delivery_id: int | None = None
    digest_id: int | None = None

    @classmethod
    def of(cls, text: str | None) -> _Cursor:
        if text is None:
            return cls()
        try:
            first, second = (int(part) for part in text.split("."))
        except ValueError:
            raise SettingsError("cursor must be what the page before gave") from None
        return cls(first, second)


@dataclass(frozen=True, slots=True)
class _Page:
    """Which rows."""

    channels: list[str]
    since: datetime
    cause: str
    limit: int
    cursor: _Cursor

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST_ROWS:
            raise SettingsError(f"limit must be a whole number from 1 to {MOST_ROWS}")


async def _with_rows(database: Database, report: FailureReport, page: _Page) -> FailureReport:
    channels, since, cause, most = page.channels, page.since, page.cause, page.limit + 1
    deliveries = await database.rows(
        failed_rows, channels=channels, since=since, cause=cause, below_id=page.cursor.delivery_id, most=most
    )
    digests = await database.rows(
        failed_digest_rows, channels=channels, since=since, cause=cause, below_id=page.cursor.digest_id, most=most
    )
    next_ids = [rows[page.limit - 1].id if len(rows) > page.limit else 0 for rows in (deliveries, digests)]
    return replace(
        report,
        deliveries=tuple(deliveries[: page.limit]),
        digests=tuple(digests[: page.limit]),
        cursor=".".join(map(str, next_ids)) if any(next_ids) else None,
    )
