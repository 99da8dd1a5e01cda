"""What the senders of one run share: the budget, the concurrency, the counts, and who is woken when they change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext
    from alerts_engine.phases.send.backoff import RetryPolicy
    from alerts_engine.phases.send.counts import SendCounts
    from alerts_engine.phases.send.event_cache import EventCache
    from alerts_engine.phases.send.prepare import Preparation
    from alerts_engine.phases.send.wakeup import Wakeup
    from alerts_engine.types import Channel


@dataclass(slots=True)
class Budget:
    """``ALERTS_MAX_SEND_PER_RUN`` over all channels: what is under way is set apart, what was not sent comes back."""

    left: int
    under_way: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left, and nothing can come back."""
        return self.left <= 0 and self.under_way <= 0

    def reserve(self, count: int) -> None:
        self.left -= count
        self.under_way += count

    def spend(self) -> None:
        self.under_way -= 1

    def give_back(self, count: int) -> None:
        self.under_way -= count
        self.left += count


@dataclass(slots=True)
class SendState:
    """Shared by the senders of one run."""

    context: PhaseContext
    events: EventCache
    preparation: Preparation
    policy: RetryPolicy
    counts: SendCounts
    budget: Budget
    wakeups: dict[Channel, Wakeup] = field(default_factory=dict)
    """The channels that still have something to do; they share the concurrency."""
    problems: list[str] = field(default_factory=list)
    """What went wrong without ending a sender."""

    @property
    def share(self) -> int:
        """Sends in flight that each sender may have, so that a slow channel cannot take the others' place (SPEC C-4).

        At least one each, also where the concurrency is lower than the number of channels.
        """
        return max(1, self.context.settings.send_concurrency // max(1, len(self.wakeups)))

    def leave(self, channel: Channel) -> None:
        """A sender has ended; the others may have its share."""
        self.wakeups.pop(channel, None)
        self.wake()

    def spend(self) -> None:
        """A message was sent, or may have been."""
        self.budget.spend()
        if self.budget.is_spent:
            self.wake()

    def give_back(self, count: int) -> None:
        """What was set apart of the budget is free again; a sender may be waiting for it."""
        if count:
            self.budget.give_back(count)
            self.wake()

    def wake(self) -> None:
        """Something has changed that any sender may wait for."""
        for wakeup in self.wakeups.values():
            wakeup.notify()
