-- transactional: false
--
-- A user, a digest or a run that is deleted takes what belongs to it along: a reference made by hand without CASCADE
-- would keep the application from deleting a user, a missing one would leave orphans. Tables made by us have these.
-- NOT VALID: the next migration holds the old rows against them. Each reference has a transaction of its own.

DO $$
DECLARE
    wanted RECORD;
    old RECORD;
BEGIN
    FOR wanted IN
        SELECT
            belonging.on_table::regclass AS on_table,
            belonging.column_name,
            belonging.target,
            belonging.on_table || '_' || belonging.column_name || '_cascade' AS name,
            ARRAY[att.attnum] AS key
        FROM (VALUES
            ('user_alert_digests', 'user_id', 'users (id)'),
            ('user_alert_digest_items', 'digest_id', 'user_alert_digests (id)'),
            ('user_alert_digest_items', 'delivery_id', 'user_alert_deliveries (id)'),
            ('user_notification_settings', 'user_id', 'users (id)'),
            ('user_channel_preferences', 'user_id', 'users (id)'),
            ('alerts_engine_run_items', 'run_id', 'alerts_engine_runs (run_id)')
        ) AS belonging (on_table, column_name, target)
        JOIN pg_attribute AS att
            ON att.attrelid = belonging.on_table::regclass AND att.attname = belonging.column_name
    LOOP
        FOR old IN
            SELECT conname AS name, pg_get_constraintdef(oid) AS definition, convalidated AS validated
            FROM pg_constraint
            WHERE contype = 'f' AND conrelid = wanted.on_table AND conkey = wanted.key AND confdeltype <> 'c'
        LOOP
            -- It comes back as it goes: without a scan under a lock, then validated if it was.
            INSERT INTO alerts_engine_replaced (migration, restore_sql)
            SELECT 'references', restore_sql
            FROM (VALUES
                (format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', wanted.on_table, old.name, old.definition,
                    CASE WHEN old.validated THEN ' NOT VALID' ELSE '' END), TRUE),
                (format('ALTER TABLE %s VALIDATE CONSTRAINT %I', wanted.on_table, old.name), old.validated)
            ) AS steps (restore_sql, needed)
            WHERE needed
            ON CONFLICT DO NOTHING;
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', wanted.on_table, old.name);
        END LOOP;

        IF NOT EXISTS (
            SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = wanted.on_table AND conkey = wanted.key
        ) THEN
            EXECUTE format(
                'ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s ON DELETE CASCADE NOT VALID',
                wanted.on_table, wanted.name, wanted.column_name, wanted.target
            );
            EXECUTE format(
                'COMMENT ON CONSTRAINT %I ON %s IS ''created by alerts-engine''', wanted.name, wanted.on_table
            );
        END IF;
        COMMIT;
    END LOOP;
END
$$;
