-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS user_alert_digests_uncertain_idx;
DROP INDEX CONCURRENTLY IF EXISTS user_alert_deliveries_uncertain_idx;
