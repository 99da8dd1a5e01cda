"""Connections, transactions and named binding: nothing else speaks to PostgreSQL (DESIGN section 1)."""

from alerts_engine.database.pool import (
    Connection,
    Database,
    Executor,
    Pool,
    Row,
    Selection,
    Session,
    clock,
    connect,
    database_now,
    or_terminate,
    statements_under_way,
)

__all__ = [
    "Connection",
    "Database",
    "Executor",
    "Pool",
    "Row",
    "Selection",
    "Session",
    "clock",
    "connect",
    "database_now",
    "or_terminate",
    "statements_under_way",
]
