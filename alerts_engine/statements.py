"""Finds, parses and checks ``sql/``: the one reader of ``.sql`` files (DESIGN section 2).

A statement's header is its interface: its name, its parameters with their types, and what it returns. The files stay
plain SQL with ``$n``, so that they run under ``psql`` and ``EXPLAIN`` as they stand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from alerts_engine.errors import RuleError, StatementError

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(__file__).parent
Row = TypeVar("Row")


@cache
def folder(name: str) -> Path:
    """Where ``sql`` or ``migrations`` is: at the repository's root in a checkout, else inside the package.

    The checkout comes first because an editable install copies the files, and the copies go stale.
    """
    checkout = PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    return PACKAGE / f"_{name}"


@dataclass(frozen=True, slots=True)
class Parameter:
    number: int
    """``$1`` is the first."""
    name: str
    type: str

    @property
    def sql_type(self) -> str:
        return "text" if self.type == "json_text" else self.type

    def encode(self, value: Any) -> Any:
        """``value`` as asyncpg takes it, whatever codecs the connection has: JSON goes as text."""
        return json.dumps(value) if self.type == "json_text" and value is not None else value

    def as_texts(self, value: Any) -> Any:
        """A list as texts, where asyncpg would first have to ask the server about the array's type."""
        written = _ELEMENTS.get(self.type)
        if written is None or value is None:
            return value
        return [None if one is None else written(one) for one in value]

    def sent_as(self, *, hidden: bool) -> str:
        """What stands for the parameter in the text that goes to the server; see :attr:`Definition.lasting_plan`."""
        value = f"${self.number}::text[]::{self.type}" if self.type in _ELEMENTS else f"${self.number}"
        # Cast once more behind the subquery, since ANY ((SELECT …)) asks for rows.
        return f"(SELECT {value}::{self.sql_type})::{self.sql_type}" if hidden else value


_ELEMENTS: dict[str, Callable[[Any], str]] = {
    "int4[]": str,
    "int8[]": str,
    "float8[]": repr,
    "bool[]": str,
    "timestamptz[]": datetime.isoformat,
    "bytea[]": lambda value: f"\\x{value.hex()}",
}
"""The arrays that asyncpg asks the server about on each new connection (5 ms of its time), and an element's text."""


@dataclass(frozen=True, slots=True)
class Call:
    """A statement with its values, as it goes to the server."""

    text: str = field(repr=False)
    arguments: list[Any] = field(repr=False)
    fresh_plan: bool


@dataclass(frozen=True)
class Definition:
    """One statement as its file has it."""

    file: str
    name: str
    text: str = field(repr=False)
    parameters: tuple[Parameter, ...]
    returns: str
    """The row's type name, or ``nothing``."""
    many: bool
    fresh_plan: bool = False
    """Planned again for each execution's values, never by a generic plan."""
    lasting_plan: bool = False
    """Planned without a look at the values, so that one plan serves a whole session.

    PostgreSQL plans a statement for each execution while that looks cheaper than one plan for all values, and what
    planning itself costs hardly counts in that. A value that comes from a subquery makes no such difference.
    """
    fresh_when_given: int | None = None
    """The number of the parameter that calls for a fresh plan when it is not ``None``."""
    limit_seconds: float | None = None
    """How long an execution may take; ``None``: as long as any statement may."""

    def call(self, values: dict[str, Any]) -> Call:
        """What to send for these values; raises as :meth:`bind` does."""
        arguments = self.bind(values)
        fresh = self.fresh_plan or (self.fresh_when_given and arguments[self.fresh_when_given - 1] is not None)
        texts = [parameter.as_texts(value) for parameter, value in zip(self.parameters, arguments, strict=True)]
        return Call(self._with_values if fresh else self.sent, texts, fresh_plan=bool(fresh))

    @cached_property
    def sent(self) -> str:
        """The text as it is sent, unless the values ask for a fresh plan."""
        return self._text_with(hidden=True) if self.lasting_plan else self._with_values

    @cached_property
    def _with_values(self) -> str:
        return self._text_with(hidden=False)

    def _text_with(self, *, hidden: bool) -> str:
        def parameter(match: re.Match[str]) -> str:
            return self.parameters[int(match[1]) - 1].sent_as(hidden=hidden)

        return re.sub(r"\$(\d+)", parameter, self.text)

    def bind(self, values: dict[str, Any]) -> list[Any]:
        """The values in the order of ``$1 … $n``; raises :class:`StatementError` on a missing or unknown name."""
        names = {parameter.name for parameter in self.parameters}
        if names != values.keys():
            missing, extra = names - values.keys(), values.keys() - names
            raise StatementError(f"{self.file}: {self.name}: missing {sorted(missing)}, not declared {sorted(extra)}")
        return [parameter.encode(values[parameter.name]) for parameter in self.parameters]


@dataclass(frozen=True, slots=True)
class Statement(Generic[Row]):
    """A statement together with the type of its rows."""

    definition: Definition
    row: type[Row] | None


REGISTRY: dict[tuple[str, str], Statement[Any]] = {}
"""Every statement that some module asked for; the contract test holds it against the files."""


def statement(file: str, name: str, row: type[Row]) -> Statement[Row]:
    """The statement ``name`` of ``sql/{file}.sql``, whose rows become ``row`` (a dataclass)."""
    definition = _find(file, name)
    if definition.returns != row.__name__:
        raise StatementError(f"{file}: {name} returns {definition.returns}, not {row.__name__}")
    return _register(Statement(definition, row))


def command(file: str, name: str) -> Statement[None]:
    """The statement ``name`` of ``sql/{file}.sql``, which returns nothing."""
    definition = _find(file, name)
    if definition.returns != "nothing":
        raise StatementError(f"{file}: {name} returns {definition.returns}: give its row type")
    made: Statement[None] = Statement(definition, None)
    return _register(made)


def _register(made: Statement[Any]) -> Statement[Any]:
    REGISTRY[made.definition.file, made.definition.name] = made
    return made


def _find(file: str, name: str) -> Definition:
    try:
        return load(file)[name]
    except KeyError:
        raise StatementError(f"{file}.sql has no statement {name}") from None


@cache
def load(file: str) -> dict[str, Definition]:
    """Every statement of ``sql/{file}.sql`` by name, in the order of the file."""
    path = folder("sql") / f"{file}.sql"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StatementError(f"{path.name} cannot be read: {error.strerror}") from error
    pieces = re.split(r"^-- name: *", text, flags=re.MULTILINE)[1:]
    definitions = [definition for piece in pieces for definition in _parse_with_twin(file, piece)]
    if len({definition.name for definition in definitions}) != len(definitions):
        raise StatementError(f"{path.name} has two statements of one name")
    return {definition.name: definition for definition in definitions}


_ALSO = re.compile(r"^-- also: +(\w+) for (\w+)(?:, returns (\w+))?[ ]*$", re.MULTILINE)
_TABLE = re.compile(r"/\* TABLE \*/ \w+")
_ONLY_HERE = re.compile(r"^.*-- only here[ ]*\n?", re.MULTILINE)
_THERE = re.compile(r"^.*-- there: (.*)$", re.MULTILINE)


def _parse_with_twin(file: str, piece: str) -> list[Definition]:
    """A statement, and the one that its header's ``-- also:`` derives from the same text for another table.

    The other text has that table wherever ``/* TABLE */`` stands, lacks the lines that end in ``-- only here``, and has
    what follows ``-- there:`` in the place of such a line.
    """
    definition = _parse(file, piece)
    also = _ALSO.search(piece)
    if also is None:
        return [definition]
    text = _THERE.sub(r"\1", _ONLY_HERE.sub("", _TABLE.sub(also[2], definition.text)))
    return [definition, replace(definition, name=also[1], text=text, returns=also[3] or definition.returns)]


_PARAMETER = re.compile(r"^-- +\$(\d+) +(\w+) +(\w+(?:\[\])?)")
_PLAN = re.compile(r"^-- plan: (?P<lasting>lasting(?:, but )?)?(?P<fresh>fresh(?: when \$(?P<given>\d+) is given)?)?\b")
_LIMIT = re.compile(r"^-- limit: +(\d+) s[ ]*$")
_RETURNS = re.compile(r"^-- returns: +(\w+)(?:, +(one|many))?\s*$")


def _parse(file: str, piece: str) -> Definition:
    name, *lines = piece.rstrip().splitlines()
    name = name.strip()
    header = []
    while lines and lines[0].startswith("--"):
        header.append(lines.pop(0))
    parameters = [match for line in header if (match := _PARAMETER.match(line))]
    if [int(match[1]) for match in parameters] != list(range(1, len(parameters) + 1)):
        raise StatementError(f"{file}.sql: {name}: the header must declare $1, $2, … in order")
    returns = [match for line in header if (match := _RETURNS.match(line))]
    if len(returns) != 1:
        raise StatementError(f"{file}.sql: {name}: the header needs one line '-- returns: Row, one|many' or 'nothing'")
    plan = next((match for line in header if (match := _PLAN.match(line))), None)
    return Definition(
        file=file,
        name=name,
        text="\n".join(lines).strip().rstrip(";"),
        parameters=tuple(Parameter(int(match[1]), match[2], match[3]) for match in parameters),
        returns=returns[0][1],
        many=returns[0][2] == "many",
        fresh_plan=plan is not None and bool(plan["fresh"]) and plan["given"] is None,
        lasting_plan=plan is not None and bool(plan["lasting"]),
        fresh_when_given=int(plan["given"]) if plan is not None and plan["given"] else None,
        limit_seconds=_limit_of(file, name, header),
    )


def _limit_of(file: str, name: str, header: list[str]) -> float | None:
    for line in header:
        if line.startswith("-- limit:"):
            match = _LIMIT.match(line)
            if match is None:
                raise StatementError(f"{file}.sql: {name}: the limit must be whole seconds, such as '-- limit: 20 s'")
            return float(match[1])
    return None


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A phase-A rule as a file; its name is the file's, without the ending (SPEC A-1)."""

    path: Path
    name: str
    text: str = field(repr=False)
    problem: str | None = None

    def check(self) -> None:
        """Raise :class:`RuleError` when the file cannot be used at all."""
        if self.problem is not None:
            raise RuleError(self.problem)


def rule_files(own: Path | None) -> list[RuleFile]:
    """The built-in rules and those of the folder ``own``, each by name. A file that cannot be used is among them."""
    built_in = [read_rule(path) for path in sorted((folder("sql") / "rules").glob("*.sql"))]
    names = {rule.name for rule in built_in}
    others = [read_rule(path) for path in sorted(own.glob("*.sql"))] if own is not None else []
    return built_in + [
        replace(rule, name=f"{rule.name} (custom)", problem="has the name of a built-in rule: rename the file")
        if rule.name in names
        else rule
        for rule in others
    ]


def read_rule(path: Path) -> RuleFile:
    """One rule file, its trailing semicolon taken off; a file that cannot be read has a ``problem``."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip().rstrip(";")  # some editors put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        return RuleFile(path, path.stem, "", f"cannot be read ({type(error).__name__}): it must be a UTF-8 text file")
    return RuleFile(path, path.stem, text, None if text else "is empty: a rule is one SELECT")


@cache
def migration_ids() -> tuple[str, ...]:
    """The ids of all migrations, in order: the names of their files."""
    names = (path.stem for path in folder("migrations").glob("*.sql"))
    return tuple(sorted(name for name in names if not name.endswith(".rollback")))
