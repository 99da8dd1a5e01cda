"""Whether session locks work through whatever stands between the engine and PostgreSQL (SPEC R-1, L-1)."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from alerts_engine.errors import AlertsEngineError, DatabaseError
from alerts_engine.locks import still_locked, try_lock, unlock

if TYPE_CHECKING:
    from alerts_engine.database import Database, Session

_ROUND_TRIPS = 3
_PATIENCE_SECONDS = 10.0


async def session_locks_work(database: Database) -> bool:
    """Whether a lock stays with the connection that took it, and with no other.

    Tried on a key of its own: behind a pooler that lends a connection for one transaction only, the lock stays with
    the server's end, which the next transaction of anybody may get. Raises :class:`DatabaseError`.
    """
    key = secrets.randbits(63)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), database.session() as holder, database.session() as other:
            if not (await holder.row(try_lock, key=key)).held:
                return False
            try:
                return await _stays(holder, other, key)
            finally:
                with suppress(AlertsEngineError):
                    await holder.row(unlock, key=key)
    except TimeoutError:
        raise DatabaseError(f"the test of session locks had no answer for {_PATIENCE_SECONDS:.0f} seconds") from None


async def _stays(holder: Session, other: Session, key: int) -> bool:
    for _ in range(_ROUND_TRIPS):
        if not await _holds(holder, key) or await _holds(other, key):
            return False
    # A transaction keeps the connection that a pooler lent it: was that the lock's, the holder now gets another one.
    async with other.transaction() as busy:
        for _ in range(_ROUND_TRIPS):
            if await _holds(busy, key) or not await _holds(holder, key):
                return False
    return True


async def _holds(session: Session, key: int) -> bool:
    return (await session.row(still_locked, key=key)).held
