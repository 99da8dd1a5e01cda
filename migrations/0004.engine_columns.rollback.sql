-- The legacy shape cannot say "digest": what waits for one would look like a message to send now, so it is skipped.
UPDATE user_alert_deliveries
SET status = 'skipped'
WHERE status = 'queued' AND delivery_kind = 'digest';

DO $$
DECLARE
    added RECORD;
BEGIN
    FOR added IN
        SELECT attrelid::regclass AS in_table, attname AS name
        FROM pg_attribute
        WHERE attrelid IN ('alert_events'::regclass, 'user_alert_deliveries'::regclass)
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', added.in_table, added.name);
    END LOOP;
END
$$;
