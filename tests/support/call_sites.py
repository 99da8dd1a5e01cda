"""Where the package executes its statements, found in its syntax trees: which statement, how, and with which names."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alerts_engine
from alerts_engine.phases.send.claims import SOURCES
from alerts_engine.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

METHODS = ("rows", "row", "run")
PACKAGE = Path(alerts_engine.__file__).parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class CallSite:
    """One ``database.rows(statement, name=…)``; of a statement that only the run knows, all that it may be."""

    where: str
    method: str
    statements: tuple[Statement[Any], ...]
    names: frozenset[str]


class NotFollowedError(Exception):
    """The tree alone does not show what is meant."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call, and the functions it stands in, the innermost last."""

    node: ast.Call
    within: tuple[Function, ...]

    @property
    def name(self) -> str:
        """What is called: ``rows`` of ``database.rows(…)``."""
        function = self.node.func
        return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


class _Module:
    """A module of the package: its tree, and what its names are."""

    def __init__(self, module: ModuleType) -> None:
        file = Path(str(module.__file__))
        self.file = file.relative_to(PACKAGE).as_posix()
        self._names = vars(module)
        self._tree = ast.parse(file.read_text("utf-8"))

    @cached_property
    def calls(self) -> list[_Call]:
        return list(_calls_in(self._tree, ()))

    def statements_of(self, node: ast.expr, within: tuple[Function, ...]) -> tuple[Statement[Any], ...]:
        """The statements that an expression may be; none if it is something else."""
        match node:
            case ast.IfExp():
                return self.statements_of(node.body, within) + self.statements_of(node.orelse, within)
            case ast.Attribute(value=ast.Attribute(attr="statements"), attr=name):
                return tuple(getattr(source.statements, name) for source in SOURCES)
            case ast.Name() | ast.Attribute():
                value = self.value_of(node, _locals(within))
                return (value,) if isinstance(value, Statement) else ()
        return ()

    def value_of(self, node: ast.expr, unknown: set[str]) -> Any:
        """What a name of the module, or a part of what has a name, is while it runs."""
        match node:
            case ast.Name(id=name) if name in self._names and name not in unknown:
                return self._names[name]
            case ast.Attribute(value=owner, attr=name):
                return getattr(self.value_of(owner, unknown), name)
        raise NotFollowedError

    def names_given_by(self, call: _Call, calls: list[_Call]) -> list[frozenset[str]]:
        """The names of the keywords; more than one set where the function hands on those that it was called with."""
        sets = [frozenset(keyword.arg for keyword in call.node.keywords if keyword.arg)]
        for keyword in call.node.keywords:
            if keyword.arg is None:
                more = self._names_unpacked(keyword.value, call, calls)
                sets = [names | others for names in sets for others in more]
        return sets

    def _names_unpacked(self, node: ast.expr, call: _Call, calls: list[_Call]) -> list[frozenset[str]]:
        """The names behind ``**node``."""
        function = call.within[-1]
        match node:
            case ast.Call(func=ast.Name(id="asdict"), args=[ast.Name(id=name)]):
                made = self.value_of(_annotation(function, name), set())
                return [frozenset(field.name for field in dataclasses.fields(made))]
            case ast.Name(id=name) if function.args.kwarg and function.args.kwarg.arg == name:
                return _names_handed_to(function, calls)
        raise NotFollowedError


def _calls_in(node: ast.AST, within: tuple[Function, ...]) -> Iterator[_Call]:
    if isinstance(node, ast.Call):
        yield _Call(node, within)
    if isinstance(node, Function):
        within = (*within, node)
    for child in ast.iter_child_nodes(node):
        yield from _calls_in(child, within)


def _locals(within: tuple[Function, ...]) -> set[str]:
    """The names that mean something else inside these functions than in their module."""
    parameters = {
        argument.arg for function in within for argument in ast.walk(function.args) if isinstance(argument, ast.arg)
    }
    assigned = {
        node.id
        for function in within
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return parameters | assigned


def _annotation(function: Function, parameter: str) -> ast.expr:
    for argument in (*function.args.args, *function.args.kwonlyargs):
        if argument.arg == parameter and argument.annotation is not None:
            return argument.annotation
    raise NotFollowedError


def _names_handed_to(function: Function, calls: list[_Call]) -> list[frozenset[str]]:
    """The names that callers give a function beyond its own parameters."""
    own = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    callers = [call for call in calls if call.name == function.name]
    if not callers or any(keyword.arg is None for call in callers for keyword in call.node.keywords):
        raise NotFollowedError
    return [frozenset(str(keyword.arg) for keyword in call.node.keywords) - own for call in callers]


def _modules() -> Iterator[_Module]:
    for found in pkgutil.walk_packages(alerts_engine.__path__, "alerts_engine."):
        if not found.name.endswith(("__main__", "fastapi_router")):
            yield _Module(importlib.import_module(found.name))


def call_sites() -> tuple[list[CallSite], set[str]]:
    """Every place where a statement is executed, and those that cannot be followed, as ``file: expression``."""
    modules = list(_modules())
    calls = [call for module in modules for call in module.calls]
    sites: list[CallSite] = []
    not_followed: set[str] = set()
    for module in modules:
        for call in module.calls:
            if call.name not in METHODS or not call.node.args:
                continue
            try:
                sites += _sites_of(module, call, calls)
            except NotFollowedError:
                not_followed.add(f"{module.file}: {ast.unparse(call.node.func)}({ast.unparse(call.node.args[0])}, …)")
    return sites, not_followed


def _sites_of(module: _Module, call: _Call, calls: list[_Call]) -> Iterator[CallSite]:
    statements = module.statements_of(call.node.args[0], call.within)
    if statements:
        where = f"{module.file}:{call.node.lineno}"
        for names in module.names_given_by(call, calls):
            yield CallSite(where, call.name, statements, names)
