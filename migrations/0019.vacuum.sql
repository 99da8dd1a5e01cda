-- Dead rows are cleaned away when they are a hundredth of the table, not a fifth: a row is updated three times on its
-- way, and of a table with years of history a fifth is a week of dead rows at the head of each index. What somebody has
-- set already stays.

DO $$
DECLARE
    missing RECORD;
BEGIN
    FOR missing IN
        SELECT tables.name AS on_table, options.name AS option
        FROM (VALUES ('user_alert_deliveries'), ('user_alert_digests')) AS tables (name)
        CROSS JOIN (VALUES
            ('autovacuum_vacuum_scale_factor'),
            ('autovacuum_analyze_scale_factor')
        ) AS options (name)
        WHERE NOT EXISTS (
            SELECT FROM pg_class AS class
            CROSS JOIN LATERAL pg_options_to_table(class.reloptions) AS present
            WHERE class.oid = tables.name::regclass AND present.option_name = options.name
        )
    LOOP
        INSERT INTO alerts_engine_replaced (migration, restore_sql)
        VALUES ('vacuum', format('ALTER TABLE %s RESET (%I)', missing.on_table, missing.option))
        ON CONFLICT DO NOTHING;
        EXECUTE format('ALTER TABLE %s SET (%I = 0.01)', missing.on_table, missing.option);
    END LOOP;
END
$$;
