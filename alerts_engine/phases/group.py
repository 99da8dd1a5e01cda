"""Events that go through the audience together, and how many users are decided at once (SPEC B-2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine.phases.fan_out import PendingEvent

DECISIONS_PER_PAGE = 40_000
LARGEST_PAGE, SMALLEST_PAGE = 20_000, 200
_PARTS = 10
"""What took too long is divided into this many: five times find one of 20,000 users."""


@dataclass(frozen=True, slots=True)
class _Narrow:
    """Up to this user pages are small: one that reached so far took too long."""

    last_user: int
    page_size: int


@dataclass(frozen=True, slots=True)
class Group:
    """Events that go through the audience together, the most severe first."""

    event_ids: tuple[int, ...]
    position: int
    """They are decided up to this user."""
    narrow: tuple[_Narrow, ...] = ()

    @classmethod
    def of(cls, events: Iterable[PendingEvent]) -> Group:
        """These events, from where the first of them stands."""
        ranked = sorted(events, key=lambda event: -event.severity)
        return cls(tuple(event.id for event in ranked), min(event.fanout_position for event in ranked))

    @property
    def page_size(self) -> int:
        """The most users of the next page."""
        usual = max(SMALLEST_PAGE, min(LARGEST_PAGE, DECISIONS_PER_PAGE // len(self.event_ids)))
        return min([usual, *(narrow.page_size for narrow in self.narrow)])

    def beyond(self, user: int) -> Group:
        """The same events, decided up to ``user``."""
        return replace(self, position=user, narrow=tuple(one for one in self.narrow if one.last_user > user))

    def narrowed(self, last_user: int, users: int) -> Group:
        """With smaller pages up to ``last_user``, since one of ``users`` users took too long."""
        return replace(self, narrow=(*self.narrow, _Narrow(last_user, max(1, users // _PARTS))))

    def parts(self) -> list[Group]:
        """Fewer events together, the most severe first."""
        size = -(-len(self.event_ids) // _PARTS)
        starts = range(0, len(self.event_ids), size)
        return [replace(self, event_ids=self.event_ids[start : start + size]) for start in starts]
