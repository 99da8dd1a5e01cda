"""alerts-engine: alert fan-out and delivery that lives inside your PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.errors import AlertsEngineError
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.reports import PhaseReport, RunReport, RunStatus
    from alerts_engine.settings import PlanQuota, Settings, load_settings
    from alerts_engine.types import Channel, Kind, Period, Phase, Status

__version__ = "0.1.0"

_HOMES = {
    "AlertsEngine": "engine",
    "AlertsEngineError": "errors",
    "Channel": "types",
    "Kind": "types",
    "NewEvent": "phases.new_event",
    "Period": "types",
    "Phase": "types",
    "PhaseReport": "reports",
    "PlanQuota": "settings",
    "RunReport": "reports",
    "RunStatus": "reports",
    "Settings": "settings",
    "Status": "types",
    "load_settings": "settings",
}

__all__ = [
    "AlertsEngine",
    "AlertsEngineError",
    "Channel",
    "Kind",
    "NewEvent",
    "Period",
    "Phase",
    "PhaseReport",
    "PlanQuota",
    "RunReport",
    "RunStatus",
    "Settings",
    "Status",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    # Names are loaded when asked for: the command line must not pay for what a command does not use.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
