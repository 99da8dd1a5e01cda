-- The application's table stays with all its rows, without the columns and defaults that we gave it. Its shape cannot
-- say "digest": what waits for one would look like a message to send now, so it is skipped, before any lock.

DO $$
BEGIN
    IF obj_description(to_regclass('user_alert_deliveries'), 'pg_class') IS DISTINCT FROM 'created by alerts-engine'
    THEN
        UPDATE user_alert_deliveries
        SET status = 'skipped'
        WHERE status = 'queued' AND delivery_kind = 'digest';
    END IF;
END
$$;

DO $$
DECLARE
    added RECORD;
    replaced RECORD;
BEGIN
    IF obj_description(to_regclass('user_alert_deliveries'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_alert_deliveries;
        RETURN;
    END IF;
    FOR added IN
        SELECT attname AS name
        FROM pg_attribute
        WHERE attrelid = to_regclass('user_alert_deliveries')
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE user_alert_deliveries DROP COLUMN %I', added.name);
    END LOOP;
    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = 'deliveries' RETURNING restore_sql
    LOOP
        EXECUTE replaced.restore_sql;
    END LOOP;
END
$$;
