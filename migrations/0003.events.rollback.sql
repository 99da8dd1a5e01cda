-- The application's table stays with all its rows, without the columns and defaults that we gave it.

DROP TRIGGER IF EXISTS alerts_engine_fingerprint ON alert_events;
DROP FUNCTION IF EXISTS alerts_engine_fingerprint_from_cooldown_key();

DO $$
DECLARE
    added RECORD;
    replaced RECORD;
BEGIN
    IF obj_description(to_regclass('alert_events'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE alert_events;
        RETURN;
    END IF;
    FOR added IN
        SELECT attname AS name
        FROM pg_attribute
        WHERE attrelid = to_regclass('alert_events')
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE alert_events DROP COLUMN %I', added.name);
    END LOOP;
    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = 'events' RETURNING restore_sql
    LOOP
        EXECUTE replaced.restore_sql;
    END LOOP;
END
$$;
