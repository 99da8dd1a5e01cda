"""The settings: one class reads the environment and ``.env``, and nothing else does (SPEC section 4)."""

from __future__ import annotations

from alerts_engine.errors import SettingProblem
from alerts_engine.settings.model import (
    MOST_ROWS_A_CLAIM,
    Settings,
    load_settings,
    load_usable_settings,
    variable_name,
    variable_names,
)
from alerts_engine.settings.plans import BUILT_IN_PLANS, PlanQuota
from alerts_engine.settings.problems import accepted
from alerts_engine.settings.variables import Origin, Variables

__all__ = [
    "BUILT_IN_PLANS",
    "MOST_ROWS_A_CLAIM",
    "Origin",
    "PlanQuota",
    "SettingProblem",
    "Settings",
    "Variables",
    "accepted",
    "load_settings",
    "load_usable_settings",
    "variable_name",
    "variable_names",
]
