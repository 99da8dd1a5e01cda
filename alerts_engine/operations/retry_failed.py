"""Taking up again what failed, or what was skipped for want of credentials (SPEC O-5)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from alerts_engine.channels import channels
from alerts_engine.errors import SettingsError
from alerts_engine.phases.send.claims import SourceName
from alerts_engine.phases.send.row_update import SEND_UNCERTAIN
from alerts_engine.statements import statement
from alerts_engine.types import MOST_SINCE_HOURS, SkipReason

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from alerts_engine.database import Database
    from alerts_engine.settings import Settings

_BATCH = 1_000
"""Rows that one transaction takes up: some milliseconds, and nobody waits for more."""


class RetryReason(StrEnum):
    """What else than failures can be taken up."""

    CHANNEL_NOT_CONFIGURED = SkipReason.CHANNEL_NOT_CONFIGURED


@dataclass(frozen=True, slots=True)
class RetriedRows:
    """Rows of one channel that had come to the same end."""

    channel: str
    cause: str
    count: int


@dataclass(frozen=True, slots=True)
class RetriedFailed:
    """What was queued again; with ``dry_run`` what would be."""

    kind: SourceName
    since: datetime
    dry_run: bool
    count: int
    by_cause: tuple[RetriedRows, ...]
    """By channel and cause, the most rows first."""
    warnings: tuple[str, ...] = ()
    """What may arrive twice, and why what was queued will not go out yet."""
    stopped: bool = False
    """A signal ended it: the next call goes on."""


retry_failed_deliveries = statement("retry_failed", "retry_failed_deliveries", RetriedRows)
retry_failed_digests = statement("retry_failed", "retry_failed_digests", RetriedRows)
would_retry_deliveries = statement("retry_failed", "would_retry_deliveries", RetriedRows)
would_retry_digests = statement("retry_failed", "would_retry_digests", RetriedRows)
retry_unconfigured_deliveries = statement("retry_failed", "retry_unconfigured_deliveries", RetriedRows)
retry_unconfigured_digests = statement("retry_failed", "retry_unconfigured_digests", RetriedRows)
would_retry_unconfigured_deliveries = statement("retry_failed", "would_retry_unconfigured_deliveries", RetriedRows)
would_retry_unconfigured_digests = statement("retry_failed", "would_retry_unconfigured_digests", RetriedRows)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which rows of one channel."""

    is_digests: bool
    since: datetime
    max_attempts: int
    reset_attempts: bool
    cause: str | None
    is_unconfigured: bool
    never_twice: bool

    async def look(self, database: Database, channel: str) -> list[RetriedRows]:
        """What there is."""
        if self.is_unconfigured:
            return await database.rows(
                would_retry_unconfigured_digests if self.is_digests else would_retry_unconfigured_deliveries,
                channel=channel,
                since=self.since,
            )
        return await database.rows(
            would_retry_digests if self.is_digests else would_retry_deliveries,
            channel=channel,
            since=self.since,
            max_attempts=self.max_attempts,
            reset_attempts=self.reset_attempts,
            cause=self.cause,
            never_twice=self.never_twice,
        )

    async def take(self, database: Database, channel: str) -> list[RetriedRows]:
        """Queue a batch of it again."""
        if self.is_unconfigured:
            return await database.rows(
                retry_unconfigured_digests if self.is_digests else retry_unconfigured_deliveries,
                channel=channel,
                since=self.since,
                reset_attempts=self.reset_attempts,
                batch=_BATCH,
            )
        return await database.rows(
            retry_failed_digests if self.is_digests else retry_failed_deliveries,
            channel=channel,
            since=self.since,
            max_attempts=self.max_attempts,
            reset_attempts=self.reset_attempts,
            cause=self.cause,
            never_twice=self.never_twice,
            batch=_BATCH,
        )


async def retry_failed(
    database: Database,
    settings: Settings,
    now: datetime,
    *,
    kind: SourceName,
    since_hours: float,
    reset_attempts: bool = False,
    reason: RetryReason | None = None,
    cause: str | None = None,
    channel: str | None = None,
    dry_run: bool = False,
    stopping: asyncio.Event | None = None,
) -> RetriedFailed:
    """Queue failed rows of the last ``since_hours`` again, in batches that block nobody.

    Only those that failed for now (never permanent ones) and have attempts left, or any number with
    ``reset_attempts``. ``reason``: what was skipped for it instead, if its event is within the hours. Setting
    ``stopping`` ends it after the batch under way. Raises :class:`SettingsError` for an argument that cannot be.
    """
    if not 0 < since_hours <= MOST_SINCE_HOURS:
        raise SettingsError(f"since_hours must be a number above 0, at most {MOST_SINCE_HOURS}")
    names = _channels(channel)
    wanted = _Wanted(
        kind is SourceName.DIGESTS, now - timedelta(hours=since_hours), settings.max_attempts, reset_attempts, cause,
        reason is RetryReason.CHANNEL_NOT_CONFIGURED, settings.uncertain_send == "fail",
    )  # fmt: skip
    if wanted.is_unconfigured and cause not in {None, str(reason)}:
        raise SettingsError(f"give one of reason and cause: what was skipped has the cause {reason}")
    counts: Counter[tuple[str, str]] = Counter()
    for name in names:
        more = True
        while more and not (stopping is not None and stopping.is_set()):
            rows = await (wanted.look if dry_run else wanted.take)(database, name)
            counts.update({(row.channel, row.cause): row.count for row in rows})
            more = not dry_run and sum(row.count for row in rows) == _BATCH
    by_cause = tuple(RetriedRows(*key, count) for key, count in counts.most_common())
    stopped = stopping is not None and stopping.is_set()
    return RetriedFailed(kind, wanted.since, dry_run, counts.total(), by_cause, _warnings(settings, by_cause), stopped)


def _channels(channel: str | None) -> list[str]:
    known = list(channels())
    if channel is not None and channel not in known:
        raise SettingsError(f"there is no channel {channel}: there are {', '.join(known)}")
    return known if channel is None else [channel]


def _warnings(settings: Settings, touched: Sequence[RetriedRows]) -> tuple[str, ...]:
    """What may arrive twice, and what keeps the rows from going out with the next run."""
    specs = channels()
    found = [
        f"{row.count:,} by {row.channel} may have been accepted before ({row.cause}): they may arrive twice"
        for row in touched
        if row.cause == SEND_UNCERTAIN
    ]
    for name in dict.fromkeys(row.channel for row in touched):
        if name in settings.channels_paused:
            found.append(f"{name} is paused by ALERTS_CHANNELS_PAUSED: these wait until it is not")
        elif not specs[name].is_configured(settings):
            missing = ", ".join(key for key, is_set in specs[name].credentials(settings).items() if not is_set)
            found.append(f"{name} is not configured here ({missing} not set): a run without it skips these again")
    return tuple(found)
