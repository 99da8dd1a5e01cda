"""Phase locks (SPEC section 13): a session advisory lock on a connection that is held for the phase alone."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.errors import AlertsEngineError, LockLostError
from alerts_engine.statements import statement
from alerts_engine.types import Phase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alerts_engine.database import Database, Session

_HEARTBEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    held: bool


@dataclass(frozen=True, slots=True)
class LockKey:
    key: int


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session that holds a lock; what the server tells of others' sessions only to their owner is ``None``."""

    pid: int
    application_name: str | None
    state: str | None
    seconds: int | None
    """Since its transaction began."""

    def __str__(self) -> str:
        known = [self.application_name, self.state, None if self.seconds is None else f"for {self.seconds} s"]
        told = ", ".join(filter(None, known))
        return f"held by process {self.pid} of the server{f' ({told})' if told else ''}"


try_lock = statement("locks", "try_lock", Held)
still_locked = statement("locks", "still_locked", Held)
unlock = statement("locks", "unlock", Held)
lock_holders = statement("locks", "lock_holders", LockHolder)
locked_keys = statement("locks", "locked_keys", LockKey)


def lock_key(name: str) -> int:
    """The signed 64-bit key of a lock's name: the first eight bytes of its SHA-256, big-endian (SPEC L-1)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


PHASE_KEYS = {phase: lock_key(f"alerts_v2_phase_{phase}") for phase in Phase.ALL.steps}
FAN_OUT_KEYS = lock_key("alerts_v2_fan_out_page"), lock_key("alerts_v2_fan_out_second_page")
"""Of two pages of users that are decided side by side; always taken in this order."""


class PhaseLock:
    """A lock that is held; ``lost`` is set when its connection died (SPEC L-2)."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def check(self) -> None:
        """Raise :class:`LockLostError` when another runner may have taken over."""
        if self.lost.is_set():
            raise LockLostError(
                "the phase lock's connection died: another runner may have taken over, so this one stops"
            )


@asynccontextmanager
async def phase_lock(database: Database, phase: Phase) -> AsyncIterator[PhaseLock | None]:
    """Hold the lock of ``phase``; yields ``None`` when another runner has it. Always released, also on error."""
    key = PHASE_KEYS[phase]
    async with database.session() as session:
        if not (await session.row(try_lock, key=key)).held:
            yield None
            return
        lock = PhaseLock()
        session.on_close(lock.lost.set)
        heartbeat = asyncio.create_task(_watch(session, key, lock))
        try:
            yield lock
        finally:
            heartbeat.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeat
            with suppress(AlertsEngineError):  # a dead connection has released it already
                await session.row(unlock, key=key)


@asynccontextmanager
async def dry_run_lock(session: Session, phase: Phase) -> AsyncIterator[PhaseLock | None]:
    """The same on the dry run's own connection, which nobody needs to watch: without it there is no dry run."""
    key = PHASE_KEYS[phase]
    if not (await session.row(try_lock, key=key)).held:
        yield None
        return
    lock = PhaseLock()
    session.on_close(lock.lost.set)
    try:
        yield lock
    finally:
        with suppress(AlertsEngineError):
            await session.row(unlock, key=key)


async def _watch(session: Session, key: int, lock: PhaseLock) -> None:
    """Notice a connection that died in silence, and a pooler that lends the lock's connection to others."""
    while not lock.lost.is_set():
        await asyncio.sleep(_HEARTBEAT_SECONDS)
        try:
            held = (await session.row(still_locked, key=key)).held
        except AlertsEngineError:  # no answer in time is no lock either
            held = False
        if not held:
            lock.lost.set()


async def locked_phases(database: Database) -> set[Phase]:
    """The phases whose lock anybody holds now."""
    held = {row.key for row in await database.rows(locked_keys, keys=list(PHASE_KEYS.values()))}
    return {phase for phase, key in PHASE_KEYS.items() if key in held}
