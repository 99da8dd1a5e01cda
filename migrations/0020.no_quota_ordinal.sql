-- user_alert_quotas knows what the newest ordinal of a day said. A column that somebody else made stays.

DO $$
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'user_alert_deliveries'::regclass
          AND attname = 'quota_ordinal'
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    ) THEN
        ALTER TABLE user_alert_deliveries DROP COLUMN quota_ordinal;
    END IF;
END
$$;
