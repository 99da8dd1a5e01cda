-- Tables that were made by hand stay, without the columns and defaults that we gave them.

DO $$
DECLARE
    added RECORD;
    replaced RECORD;
BEGIN
    IF obj_description(to_regclass('user_alert_digest_items'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_alert_digest_items;
    END IF;
    IF obj_description(to_regclass('user_alert_digests'), 'pg_class') = 'created by alerts-engine' THEN
        -- With it go the references of an items table that was made by hand.
        DROP TABLE user_alert_digests CASCADE;
        RETURN;
    END IF;
    FOR added IN
        SELECT attname AS name
        FROM pg_attribute
        WHERE attrelid = to_regclass('user_alert_digests')
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE user_alert_digests DROP COLUMN %I', added.name);
    END LOOP;
    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = 'digests' RETURNING restore_sql
    LOOP
        EXECUTE replaced.restore_sql;
    END LOOP;
END
$$;
