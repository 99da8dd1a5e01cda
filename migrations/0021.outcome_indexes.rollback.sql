DROP INDEX CONCURRENTLY IF EXISTS alerts_engine_run_items_newest_idx;
DROP INDEX CONCURRENTLY IF EXISTS user_alert_digests_unconfigured_idx;
DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_unconfigured_idx;
DROP INDEX CONCURRENTLY IF EXISTS user_alert_digests_failed_idx;
DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_failed_idx;
