DROP FUNCTION IF EXISTS alert_reasons(BIGINT, BIGINT []);

DO $$
DECLARE
    added RECORD;
BEGIN
    FOR added IN
        SELECT attrelid::regclass::text AS in_table, attname AS name
        FROM pg_attribute
        WHERE attrelid IN (to_regclass('user_alert_deliveries'), to_regclass('user_alert_digests'))
          AND attname = 'reasons'
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', added.in_table, added.name);
    END LOOP;

    FOR added IN
        SELECT made.name
        FROM (VALUES ('user_alert_stops'), ('alert_consents')) AS made (name)
        WHERE obj_description(to_regclass(made.name), 'pg_class') = 'created by alerts-engine'
    LOOP
        EXECUTE format('DROP TABLE %I', added.name);
    END LOOP;
END
$$;
