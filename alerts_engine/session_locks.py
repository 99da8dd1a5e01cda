"""Whether session locks hold through whatever stands between the engine and PostgreSQL (SPEC R-1, L-1).

Tried, not guessed, and by the same test for ``preflight`` and ``run``. It works behind a pooler that keeps prepared
statements, too, where nothing else would give the missing session away but two runs at work on one phase.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from alerts_engine.errors import AlertsEngineError, DatabaseError, PoolerError, unchained
from alerts_engine.locks import still_locked, try_lock, unlock
from alerts_engine.server_errors import NEEDS_A_SESSION

if TYPE_CHECKING:
    from alerts_engine.database import Database, Session

_ROUND_TRIPS = 3
_PATIENCE_SECONDS = 10.0


async def check_session_locks(database: Database) -> None:
    """Raise :class:`PoolerError` when session locks do not hold. Costs a run without a pooler one small statement."""
    if not await database.is_direct():
        await try_session_locks(database)


async def try_session_locks(database: Database) -> None:
    """Take a lock, and raise :class:`PoolerError` when it does not hold."""
    if not await session_locks_hold(database):
        raise PoolerError(NEEDS_A_SESSION)


async def session_locks_hold(database: Database) -> bool:
    """Whether a lock stays with the connection that took it, and with no other.

    Tried on a key of its own: behind a pooler that lends a connection for one transaction only, the lock stays with
    the server's end, which the next transaction of anybody may get. Raises :class:`DatabaseError`, and
    :class:`PoolerError` for what the pooler itself says.
    """
    key = secrets.randbits(63)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), database.session() as holder, database.session() as other:
            async with holder.transaction():
                pass  # one in statement mode refuses it, and says why
            if not (await holder.row(try_lock, key=key)).held:
                return False
            try:
                return await _stays(holder, other, key)
            finally:
                with suppress(AlertsEngineError):
                    await holder.row(unlock, key=key)
    except TimeoutError:
        with unchained():
            raise DatabaseError(
                f"the test of session locks had no answer for {_PATIENCE_SECONDS:.0f} seconds: is there room for two "
                "connections?"
            ) from None


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
