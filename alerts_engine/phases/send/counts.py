"""What phase C counts (SPEC C-16)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from alerts_engine.phases.counts import PhaseCounts
from alerts_engine.phases.send.claims import SourceName
from alerts_engine.types import SkipReason, Status

if TYPE_CHECKING:
    from alerts_engine.phases.send.row_update import RowUpdate


@dataclass(slots=True)
class ChannelCounts:
    """One channel, deliveries and digests together."""

    sent: int = 0
    failed: int = 0
    retried: int = 0
    skipped: int = 0
    uncertain: int = 0


@dataclass(slots=True)
class DigestSendCounts:
    selected: int = 0
    sent: int = 0
    failed: int = 0
    retried: int = 0
    skipped_not_configured: int = 0
    skipped_missing_destination: int = 0
    skipped_disabled: int = 0
    skipped_empty: int = 0


@dataclass(slots=True)
class SendCounts(PhaseCounts):
    """Deliveries, except where a field says otherwise; ``reclaimed`` counts both."""

    queued_selected: int = 0
    sent: int = 0
    failed: int = 0
    retried: int = 0
    skipped_not_configured: int = 0
    skipped_missing_destination: int = 0
    skipped_disabled: int = 0
    reclaimed: int = 0
    uncertain: int = 0
    """Sends of both kinds that may have been accepted, so that somebody has to find out."""
    confirmed: int = 0
    """Uncertain sends that the provider says it accepted."""
    repeated: int = 0
    """Uncertain sends that were sent again."""
    cannot_ask: dict[str, str] = field(default_factory=dict)
    """Providers that refuse to say what became of a send, and why."""
    channels_down: dict[str, str] = field(default_factory=dict)
    by_channel: dict[str, ChannelCounts] = field(default_factory=dict)
    causes: dict[str, dict[str, int]] = field(default_factory=dict)
    """By channel, how many attempts did not succeed for each code; deliveries and digests together (SPEC O-6)."""
    digests: DigestSendCounts = field(default_factory=DigestSendCounts)
    would_send: dict[str, Any] | None = None
    """Dry run only: per channel what would be sent now."""
    waiting: dict[str, Any] | None = None
    """Dry run only: per channel what waits, by reason."""

    def selected(self, source: SourceName, count: int) -> None:
        """``count`` rows were claimed (a negative number: given back)."""
        if source is SourceName.DIGESTS:
            self.digests.selected += count
        else:
            self.queued_selected += count

    def settled(self, source: SourceName, channel: str, update: RowUpdate) -> None:
        """A row came to its new state."""
        counts = self.digests if source is SourceName.DIGESTS else self
        own = self.by_channel.setdefault(channel, ChannelCounts())
        if update.error is not None and update.status is not Status.SKIPPED:
            of_channel = self.causes.setdefault(channel, {})
            of_channel[update.error] = of_channel.get(update.error, 0) + 1
        if update.uncertain:
            self.uncertain += 1
            own.uncertain += 1
            return
        match update.status:
            case Status.SENT:
                counts.sent += 1
                own.sent += 1
            case Status.FAILED:
                counts.failed += 1
                own.failed += 1
            case Status.QUEUED:
                counts.retried += 1
                own.retried += 1
            case Status.SKIPPED:
                self._skipped(counts, update.error)
                own.skipped += 1
            case Status.SENDING:
                raise ValueError("a settled row is not sending")
            case _:
                assert_never(update.status)

    def skipped_unconfigured(self, source: SourceName, channel: str, count: int) -> None:
        """``count`` rows ended because their channel has no credentials."""
        (self.digests if source is SourceName.DIGESTS else self).skipped_not_configured += count
        self.by_channel.setdefault(channel, ChannelCounts()).skipped += count

    @property
    def in_all(self) -> int:
        """Rows settled so far, for the progress bar."""
        return sum(
            own.sent + own.failed + own.retried + own.skipped + own.uncertain for own in self.by_channel.values()
        )

    @staticmethod
    def _skipped(counts: SendCounts | DigestSendCounts, reason: str | None) -> None:
        match reason:
            case SkipReason.MISSING_DESTINATION:
                counts.skipped_missing_destination += 1
            case SkipReason.CHANNEL_DISABLED:
                counts.skipped_disabled += 1
            case _ if isinstance(counts, DigestSendCounts):
                counts.skipped_empty += 1
            case _:
                raise ValueError("a delivery is skipped for a reason that only digests have")
