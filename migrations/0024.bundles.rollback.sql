CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_freed_idx
    ON user_alert_deliveries (quota_day, user_id, channel)
    WHERE quota_day IS NOT NULL AND status IN ('failed', 'skipped');

DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_given_back_idx;

-- What knows no bundles takes them for hourly digests, which their messages are like.
UPDATE user_alert_digests SET period = 'hourly' WHERE period = 'burst';

DO $$
BEGIN
    ALTER TABLE user_alert_digests
        DROP CONSTRAINT IF EXISTS user_alert_digests_period_known,
        ADD CONSTRAINT user_alert_digests_period_known CHECK (period IN ('daily', 'hourly')) NOT VALID;
    COMMENT ON CONSTRAINT user_alert_digests_period_known ON user_alert_digests IS 'created by alerts-engine';
END
$$;

DO $$
BEGIN
    ALTER TABLE user_alert_digests VALIDATE CONSTRAINT user_alert_digests_period_known;
END
$$;
