-- transactional: false
--
-- What makes a repeated run harmless: one event per fingerprint, one delivery per event, user, channel and kind
-- (SPEC DB-6). Built while the application goes on writing; tables made by us have the last three already.

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS alert_events_event_fingerprint_key
    ON alert_events (event_fingerprint);

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_once_key
    ON user_alert_deliveries (alert_event_id, user_id, channel, delivery_kind);

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_digest_key_key
    ON user_alert_digests (digest_key);

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digest_items_delivery_id_key
    ON user_alert_digest_items (delivery_id);

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS alerts_engine_runs_run_id_key
    ON alerts_engine_runs (run_id);
