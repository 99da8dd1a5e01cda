-- transactional: false
--
-- The deliveries of a user, by channel and day. Without the ordinal all of a day have one key, which PostgreSQL stores
-- once: a fifth of the size, which every event writes to. Built while the application goes on writing.

-- Building waits for transactions that began earlier. That holds up nobody, so it may take long.
SET lock_timeout = '15min';

-- A build that was killed leaves an index that is never used and that IF NOT EXISTS would take for the real one.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('user_alert_deliveries_user_idx')
    ) THEN
        DROP INDEX user_alert_deliveries_user_idx;
    END IF;
END
$$;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_user_idx
    ON user_alert_deliveries (user_id, channel, quota_day);

DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_quota_idx;
