-- transactional: false
--
-- Digests that were not tried yet, in the order in which they are claimed: as for deliveries.

-- Building waits for transactions that began earlier. That holds up nobody, so it may take long.
SET lock_timeout = '15min';

-- A build that was killed leaves an index that is never used and that IF NOT EXISTS would take for the real one.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('user_alert_digests_new_idx')) THEN
        DROP INDEX user_alert_digests_new_idx;
    END IF;
END
$$;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_new_idx
    ON user_alert_digests (channel, created_at, id)
    WHERE status = 'queued' AND next_retry_at IS NULL;
