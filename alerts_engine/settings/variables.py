"""The variables that the settings are made of: the environment, and the ``.env`` file below it."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from alerts_engine.errors import SettingProblem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

PREFIX = "ALERTS_"
_OTHERS = ("CI", "GITHUB_")
"""What other tools set as they like; an empty one is nobody's mistake."""
_UNREADABLE = r"[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_PLAIN_NAME = r"\w{1,80}"


class Origin(StrEnum):
    """Where the value of a setting came from."""

    ENVIRONMENT = "environment"
    ENV_FILE = ".env"
    ARGUMENT = "argument"
    """Given to :class:`Settings` by the program that uses it."""
    DEFAULT = "default"


class Variables(NamedTuple):
    """What was found: the value of each setting that is set, and what there is to say about the others."""

    values: Mapping[str, str] = MappingProxyType({})
    warnings: tuple[str, ...] = ()
    problems: tuple[SettingProblem, ...] = ()
    origins: Mapping[str, Origin] = MappingProxyType({})
    """Of each setting that is set, also where its value cannot be used."""

    def __repr__(self) -> str:
        """Names alone: a value may be a secret."""
        return f"Variables({', '.join(self.values)})"

    def without(self, names: Collection[str]) -> Variables:
        """The same, but as if ``names`` were not set, and without the problems that are known by now."""
        left = {name: value for name, value in self.values.items() if name not in names}
        return self._replace(values=left, problems=())


def read_variables(known: Collection[str], environ: Mapping[str, str], env_file: Path | str | None) -> Variables:
    """Read the settings that are ``known``; the environment comes before the file, and a blank value is none."""
    from_file: Mapping[str, str] = {}
    problems: list[SettingProblem] = []
    warnings: list[str] = []
    if env_file is not None and os.path.lexists(env_file):
        from alerts_engine.settings.env_file import read_env_file

        file = read_env_file(Path(env_file), environ, known)
        from_file = file.values
        problems += [SettingProblem((), text) for text in file.problems]
        warnings += file.warnings
    layers = (environ, from_file)
    values = {name: value for name in known if (value := _value_of(name, layers))}
    origins = {name: Origin.ENVIRONMENT if _value_of(name, (environ,)) else Origin.ENV_FILE for name in values}
    broken = [name for name, value in values.items() if re.search(_UNREADABLE, value)]
    problems += [SettingProblem((name,), f"{name} must be UTF-8 text without control characters") for name in broken]
    # On GitHub a variable that nobody has set is an empty one.
    meant = (from_file,) if environ.get("GITHUB_ACTIONS") == "true" else layers
    warnings += [*_blank(known, meant), *_unknown(known, layers)]
    return Variables(values, tuple(warnings), tuple(problems), origins)


def _value_of(name: str, layers: Iterable[Mapping[str, str]]) -> str:
    """The first that is not blank. Spaces around a value are a slip, such as the line break behind a pasted key."""
    return next((value for layer in layers if (value := layer.get(name, "").strip())), "")


def _blank(known: Collection[str], layers: Iterable[Mapping[str, str]]) -> Iterator[str]:
    ours = (name for name in known if not name.startswith(_OTHERS))
    blank = [name for name in ours if any(name in layer and not layer[name].strip() for layer in layers)]
    if blank:
        yield f"set but empty, which counts as not set: {', '.join(blank)}"


def _unknown(known: Collection[str], layers: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """SPEC CLI-6a; names are spelt in capitals, so one in small letters is not known either."""
    for name in sorted({name for layer in layers for name in layer} - set(known)):
        capitals = name.upper()
        if capitals.startswith(PREFIX) or (capitals in known and not capitals.startswith(_OTHERS)):
            yield f"{_shown(name)} is not a setting, so nothing reads it{_nearest(capitals, known)}"


def _shown(name: str) -> str:
    return name if re.fullmatch(_PLAIN_NAME, name, re.ASCII) else f"a variable whose name begins with {PREFIX}"


def _nearest(name: str, known: Collection[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f": do you mean {near[0]}?" if near else ""
