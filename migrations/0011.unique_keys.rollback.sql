-- Each row of a SELECT is executed as a statement of its own. What is part of a constraint was not built by this
-- migration, and stays.
SELECT format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
FROM pg_index
WHERE indexrelid IN (
    to_regclass('alert_events_event_fingerprint_key'),
    to_regclass('user_alert_deliveries_once_key'),
    to_regclass('user_alert_digests_digest_key_key'),
    to_regclass('user_alert_digest_items_delivery_id_key'),
    to_regclass('alerts_engine_runs_run_id_key')
)
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid);
