"""Connections, transactions and named binding: nothing else speaks to PostgreSQL (DESIGN section 1)."""

from alerts_engine.database.lending import or_terminate
from alerts_engine.database.pool import Connection, Database, Pool, clock, connect, database_now
from alerts_engine.database.session import Executor, Row, Selection, Session, statements_under_way

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
