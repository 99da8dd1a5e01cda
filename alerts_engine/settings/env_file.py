"""A ``.env`` file, read strictly: a line that cannot be read is reported, never dropped.

python-dotenv parses. Its own reader goes on without what it cannot parse, and a restriction that stands in the file
would then restrict nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from dotenv.parser import Binding

_MOST_LINES_NAMED = 5
_NAME = r"[A-Za-z_][\w.-]*"
_SWALLOWED = rf"""(?am)^\s*(?:export\s+)?['"]?({_NAME})['"]?[^\S\n]*=[^\S\n]*(=*[^\S\n]*$)?"""
"""An assignment at the start of a line; the second group is there when nothing is assigned, as at the end of base64."""
_ASSIGNED = r"(?a)([A-Za-z]\w*_\w+)\s*="


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file assigns; each problem and warning is a sentence that names lines and never shows them."""

    values: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Assignment:
    name: str
    value: str
    line: int


def read_env_file(path: Path, environ: Mapping[str, str], known: Collection[str]) -> EnvFile:
    """Read ``path``; no file is an empty one. ``known`` are the names that matter here, and so do those like them.

    ``${NAME}`` stands for what the file has assigned so far, or for a variable of ``environ``, as python-dotenv has it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return EnvFile(problems=(f"{path} is a link to a file that is not there",)) if path.is_symlink() else EnvFile()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return EnvFile(problems=(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8",))
    except OSError as error:
        return EnvFile(problems=(f"{path} cannot be read: {error.strerror}",))
    return _Reader(path, known).read(text, environ)


class _Reader:
    def __init__(self, path: Path, known: Collection[str]) -> None:
        self._path = path
        self._known = known

    def read(self, text: str, environ: Mapping[str, str]) -> EnvFile:
        from dotenv.parser import parse_stream

        bindings = list(parse_stream(StringIO(text, newline=None)))
        unreadable = [_line_of(binding) for binding in bindings if self._is_unreadable(binding)]
        assignments = [
            _Assignment(binding.key, binding.value, _line_of(binding))
            for binding in bindings
            if binding.key is not None and binding.value is not None and not self._is_unreadable(binding)
        ]
        values, dangling = self._expanded(assignments, environ)
        problems = [*self._unreadable(unreadable), *dangling]
        return EnvFile(values, tuple(problems), tuple(self._repeated(assignments)))

    def _is_unreadable(self, binding: Binding) -> bool:
        if binding.key is None:
            return binding.error
        if binding.value is None or not re.fullmatch(_NAME, binding.key, re.ASCII):
            return True
        _, _, given = binding.original.string.partition("=")
        if given.lstrip().startswith(("'", '"')):
            return self._holds_assignment(given)
        return any(map(self._ends_in_one_that_matters, re.findall(_ASSIGNED, binding.value)))

    def _holds_assignment(self, quoted: str) -> bool:
        """Whether a later line of ``quoted`` assigns something: then the quote was meant to close before it."""
        _, _, later_lines = quoted.partition("\n")
        found = re.finditer(_SWALLOWED, later_lines)
        return any(self._matters(one[1]) or one[2] is None for one in found)

    def _ends_in_one_that_matters(self, name: str) -> bool:
        """Such as ``xALERTS_TIMEZONE``: the line break before it was lost."""
        return "ALERTS_" in name or name.endswith(tuple(one for one in self._known if "_" in one))

    def _matters(self, name: str) -> bool:
        return name in self._known or name.startswith("ALERTS_")

    def _unreadable(self, lines: Sequence[int]) -> Iterator[str]:
        if lines:
            yield f"{self._path}, {_named(lines)}: not of the form NAME=value; a quote may be missing"

    def _expanded(
        self, assignments: Sequence[_Assignment], environ: Mapping[str, str]
    ) -> tuple[dict[str, str], list[str]]:
        from dotenv.variables import Variable, parse_variables

        values: dict[str, str] = {}
        scope = dict(environ)
        dangling = []
        for one in assignments:
            atoms = list(parse_variables(one.value))
            unset = (isinstance(atom, Variable) and atom.default is None and atom.name not in scope for atom in atoms)
            if self._matters(one.name) and any(unset):
                dangling.append(f"{one.name} in {self._path}, line {one.line}, refers to a variable that is not set")
            values[one.name] = scope[one.name] = "".join(atom.resolve(scope) for atom in atoms)
        return values, dangling

    def _repeated(self, assignments: Sequence[_Assignment]) -> Iterator[str]:
        lines: dict[str, list[int]] = {}
        for one in assignments:
            lines.setdefault(one.name, []).append(one.line)
        for name, found in lines.items():
            if len(found) > 1 and self._matters(name):
                yield f"{name} is set more than once in {self._path}, {_named(found)}: the last one counts"


def _line_of(binding: Binding) -> int:
    """Where the statement begins; python-dotenv counts the blank lines before it as its own."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + blank.count("\n")


def _named(lines: Sequence[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]}"
    named = ", ".join(str(line) for line in lines[:_MOST_LINES_NAMED])
    more = len(lines) - _MOST_LINES_NAMED
    return f"lines {named} and {more} more" if more > 0 else f"lines {named}"
