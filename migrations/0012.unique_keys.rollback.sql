-- What is part of a constraint was not built by this migration, and stays.

DO $$
DECLARE
    ours RECORD;
BEGIN
    FOR ours IN
        SELECT indexrelid::regclass AS name
        FROM pg_index
        WHERE indexrelid IN (
            to_regclass('alert_events_event_fingerprint_key'),
            to_regclass('user_alert_deliveries_once_key'),
            to_regclass('user_alert_digests_digest_key_key'),
            to_regclass('user_alert_digest_items_delivery_id_key'),
            to_regclass('alerts_engine_runs_run_id_key')
        )
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    LOOP
        EXECUTE format('DROP INDEX %s', ours.name);
    END LOOP;
END
$$;
