"""The admin site: the API, the dashboard, and the guard before them (SPEC section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.admin.access import AdminGuard
from alerts_engine.admin.api import api_routes
from alerts_engine.admin.dashboard.routes import dashboard_routes
from alerts_engine.admin.site import Site
from alerts_engine.masking import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.errors import AlertsEngineError

PREFIX = "/internal/alerts/engine"


def admin_site(source: EngineSource, prefix: str = PREFIX, allowed_hosts: Iterable[str] | None = None) -> Site:
    """All of it under ``prefix``. ``allowed_hosts``: see :class:`AdminGuard`."""

    def explain(error: AlertsEngineError) -> str:
        return Redaction(source.settings.secrets()).text(str(error))

    routes = (*api_routes(source), *dashboard_routes(source))
    return Site("admin", prefix, routes, guard=AdminGuard(source, allowed_hosts), explain=explain)
