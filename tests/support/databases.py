"""Databases of their own for whoever measures or torments the engine, on a server that is theirs."""

from __future__ import annotations

import psycopg

from alerts_engine import schema


def drop_database(server: str, name: str) -> None:
    """And have the server write what it still has to: nothing of it goes on beside what comes next."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute("CHECKPOINT")


def fresh_database(server: str, name: str, *, migrated: bool = True) -> str:
    """An empty database instead of any of that name; its URL."""
    drop_database(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = server.replace("/postgres?", f"/{name}?")
    if migrated:
        schema.apply(url)
    return url
