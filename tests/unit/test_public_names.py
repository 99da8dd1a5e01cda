"""What an application meets it can import from ``alerts_engine`` (SPEC I-3)."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType, UnionType
from typing import TYPE_CHECKING, Any, get_args

import pytest

import alerts_engine
from alerts_engine import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROLE = re.compile(r":(?:class|func|exc|data|meth):`[~!]?([A-Za-z_.]+)`")
_ERRORS = [
    name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
]
_FOR_COMMANDS = {"Database"}
"""The pool behind the engine's own commands: neither an error nor a result."""
_FOR_PHASES = {"DigestBatch", "FanOutPage", "RowUpdate", "SourceName"}
"""What a phase counts by: an application reads the counts."""


@pytest.mark.parametrize("name", [name for name in _ERRORS if name != "unchained"])
def test_every_error_is_importable_from_the_package(name: str):
    assert getattr(alerts_engine, name) is getattr(errors, name)
    assert name in alerts_engine.__all__


@pytest.mark.parametrize("name", alerts_engine.__all__)
def test_every_public_name_exists(name: str):
    assert getattr(alerts_engine, name).__name__ == name


@pytest.mark.parametrize("name", alerts_engine.__all__)
def test_what_a_public_docstring_names_is_importable_from_the_package(name: str):
    assert _named_in_docstrings(getattr(alerts_engine, name)) <= set(alerts_engine.__all__)


@pytest.mark.parametrize("name", alerts_engine.__all__)
def test_what_a_public_signature_or_field_names_is_importable_from_the_package(name: str):
    """Whoever compares ``decision.verdict`` with a verdict, or annotates a function of theirs, needs the type."""
    assert set(_named_in_annotations(getattr(alerts_engine, name))) - _FOR_COMMANDS - _FOR_PHASES <= set(
        alerts_engine.__all__
    )


def test_a_type_checker_sees_the_same_names():
    """The imports for it, the homes that names are loaded from, and the list are three texts of one thing."""
    tree = ast.parse(Path(alerts_engine.__file__).read_text(encoding="utf-8"))
    homes = {
        alias.name: str(node.module).removeprefix("alerts_engine.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("alerts_engine.")
        for alias in node.names
    }
    assert homes == alerts_engine._HOMES
    assert sorted(homes) == alerts_engine.__all__


def test_a_name_that_is_missing_would_be_seen():
    class Careless:
        """Raises :class:`NoSuchError`, :class:`ValueError` and :class:`~alerts_engine.errors.RuleError`."""

    assert _named_in_docstrings(Careless) == {"NoSuchError", "RuleError"}
    assert "RunReport" in set(_named_in_annotations(alerts_engine.AlertsEngine))
    assert {"Verdict", "Refusal"} <= set(_named_in_annotations(alerts_engine.Decision))


def _named_in_docstrings(public: Any) -> set[str]:
    """The classes and functions in the docstrings of ``public``, its methods and its fields; not its own methods."""
    found = set()
    for path in _ROLE.findall(inspect.getsource(public)):
        parts = path.split(".")
        name = parts[-1] if parts[0] == "alerts_engine" else parts[0]
        if not hasattr(builtins, name) and not hasattr(public, name):
            found.add(name)
    return found


def _named_in_annotations(public: Any) -> Iterator[str]:
    """The engine's classes in the signatures of ``public`` and in its fields."""
    module = import_module(public.__module__)
    names = {
        node.id for annotation in _annotations(public) for node in ast.walk(annotation) if isinstance(node, ast.Name)
    }
    for name in names:
        yield from _own_classes(_resolved(module, name))


def _annotations(public: Any) -> Iterator[ast.expr]:
    [top] = ast.parse(inspect.getsource(public)).body
    members = top.body if isinstance(top, ast.ClassDef) else [top]
    for member in members:
        if isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            yield member.annotation
        elif isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
            arguments = (*member.args.args, *member.args.kwonlyargs)
            yield from (argument.annotation for argument in arguments if argument.annotation is not None)
            if member.returns is not None:
                yield member.returns


def _resolved(module: ModuleType, name: str) -> Any:
    """What ``name`` means there; annotations also use what is imported for type checkers alone."""
    if hasattr(module, name):
        return getattr(module, name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return getattr(import_module(str(node.module)), name)
    return None


def _own_classes(found: Any) -> Iterator[str]:
    for kind in get_args(found) if isinstance(found, UnionType) else [found]:
        if inspect.isclass(kind) and kind.__module__.startswith("alerts_engine."):
            yield kind.__name__
