-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS user_alert_digests_new_idx;
