"""Which engine the handlers work on: the application's, or one of their own, opened when it is first needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from alerts_engine.engine import AlertsEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine.settings import Settings


class EngineSource:
    """Handlers ask it for the settings, which needs no database, and for the engine."""

    def __init__(
        self, engine: AlertsEngine | Callable[[], AlertsEngine] | None = None, settings: Settings | None = None
    ) -> None:
        """``engine``: the application's, opened and closed by it; or what returns it, where it is made later.

        Without one there is one on ``settings``, or on the environment's.
        """
        self._given = engine
        self._own = AlertsEngine(settings) if engine is None else None
        self._opened_on: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        """The engine's settings, also while it is closed."""
        return self._engine().settings

    def _engine(self) -> AlertsEngine:
        if self._own is not None:
            return self._own
        given = self._given
        assert given is not None  # noqa: S101 - one of the two is there
        return given if isinstance(given, AlertsEngine) else given()

    async def open(self) -> AlertsEngine:
        """The engine, open. Raises :class:`NotOpenError` where the application has not opened its own yet."""
        if self._own is not None:
            await self._open(self._own)
        return self._engine()

    async def _open(self, own: AlertsEngine) -> None:
        loop = asyncio.get_running_loop()
        if self._opened_on is loop:
            return
        async with self._opening:
            if self._opened_on is not loop:
                if self._opened_on is not None:  # the loop of its pool is gone, and the pool with it
                    own = self._own = AlertsEngine(own.settings)
                await own.__aenter__()
                self._opened_on = loop

    async def close(self) -> None:
        """Close what :meth:`open` opened; it can be opened again."""
        if self._own is not None and self._opened_on is asyncio.get_running_loop():
            self._opened_on = None
            await self._own.__aexit__(None, None, None)
