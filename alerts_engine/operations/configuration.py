"""Every setting as this process reads it: its value, and where that came from. No secret is in it (SPEC section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from alerts_engine.reports import to_json
from alerts_engine.settings import Origin, variable_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts_engine.settings import SettingProblem, Settings

MASK = "********"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """One setting. ``value`` is plain JSON: ``None`` where there is none, or where what is set cannot be used."""

    variable: str
    value: Any
    origin: Origin
    secret: bool
    usable: bool
    """Whether its value can be used; where not, the default would take its place, and most commands refuse to run."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """All settings in the order of the documentation, and what is odd or wrong about what was set."""

    settings: tuple[ShownSetting, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every setting can be used."""
        return not self.errors


def configuration(settings: Settings, problems: Sequence[SettingProblem] = ()) -> Configuration:
    """What the settings are. ``problems`` tells which cannot be used, so that ``settings`` has their defaults."""
    broken = frozenset(variable for problem in problems for variable in problem.variables)
    shown = (_shown(settings, field, name, usable=name not in broken) for field, name in variable_names().items())
    return Configuration(tuple(shown), settings.warnings, tuple(problem.text for problem in problems))


def _shown(settings: Settings, field: str, variable: str, *, usable: bool) -> ShownSetting:
    value = getattr(settings, field)
    # By the declared type: a secret that is not set is one all the same.
    secret = "SecretStr" in str(type(settings).model_fields[field].annotation)
    return ShownSetting(variable, _plain(value) if usable else None, settings.origin_of(field), secret, usable)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {key: one.model_dump() if isinstance(one, BaseModel) else one for key, one in value.items()}
    return to_json(value)
