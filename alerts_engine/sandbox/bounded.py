"""Keeping the newest within bounds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Newest(Generic[T]):
    """The newest entries, oldest first: at most ``most`` of them, and of at most ``most_bytes`` together."""

    def __init__(self, most: int, most_bytes: int, size: Callable[[T], int]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._entries: deque[T] = deque()
        self._bytes = 0
        self.dropped = 0
        """How many have made room for newer ones."""

    def append(self, entry: T) -> None:
        """Keep it, at the cost of the oldest."""
        self._entries.append(entry)
        self._bytes += self._size(entry)
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            self._bytes -= self._size(self._entries.popleft())
            self.dropped += 1

    def clear(self) -> None:
        """Start again."""
        self._entries.clear()
        self._bytes = self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries)

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._entries)
