-- transactional: false
--
-- What waits to be asked about: nearly always nothing.

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_uncertain_idx
    ON user_alert_deliveries (channel, next_retry_at, id)
    WHERE status = 'queued' AND uncertain_since IS NOT NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_uncertain_idx
    ON user_alert_digests (channel, next_retry_at, id)
    WHERE status = 'queued' AND uncertain_since IS NOT NULL;
