"""From pydantic's errors to sentences for whoever runs the engine: the variable, and what it accepts; never a value."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from alerts_engine.errors import SettingProblem
from alerts_engine.settings.values import Accepts

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic.fields import FieldInfo

_LEASE_TOO_SHORT = SettingProblem(
    ("ALERTS_SEND_LEASE_SECONDS", "ALERTS_SEND_TIMEOUT_SECONDS", "ALERTS_SHUTDOWN_SECONDS"),
    "ALERTS_SEND_LEASE_SECONDS must exceed ALERTS_SEND_TIMEOUT_SECONDS + ALERTS_SHUTDOWN_SECONDS by 0.1 or more",
)
"""The one check that is about several settings."""
_PLAIN_KEY = r"[\w -]{1,40}"


def problems_in(error: ValidationError, settings: type[BaseModel]) -> tuple[SettingProblem, ...]:
    """One problem for each setting that ``error`` is about, in the order of the settings."""
    fields = {field.alias: field for field in settings.model_fields.values()}
    found: dict[tuple[str, ...], SettingProblem] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        problem = _LEASE_TOO_SHORT
        if one["loc"]:
            variable, *path = map(str, one["loc"])
            problem = SettingProblem((variable,), f"{variable} must be {accepted(fields[variable])}{_at(path)}")
        found.setdefault(problem.variables, problem)
    return tuple(found.values())


def _at(path: list[str]) -> str:
    """Where in a JSON object; keys are somebody's text, and a long or odd one is not repeated."""
    keys = [key for key in path if re.fullmatch(_PLAIN_KEY, key, re.ASCII)]
    return f" (see {'.'.join(keys)})" if keys == path and keys else ""


# --- what a setting accepts -----------------------------------------------------------------------------------------


def accepted(field: FieldInfo) -> str:
    """What ``field`` accepts, to stand behind “must be”: for the sentence of an error, and for the docs."""
    kind = _kind(field.annotation)
    for known in (*field.metadata, *getattr(kind, "__metadata__", ())):
        if isinstance(known, Accepts):
            return str(known)
    if kind is bool:
        return "`true` or `false`"
    if kind in {int, float}:
        return f"a {'whole ' * (kind is int)}number {_range(field)}"
    return " or ".join(f"`{choice}`" for choice in _choices(kind)) or "text"


def _kind(annotation: Any) -> Any:
    """The type behind ``… | None``."""
    kinds = get_args(annotation)
    return next(kind for kind in kinds if kind is not type(None)) if type(None) in kinds else annotation


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ()


def _range(field: FieldInfo) -> str:
    bounds = {name: getattr(one, name) for one in field.metadata for name in ("ge", "gt", "le") if hasattr(one, name)}
    return f"from {bounds['ge']} to {bounds['le']}" if "ge" in bounds else f"above {bounds['gt']}, up to {bounds['le']}"
