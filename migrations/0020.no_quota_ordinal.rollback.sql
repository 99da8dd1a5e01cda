-- The ordinals of days that still count are given anew, in the order in which the deliveries were made.

DO $$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'user_alert_deliveries'::regclass AND attname = 'quota_ordinal' AND NOT attisdropped
    ) THEN
        ALTER TABLE user_alert_deliveries ADD COLUMN quota_ordinal INT;
        COMMENT ON COLUMN user_alert_deliveries.quota_ordinal IS
            'alerts-engine: the how-manieth instant delivery of its user, channel and quota_day';
    END IF;
END
$$;

UPDATE user_alert_deliveries AS delivery
SET quota_ordinal = numbered.ordinal
FROM (
    SELECT id, row_number() OVER (PARTITION BY user_id, channel, quota_day ORDER BY id) AS ordinal
    FROM user_alert_deliveries
    WHERE quota_day >= CURRENT_DATE - 1
) AS numbered
WHERE delivery.id = numbered.id;
