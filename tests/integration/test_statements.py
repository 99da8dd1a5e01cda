"""The contract test: every statement's header holds against a migrated database and its dataclass."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from datetime import date, datetime
from enum import EnumType
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest

import alerts_engine
from alerts_engine import statements
from alerts_engine.database import connect
from tests.support.call_sites import call_sites

for module in pkgutil.walk_packages(alerts_engine.__path__, "alerts_engine."):
    if not module.name.endswith(("__main__", "fastapi_router")):
        importlib.import_module(module.name)

FILES = sorted(path.stem for path in statements.folder("sql").glob("*.sql"))
ALL = [(file, name) for file in FILES for name in statements.load(file)]

SYNONYMS = {"int": "int4", "bigint": "int8", "boolean": "bool", "varchar": "text", "json_text": "text"}
PYTHON_TYPES = {
    "int2": int, "int4": int, "int8": int, "float8": float, "bool": bool, "text": str, "varchar": str, "uuid": UUID,
    "timestamptz": datetime, "date": date, "text[]": (list, tuple), "int8[]": (list, tuple), "bytea": bytes,
}  # fmt: skip


def test_every_statement_is_used_and_every_use_exists():
    """A statement nobody asks for is dead, and a use of one that is missing fails at import."""
    assert set(statements.REGISTRY) == set(ALL)


@pytest.mark.parametrize(("file", "name"), ALL)
async def test_statement_is_what_its_header_says(file: str, name: str, database_url: str):
    """PostgreSQL's own parameter types equal the header's, and its columns equal the dataclass's fields."""
    statement = statements.REGISTRY[file, name]
    async with connect(database_url) as database, database.session() as session:
        parameters, columns = await session.describe(statement)
    types = {*parameters, *(type_name for _, type_name in columns)}
    assert not types & {"json", "jsonb"}, "goes through the codecs of an application's connection: make it json_text"
    assert parameters == [SYNONYMS.get(p.type, p.type) for p in statement.definition.parameters]
    if statement.row is None:
        return
    hints = get_type_hints(statement.row)
    assert [column for column, _ in columns] == [field.name for field in dataclasses.fields(statement.row)]
    for column, type_name in columns:
        assert _fits(hints[column], type_name), f"{column} is {type_name}, not {hints[column]}"


async def test_what_is_sent_is_the_same_statement(database_url: str):
    """Arrays that go as text, and values that the planner does not see, change neither its columns nor their types."""
    connection = await asyncpg.connect(database_url)
    try:
        for statement in statements.REGISTRY.values():
            written = await connection.prepare(statement.definition.text)
            sent = await connection.prepare(statement.definition.sent)
            assert sent.get_attributes() == written.get_attributes(), statement.definition.name
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int4[]", [1, None, -(2**31)]),
        ("int8[]", [2**62, 0]),
        ("int8[]", []),
        ("float8[]", [0.1, None, -1e300, float("inf")]),
        ("bool[]", [True, False, None]),
        ("timestamptz[]", [datetime(2026, 3, 29, 1, 30, 0, 5, tzinfo=ZoneInfo("Europe/Berlin")), None]),
        ("bytea[]", [b'\x00\xff\\"{},', b"", None]),
    ],
)
async def test_a_list_arrives_as_it_is(kind: str, values: list[Any], database_url: str):
    """Also where it goes as texts."""
    parameter = statements.Parameter(1, "values", kind)
    connection = await asyncpg.connect(database_url)
    try:
        text = f"SELECT {parameter.sent_as(hidden=True)}"
        assert await connection.fetchval(text, parameter.as_texts(values)) == values
    finally:
        await connection.close()


NOT_FOLLOWED = {
    # What takes any statement, and hands it and its values on.
    "database/session.py: self.rows(statement, …)",
    "database/pool.py: self.rows(statement, …)",
    "database/pool.py: Session(connection, self._target).rows(statement, …)",
    "database/pool.py: Session(connection, self._target).run(statement, …)",
    # What runs something else: an engine a phase, an event loop a command's work, a shell words.
    "commands/frame.py: asyncio.run(work, …)",
    "commands/frame.py: runner.run(work, …)",
    "commands/run.py: engine.run(phase, …)",
    "demo/story.py: engine.run(step.phase, …)",
    "embedded/server.py: subprocess.run(words, …)",
}


def test_every_call_gives_what_the_header_names():
    """A name that is missing, or one that the statement does not have, would fail when it runs."""
    sites, not_followed = call_sites()
    assert not_followed == NOT_FOLLOWED
    assert {
        (site.where, statement.definition.name): site.names
        for site in sites
        for statement in site.statements
        if site.names != {parameter.name for parameter in statement.definition.parameters}
    } == {}


def test_every_call_takes_what_the_statement_returns():
    """``many`` goes through ``rows``, ``one`` through ``row``, ``nothing`` through ``run``."""
    sites, _ = call_sites()
    executed = {
        (site.where, statement.definition.name, site.method, _method(statement.definition))
        for site in sites
        for statement in site.statements
    }
    assert [call for call in sorted(executed) if call[2] != call[3]] == []


def test_every_statement_is_executed_where_the_tree_shows_it():
    """Otherwise the two tests above would not see its calls."""
    sites, _ = call_sites()
    seen = {(statement.definition.file, statement.definition.name) for site in sites for statement in site.statements}
    assert seen == set(ALL)


def _method(definition: statements.Definition) -> str:
    if definition.returns == "nothing":
        return "run"
    return "rows" if definition.many else "row"


def _fits(hint: Any, type_name: str) -> bool:
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType] if _is_union(hint) else [hint]
    expected = PYTHON_TYPES[type_name]
    if type_name == "text" and all(_plain(kind) in {dict, list} for kind in kinds):
        return True  # JSON comes as text, whatever codecs a connection has
    return all(_plain(kind) in (expected if isinstance(expected, tuple) else (expected,)) for kind in kinds)


def _is_union(hint: Any) -> bool:
    return NoneType in get_args(hint)


def _plain(kind: Any) -> Any:
    return str if isinstance(kind, EnumType) else get_origin(kind) or kind
