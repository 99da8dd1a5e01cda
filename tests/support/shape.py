"""Looks at a database from outside: its tables' shape and rows, and the databases that a migration may find."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from alerts_engine import schema
from alerts_engine.statements import folder
from tests.support import legacy

ALL = sorted(path.stem for path in folder("migrations").glob("*.sql") if not path.stem.endswith(".rollback"))
EVERYTHING = tuple(name for name in legacy.HALF_WAY if not name.startswith("unique") and "constraint" not in name)
STARTS = {"empty": None, "legacy": (), **{name: (name,) for name in legacy.HALF_WAY}, "everything": EVERYTHING}
"""The databases that migrate may find: nothing, the application's, and the application's with steps done by hand."""

COLUMNS = """
    SELECT cls.relname, att.attname, format_type(att.atttypid, att.atttypmod), att.attnotnull,
           pg_get_expr(def.adbin, def.adrelid)
    FROM pg_attribute AS att
    JOIN pg_class AS cls ON cls.oid = att.attrelid AND cls.relkind = 'r'
    LEFT JOIN pg_attrdef AS def ON def.adrelid = att.attrelid AND def.adnum = att.attnum
    WHERE cls.relnamespace = 'public'::regnamespace AND cls.relname NOT LIKE '%yoyo%'
      AND att.attnum > 0 AND NOT att.attisdropped
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE '%yoyo%' AND contype <> 'n'
"""
INDEXES = """
    SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid
    FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relnamespace = 'public'::regnamespace AND indrelid::regclass::text NOT LIKE '%yoyo%'
"""
TRIGGERS = "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"
FUNCTIONS = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"


def make(url: str, start: str) -> None:
    """Make one of ``STARTS``."""
    steps = STARTS[start]
    if steps is not None:
        legacy.create(url, steps)


def migrated(url: str, start: str) -> str:
    """Make one of ``STARTS`` and apply every migration."""
    make(url, start)
    schema.apply(url)
    return url


def rows(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Execute one statement in a transaction of its own; what it returns, if it returns rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def wait_until(url: str, query: str, *values: object, found: bool = True) -> None:
    """Wait until the query finds something, or nothing."""
    give_up_at = time.monotonic() + 60
    while bool(rows(url, query, *values)) != found:
        assert time.monotonic() < give_up_at, query
        time.sleep(0.02)


def shape(url: str) -> dict[str, set[tuple[Any, ...]]]:
    """Everything about the tables but their rows."""
    queries = {
        "columns": COLUMNS,
        "constraints": CONSTRAINTS,
        "indexes": INDEXES,
        "triggers": TRIGGERS,
        "functions": FUNCTIONS,
    }
    return {name: set(rows(url, query)) for name, query in queries.items()}


def contents(url: str, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each table, in the given columns, as text."""
    return {
        table: rows(url, f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {table} ORDER BY id")
        for table, names in columns.items()
    }


def columns_of(url: str, *tables: str) -> dict[str, list[str]]:
    """The names of each table's columns."""
    return {table: [name for in_table, name, *_ in sorted(rows(url, COLUMNS)) if in_table == table] for table in tables}
