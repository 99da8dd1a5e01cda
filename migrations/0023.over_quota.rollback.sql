DO $$
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = to_regclass('user_alert_deliveries')
          AND attname = 'over_quota'
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    ) THEN
        ALTER TABLE user_alert_deliveries DROP COLUMN over_quota;
    END IF;
END
$$;
