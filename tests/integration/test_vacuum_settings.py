"""The tables whose rows are updated on their way are cleaned early, unless somebody has decided otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine import schema
from tests.support import legacy
from tests.support.world import prepared

if TYPE_CHECKING:
    import psycopg

OPTIONS = """
SELECT c.relname || '.' || o.option_name AS name, o.option_value AS value
  FROM pg_class AS c CROSS JOIN LATERAL pg_options_to_table(c.reloptions) AS o
 WHERE c.relname LIKE 'user_alert_d%' AND c.relkind = 'r'
"""
EARLY = {
    f"{table}.autovacuum_{work}_scale_factor": "0.01"
    for table in ("user_alert_deliveries", "user_alert_digests")
    for work in ("vacuum", "analyze")
}


def options(db: psycopg.Connection) -> dict[str, str]:
    return {row.name: row.value for row in db.execute(OPTIONS)}


def test_dead_rows_are_cleaned_early(postgresql: psycopg.Connection):
    """A hundredth of the table, not a fifth (SPEC K-2)."""
    assert options(prepared(postgresql)) == EARLY


def test_what_the_application_has_set_stays_and_comes_back(bare_postgresql: psycopg.Connection, bare_database_url: str):
    """Migrating, and undoing it (SPEC DB-3)."""
    db = prepared(bare_postgresql)
    legacy.create(bare_database_url)
    db.execute("ALTER TABLE user_alert_deliveries SET (autovacuum_vacuum_scale_factor = 0.5, fillfactor = 90)")
    own = options(db)
    schema.apply(bare_database_url)
    assert options(db) == EARLY | own
    schema.rollback(bare_database_url)
    assert options(db) == own
