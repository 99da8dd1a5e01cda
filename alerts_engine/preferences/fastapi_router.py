"""The readers' page in FastAPI (extra ``fastapi``, SPEC U-2)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter

from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.admin.fastapi_router import router_of
from alerts_engine.preferences.routes import preferences_site
from alerts_engine.reader_links import PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi import FastAPI

    from alerts_engine.engine import AlertsEngine
    from alerts_engine.settings import Settings


def create_router(
    settings: Settings | None = None,
    *,
    engine: AlertsEngine | Callable[[], AlertsEngine] | None = None,
    prefix: str = PATH,
) -> APIRouter:
    """The readers' page under ``prefix``: ``app.include_router(create_router(…))``.

    ``engine``: the application's own, or what returns it once it is made; without one there is one on ``settings``.
    """
    source = EngineSource(engine, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await source.close()

    router = APIRouter(lifespan=lifespan)
    router.routes.extend(router_of(preferences_site(source, prefix)).routes)
    return router
