-- A migration that takes a constraint, an index, a default or a row away writes the SQL that brings it back here, so
-- that a rollback gives an existing database exactly what it had, whatever the names were.

CREATE TABLE IF NOT EXISTS alerts_engine_replaced (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration TEXT NOT NULL,
    restore_sql TEXT NOT NULL UNIQUE
);

COMMENT ON TABLE alerts_engine_replaced IS 'created by alerts-engine';
