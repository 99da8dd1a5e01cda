"""From a record of asyncpg to the dataclass that a statement names as its row."""

from __future__ import annotations

import dataclasses
import json
from enum import EnumType
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@cache
def row_maker(row: Any) -> Callable[[Any], Any]:
    """A function from an asyncpg record to the dataclass ``row``, by column name."""
    if row is None:
        raise TypeError("a statement that returns nothing has no rows: use run()")
    hints = get_type_hints(row)
    fields = [(field.name, _converter(hints[field.name])) for field in dataclasses.fields(row)]

    def make(record: Any) -> Any:
        return row(*[record[name] if convert is None else convert(record[name]) for name, convert in fields])

    return make


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    for kind in _alternatives(hint):
        plain = get_origin(kind) or kind
        if isinstance(plain, EnumType) or plain is tuple:
            return lambda value: None if value is None else plain(value)
        if plain in {dict, list}:
            return parsed
    return None


def parsed(value: Any) -> Any:
    """JSON as values. Statements return it as text, so that a connection's codecs do not matter."""
    return json.loads(value) if isinstance(value, str) else value


def _alternatives(hint: Any) -> Iterator[Any]:
    yield from (kind for kind in get_args(hint) if kind is not NoneType) if isinstance(hint, UnionType) else [hint]
