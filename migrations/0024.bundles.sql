-- transactional: false
--
-- Bundles are digests of a third period (SPEC D-7). The CHECK that knows it takes the place of the other without a scan
-- under the lock, and is then held against the rows.

DO $$
BEGIN
    ALTER TABLE user_alert_digests
        DROP CONSTRAINT IF EXISTS user_alert_digests_period_known,
        ADD CONSTRAINT user_alert_digests_period_known
            CHECK (period IN ('daily', 'hourly', 'burst')) NOT VALID;
    COMMENT ON CONSTRAINT user_alert_digests_period_known ON user_alert_digests IS 'created by alerts-engine';
END
$$;

DO $$
BEGIN
    ALTER TABLE user_alert_digests VALIDATE CONSTRAINT user_alert_digests_period_known;
END
$$;

-- What was put into a bundle is skipped, but gives nothing back of its quota: it is not in this index any more, and the
-- index is as small as before.
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_given_back_idx
    ON user_alert_deliveries (quota_day, user_id, channel)
    WHERE quota_day IS NOT NULL AND status IN ('failed', 'skipped')
        AND last_error IS DISTINCT FROM 'batched_into_digest';

DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_freed_idx;
