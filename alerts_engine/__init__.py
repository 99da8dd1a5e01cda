"""alerts-engine: alert fan-out and delivery that lives inside your PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.errors import (
        AlertsEngineError,
        DatabaseError,
        DatabaseUnreachableError,
        DuplicateKeyError,
        EmbeddedServerError,
        LockLostError,
        LockTimeoutError,
        NotFoundError,
        NotOpenError,
        PhaseError,
        PoolerError,
        RuleError,
        SchemaError,
        SettingProblem,
        SettingsError,
        StatementError,
        StatementTimeoutError,
        TemplateError,
    )
    from alerts_engine.operations.explain import (
        Decision,
        DeliveryState,
        ExplainedEvent,
        Explanation,
        Facts,
        Preference,
        PreferenceRow,
        Verdict,
    )
    from alerts_engine.operations.preview import Previewed, PreviewKind
    from alerts_engine.operations.rule_trial import RuleTrial, TriedEvent
    from alerts_engine.operations.runs import RecordedPhase, RecordedRun
    from alerts_engine.phases.context import Progress
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.reports import PhaseReport, PhaseSkip, RunReport, RunStatus, to_json
    from alerts_engine.settings import PlanQuota, Settings, load_settings
    from alerts_engine.statements import RuleFile
    from alerts_engine.types import Alert, Channel, DigestContent, Kind, Period, Phase, Refusal, Status

__version__ = "0.1.0"

_HOMES = {
    "Alert": "types",
    "AlertsEngine": "engine",
    "AlertsEngineError": "errors",
    "Channel": "types",
    "DatabaseError": "errors",
    "DatabaseUnreachableError": "errors",
    "Decision": "operations.explain",
    "DeliveryState": "operations.explain",
    "DigestContent": "types",
    "DuplicateKeyError": "errors",
    "EmbeddedServerError": "errors",
    "ExplainedEvent": "operations.explain",
    "Explanation": "operations.explain",
    "Facts": "operations.explain",
    "Kind": "types",
    "LockLostError": "errors",
    "LockTimeoutError": "errors",
    "NewEvent": "phases.new_event",
    "NotFoundError": "errors",
    "NotOpenError": "errors",
    "Period": "types",
    "Phase": "types",
    "PhaseError": "errors",
    "PhaseReport": "reports",
    "PhaseSkip": "reports",
    "PlanQuota": "settings",
    "PoolerError": "errors",
    "Preference": "operations.explain",
    "PreferenceRow": "operations.explain",
    "PreviewKind": "operations.preview",
    "Previewed": "operations.preview",
    "Progress": "phases.context",
    "RecordedPhase": "operations.runs",
    "RecordedRun": "operations.runs",
    "Refusal": "types",
    "RuleError": "errors",
    "RuleFile": "statements",
    "RuleTrial": "operations.rule_trial",
    "RunReport": "reports",
    "RunStatus": "reports",
    "SchemaError": "errors",
    "SettingProblem": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "StatementError": "errors",
    "StatementTimeoutError": "errors",
    "Status": "types",
    "TemplateError": "errors",
    "TriedEvent": "operations.rule_trial",
    "Verdict": "operations.explain",
    "load_settings": "settings",
    "to_json": "reports",
}

__all__ = [
    "Alert",
    "AlertsEngine",
    "AlertsEngineError",
    "Channel",
    "DatabaseError",
    "DatabaseUnreachableError",
    "Decision",
    "DeliveryState",
    "DigestContent",
    "DuplicateKeyError",
    "EmbeddedServerError",
    "ExplainedEvent",
    "Explanation",
    "Facts",
    "Kind",
    "LockLostError",
    "LockTimeoutError",
    "NewEvent",
    "NotFoundError",
    "NotOpenError",
    "Period",
    "Phase",
    "PhaseError",
    "PhaseReport",
    "PhaseSkip",
    "PlanQuota",
    "PoolerError",
    "Preference",
    "PreferenceRow",
    "PreviewKind",
    "Previewed",
    "Progress",
    "RecordedPhase",
    "RecordedRun",
    "Refusal",
    "RuleError",
    "RuleFile",
    "RuleTrial",
    "RunReport",
    "RunStatus",
    "SchemaError",
    "SettingProblem",
    "Settings",
    "SettingsError",
    "StatementError",
    "StatementTimeoutError",
    "Status",
    "TemplateError",
    "TriedEvent",
    "Verdict",
    "load_settings",
    "to_json",
]


def __getattr__(name: str) -> Any:
    # Names are loaded when asked for: the command line must not pay for what a command does not use.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
