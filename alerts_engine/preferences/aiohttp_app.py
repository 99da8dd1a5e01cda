"""The readers' page in aiohttp.web (SPEC U-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.admin.aiohttp_app import application_of
from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.preferences.routes import preferences_site
from alerts_engine.reader_links import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from alerts_engine.engine import AlertsEngine
    from alerts_engine.settings import Settings


def create_app(
    settings: Settings | None = None,
    *,
    engine: AlertsEngine | Callable[[], AlertsEngine] | None = None,
    prefix: str = PATH,
) -> web.Application:
    """The readers' page under ``prefix``; as a sub-application, give the prefix ``""``.

    ``engine``: the application's own, or what returns it once it is made; without one there is one on ``settings``.
    """
    source = EngineSource(engine, settings)
    app = application_of(preferences_site(source, prefix))

    async def closing(_: web.Application) -> None:
        await source.close()

    app.on_cleanup.append(closing)
    return app
