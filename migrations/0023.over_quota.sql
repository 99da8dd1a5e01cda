-- Alerts that a quota refused as instant, and that went into the digest instead (SPEC B-7). No default, so no table is
-- rewritten and a row without it is no larger. A column that is there already keeps its type.

DO $$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'user_alert_deliveries'::regclass AND attname = 'over_quota' AND NOT attisdropped
    ) THEN
        ALTER TABLE user_alert_deliveries ADD COLUMN over_quota BOOLEAN;
        COMMENT ON COLUMN user_alert_deliveries.over_quota IS
            'alerts-engine: TRUE: an instant alert over the day''s quota, moved to the digest';
    END IF;
END
$$;
