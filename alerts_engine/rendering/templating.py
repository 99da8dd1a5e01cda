"""Loads and renders templates; a broken own one gives way to the built-in, so that no alert is lost (SPEC M-1).

The one importer of jinja2: a process that renders nothing does not load it.
"""

from __future__ import annotations

import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import structlog
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateSyntaxError,
)
from jinja2.sandbox import SandboxedEnvironment

from alerts_engine.rendering.template_problem import TemplateProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")
Context: TypeAlias = "dict[str, object]"
Render: TypeAlias = "Callable[[Context], str]"
"""Renders one template with a context."""

_BUILT_IN_DIR = Path(__file__).parent / "templates"
_BUILT_IN_NAMES = frozenset(path.name for path in _BUILT_IN_DIR.iterdir())
_log = structlog.get_logger("alerts_engine.rendering")


class Templates:
    """The built-in templates, each replaceable by a file of the same name in ``own_dir``.

    Own templates run in jinja2's sandbox and may extend or include built-in ones.
    """

    def __init__(self, own_dir: Path | None, on_broken: Callable[[TemplateProblem], None] | None) -> None:
        self._built_in = _built_in()
        self._own_dir = own_dir if own_dir and _files(own_dir) & _BUILT_IN_NAMES else None
        self._own = _own_environment(self._own_dir) if self._own_dir else self._built_in
        self._on_broken = on_broken or _warn_once()

    def use(self, name: str, make: Callable[[Render], Result]) -> Result:
        """What ``make`` makes with template ``name``; it raises when it cannot make a message of what comes out."""
        if self._own_dir:
            try:
                return make(self._own.get_template(name).render)
            except Exception as error:  # noqa: BLE001 - an own template can fail in any way; the alert goes out all the same
                self._on_broken(_problem(error, name, self._own_dir))
        return make(self._built_in.get_template(name).render)


def unknown_files(folder: Path) -> Iterator[TemplateProblem]:
    """The files of ``folder`` that replace nothing, often because a name is misspelt."""
    known = ", ".join(sorted(_BUILT_IN_NAMES))
    for name in sorted(_files(folder) - _BUILT_IN_NAMES):
        yield TemplateProblem(name, None, f"replaces no built-in template; their names: {known}")


def compile_own(folder: Path) -> Iterator[TemplateProblem]:
    """The own templates of ``folder`` that cannot be compiled."""
    environment = _own_environment(folder)
    for name in sorted(_files(folder) & _BUILT_IN_NAMES):
        try:
            environment.get_template(name)
        except (TemplateSyntaxError, UnicodeDecodeError) as error:
            yield _problem(error, name, folder)


def _files(folder: Path) -> frozenset[str]:
    """The names of the files in ``folder``; one that begins with a dot is no template's."""
    return frozenset(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _environment(kind: type[Environment], loader: BaseLoader) -> Environment:
    return kind(
        loader=loader,
        autoescape=_is_markup,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


@cache
def _built_in() -> Environment:
    """One for the process: compiling the templates takes longer than a small run's sends."""
    environment = _environment(Environment, FileSystemLoader(_BUILT_IN_DIR))
    # jinja2 copies its globals into every rendering; built-in templates need none of them.
    environment.globals.clear()
    return environment


def _own_environment(folder: Path) -> Environment:
    loader = ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(_BUILT_IN_DIR)])
    return _environment(SandboxedEnvironment, loader)


def _is_markup(name: str | None) -> bool:
    return name is None or name.endswith(".html")


def _warn_once() -> Callable[[TemplateProblem], None]:
    """Logs each broken file once, without ``problem``: it could quote an alert (SPEC O-3)."""
    warned: set[str] = set()

    def warn(problem: TemplateProblem) -> None:
        if problem.file not in warned:
            warned.add(problem.file)
            _log.warning("template_broken", file=problem.file, line=problem.line)

    return warn


def _problem(error: Exception, name: str, folder: Path) -> TemplateProblem:
    """``error`` and the own template's line that it comes from; template ``name`` when it does not tell."""
    if isinstance(error, TemplateSyntaxError):
        return TemplateProblem(error.name or name, error.lineno, error.message or "wrong syntax")
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    problem = str(error) or type(error).__name__
    if places:
        return TemplateProblem(Path(places[-1].filename).name, places[-1].lineno, problem)
    return TemplateProblem(name, None, problem)
