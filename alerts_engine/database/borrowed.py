"""Connections that belong to the application: used, and given back as they came (SPEC I-1)."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.database.lending import or_terminate
from alerts_engine.database.pool import Database
from alerts_engine.database.session import Session
from alerts_engine.errors import AlertsEngineError, NotOpenError, SettingsError
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alerts_engine.database.pool import Pool

_UTC = ("UTC", "Etc/UTC")


@dataclass(frozen=True, slots=True)
class SessionDefaults:
    isolation: str
    jit: str


session_defaults = statement("borrowed", "session_defaults", SessionDefaults)
set_time_zone = command("borrowed", "set_time_zone")
end_session = command("borrowed", "end_session")
set_savepoint = command("borrowed", "set_savepoint")
undo_to_savepoint = command("borrowed", "undo_to_savepoint")
release_savepoint = command("borrowed", "release_savepoint")


class CallersSession(Session):
    """The application's connection. Its transaction goes on, whatever fails in ours; without one, ours is committed."""

    def __init__(self, connection: Any) -> None:
        if not hasattr(connection, "is_in_transaction"):
            raise TypeError(
                f"connection must be asyncpg's, not a {type(connection).__module__}.{type(connection).__name__}: with "
                "another driver, publish by INSERT INTO alert_events (alerts_engine/README.md shows how)"
            )
        super().__init__(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[CallersSession]:
        if not self._connection.is_in_transaction():
            async with super().transaction():
                yield self
            return
        # Not asyncpg's own savepoints: those do not work in a transaction that was begun by a plain BEGIN.
        await self.run(set_savepoint)
        try:
            yield self
        except BaseException:
            with suppress(AlertsEngineError):  # what failed is told, not that it cannot be undone any more
                await self.run(undo_to_savepoint)
                await self.run(release_savepoint)
            raise
        await self.run(release_savepoint)


class BorrowedPool(Database):
    """The application's pool. It is never closed, and whoever gets one of its connections next finds it as it was.

    What the engine relies on is set for as long as it has a connection, and only where the connection differs: its
    statements are right in UTC alone (SPEC DB-4). Everything else goes with the statement: its limit of time, and JSON
    as text, so that codecs do not matter.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)

    async def check(self) -> None:
        """Raise :class:`SettingsError` when the engine cannot work on this pool's connections."""
        isolation = (await self.row(session_defaults)).isolation
        if isolation != "read committed":
            raise SettingsError(
                f"the pool's transactions are {isolation}, and the engine needs read committed: give it a pool without "
                "default_transaction_isolation"
            )

    @asynccontextmanager
    async def _lent(self, acquire: Any = None) -> AsyncIterator[Any]:
        if self._pool.is_closing():
            raise NotOpenError("the pool that the engine was given is closed: close the engine first, then its pool")
        async with super()._lent(acquire) as connection:
            zone = connection.get_settings().TimeZone  # the server reports it, so nobody has to ask
            if zone in _UTC:
                yield connection
                return
            try:
                await Session(connection).run(set_time_zone, time_zone="UTC")
                yield connection
            finally:
                await or_terminate(connection, lambda: _restore(connection, zone))

    @asynccontextmanager
    async def _session(self, acquire: Any) -> AsyncIterator[Session]:
        async with self._lent(acquire) as connection:
            session = Session(connection)
            before = await session.row(session_defaults)
            try:
                yield session
            finally:
                session.forget_listeners()
                # Not connection.reset(): what the application has set is for its pool to keep or to reset.
                await or_terminate(connection, lambda: session.run(end_session, jit=before.jit))


async def _restore(connection: Any, zone: str) -> None:
    if connection.is_in_transaction():  # its end would take this back
        connection.terminate()
    else:
        await Session(connection).run(set_time_zone, time_zone=zone)
