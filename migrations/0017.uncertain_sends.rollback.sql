DO $$
DECLARE
    added RECORD;
BEGIN
    FOR added IN
        SELECT attrelid::regclass::text AS in_table, attname AS name
        FROM pg_attribute
        WHERE attrelid IN (to_regclass('user_alert_deliveries'), to_regclass('user_alert_digests'))
          AND attname IN ('uncertain_since', 'key_used_at', 'sent_by', 'body_digest')
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', added.in_table, added.name);
    END LOOP;
END
$$;
