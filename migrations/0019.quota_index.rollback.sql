-- transactional: false

SET lock_timeout = '15min';

DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('user_alert_deliveries_quota_idx')
    ) THEN
        DROP INDEX user_alert_deliveries_quota_idx;
    END IF;
END
$$;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_quota_idx
    ON user_alert_deliveries (user_id, channel, quota_day, quota_ordinal);

DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_user_idx;
