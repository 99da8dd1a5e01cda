DO $$
DECLARE
    made RECORD;
    added RECORD;
BEGIN
    FOR made IN
        SELECT to_regclass(name) AS place
        FROM (VALUES ('alerts_engine_attempts'), ('alerts_engine_outcomes')) AS tables (name)
        WHERE obj_description(to_regclass(name), 'pg_class') = 'created by alerts-engine'
    LOOP
        EXECUTE format('DROP TABLE %s', made.place);
    END LOOP;
    FOR added IN
        SELECT attrelid::regclass::text AS in_table, attname AS name
        FROM pg_attribute
        WHERE attrelid IN (
            to_regclass('user_alert_deliveries'), to_regclass('user_alert_digests'), to_regclass('alerts_engine_runs')
        )
          AND attname IN ('ended_at', 'failed_before', 'host', 'pid', 'at_phase')
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', added.in_table, added.name);
    END LOOP;
END
$$;
