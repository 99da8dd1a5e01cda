"""How providers treat idempotency keys: not at all, by refusing a repeat, or by replaying the first answer."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

from alerts_engine.sandbox.model import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alerts_engine.sandbox.model import Answer, RefusedError, Submission

T = TypeVar("T")


class NoKeys:
    """Every call is a new message."""

    def in_flight(self, _submission: Submission, /) -> AbstractContextManager[None]:
        """Hold the submission's key while the call is being answered; raises ``RefusedError`` for a twin."""
        return nullcontext()

    def recall(self, _submission: Submission, /) -> Answer | None:
        """The answer to a repeat of an accepted call, ``None`` for a new one; raises ``RefusedError``."""
        return None

    def remember(self, submission: Submission, answer: Answer, /) -> None:
        """Keep the key of an accepted call."""

    def forget(self) -> None:
        """Drop all keys."""

    def live_by(self, _clock: Callable[[], float], /) -> None:
        """Measure the keys' life by this clock."""

    def keep_for(self, _seconds: float, /) -> None:
        """Let every key live this long, also those that were used already."""
        raise ValueError("this provider has no keys")


class RefuseRepeats(NoKeys):
    """A key can be used once in ``seconds``; the refusal says that an earlier call was accepted."""

    def __init__(self, seconds: float, refusal: Callable[[], RefusedError]) -> None:
        self._refusal = refusal
        self._used: KeyMemory[bool] = KeyMemory(seconds)

    def recall(self, submission: Submission, /) -> None:
        key = submission.idempotency_key
        if key is not None and self._used.get(key):
            raise self._refusal()

    def remember(self, submission: Submission, _answer: Answer, /) -> None:
        key = submission.idempotency_key
        if key is not None:
            self._used.put(key, value=True)

    def forget(self) -> None:
        self._used.clear()

    def live_by(self, clock: Callable[[], float], /) -> None:
        self._used.clock = clock

    def keep_for(self, seconds: float, /) -> None:
        self._used.seconds = seconds


class ReplayFirst(NoKeys):
    """For ``seconds`` the same payload gets the first answer again; another one, or a twin, is refused."""

    def __init__(
        self, seconds: float, *, different: Callable[[], RefusedError], twin: Callable[[], RefusedError]
    ) -> None:
        self._different = different
        self._twin = twin
        self._first: KeyMemory[tuple[bytes, Answer]] = KeyMemory(seconds)
        self._in_flight: set[str] = set()

    @contextmanager
    def in_flight(self, submission: Submission, /) -> Iterator[None]:
        key = submission.idempotency_key
        if key is None:
            yield
            return
        if key in self._in_flight:
            raise self._twin()
        self._in_flight.add(key)
        try:
            yield
        finally:
            self._in_flight.discard(key)

    def recall(self, submission: Submission, /) -> Answer | None:
        key = submission.idempotency_key
        first = self._first.get(key) if key is not None else None
        if first is None:
            return None
        fingerprint, answer = first
        if fingerprint != submission.fingerprint:
            raise self._different()
        return answer

    def remember(self, submission: Submission, answer: Answer, /) -> None:
        key = submission.idempotency_key
        if key is not None:
            self._first.put(key, (submission.fingerprint, answer))

    def forget(self) -> None:
        self._first.clear()

    def live_by(self, clock: Callable[[], float], /) -> None:
        self._first.clock = clock

    def keep_for(self, seconds: float, /) -> None:
        self._first.seconds = seconds


class KeyMemory(Generic[T]):
    """Keeps a value under a key for ``seconds``; at most ``KEPT`` keys, the oldest go first."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock
        self._entries: dict[str, tuple[float, T]] = {}

    def get(self, key: str) -> T | None:
        """The value under the key, ``None`` when there is none any more."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._lives(entry[0]) else None

    def put(self, key: str, value: T) -> None:
        """Keep the value from now on."""
        self._entries.pop(key, None)
        self._make_room()
        self._entries[key] = (self.clock(), value)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _lives(self, used_at: float) -> bool:
        return self.clock() < used_at + self.seconds

    def _make_room(self) -> None:
        # Every key lives equally long, so that insertion order is the order of expiry.
        while self._entries:
            oldest = next(iter(self._entries))
            if len(self._entries) < KEPT and self._lives(self._entries[oldest][0]):
                return
            del self._entries[oldest]
