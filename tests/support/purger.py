"""An application that deletes users while the engine works: many in a transaction, one transaction after the other."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Purges:
    """What the application noticed of the engine."""

    seconds: list[float] = field(default_factory=list)
    """How long each transaction took."""
    deleted: int = 0
    deadlocks: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def worst_of_hundred(self) -> float:
        """The 99th percentile of ``seconds``."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)] if ranked else 0.0


@contextmanager
def purging(url: str, users: list[int], *, at_once: int, pause: float = 0.0) -> Iterator[Purges]:
    """Delete ``users`` in no order, ``at_once`` in a transaction, until the block ends or there are none left."""
    purges, stop = Purges(), threading.Event()
    doomed = random.Random(7).sample(users, len(users))  # noqa: S311 - no secret
    portions = [doomed[start : start + at_once] for start in range(0, len(doomed), at_once)]

    def purge() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            # Planned while a table was still empty, what follows a deletion would scan it ever after.
            connection.execute("SET plan_cache_mode = force_custom_plan")
            for portion in portions:
                if stop.wait(pause):
                    return
                _purge(connection, portion, purges)
        purges.ended.set()

    thread = threading.Thread(target=purge, daemon=True)
    thread.start()
    try:
        yield purges
    finally:
        stop.set()
        thread.join()


def _purge(connection: psycopg.Connection, portion: list[int], purges: Purges) -> None:
    started = time.perf_counter()
    try:
        with connection.transaction():
            for user in portion:
                connection.execute("DELETE FROM users WHERE id = %s", [user])
        purges.deleted += len(portion)
    except psycopg.errors.DeadlockDetected:
        purges.deadlocks += 1
    purges.seconds.append(time.perf_counter() - started)
