-- Tables that were made by hand stay, without the columns that we added.

DO $$
DECLARE
    added RECORD;
BEGIN
    IF obj_description('user_alert_digest_items'::regclass, 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_alert_digest_items;
    END IF;
    IF obj_description('user_alert_digests'::regclass, 'pg_class') = 'created by alerts-engine' THEN
        -- With it go the references of an items table that was made by hand.
        DROP TABLE user_alert_digests CASCADE;
        RETURN;
    END IF;
    FOR added IN
        SELECT attname AS name
        FROM pg_attribute
        WHERE attrelid = 'user_alert_digests'::regclass
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE user_alert_digests DROP COLUMN %I', added.name);
    END LOOP;
END
$$;
