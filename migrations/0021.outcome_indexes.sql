-- transactional: false
--
-- What is wrong now, by when it went wrong: few rows of many (SPEC O-5, O-6). They are far apart in the table, so what
-- failures counts by stands in the index.

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_failed_idx
    ON user_alert_deliveries (channel, ended_at, id) INCLUDE (user_id, last_error, failure_kind)
    WHERE status = 'failed';

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_failed_idx
    ON user_alert_digests (channel, ended_at, id) INCLUDE (user_id, last_error, failure_kind)
    WHERE status = 'failed';

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_unconfigured_idx
    ON user_alert_deliveries (channel, ended_at, id)
    WHERE status = 'skipped' AND last_error = 'channel_not_configured';

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_unconfigured_idx
    ON user_alert_digests (channel, ended_at, id)
    WHERE status = 'skipped' AND last_error = 'channel_not_configured';

-- How a phase ended the last time, and when it last succeeded, however long the history is. The time stands there as an
-- expression because the planner would else take the index on the time alone, and read all of it where a phase never
-- ended so.
CREATE INDEX CONCURRENTLY IF NOT EXISTS alerts_engine_run_items_newest_idx
    ON alerts_engine_run_items (phase, status, (started_at AT TIME ZONE 'UTC') DESC);
