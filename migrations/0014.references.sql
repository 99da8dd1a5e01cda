-- A user, a digest or a run that is deleted takes what belongs to it along: a reference made by hand without CASCADE
-- would keep the application from deleting a user, a missing one would leave orphans. Tables made by us have these.
-- NOT VALID: the next migration holds the old rows against them.

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
            SELECT conname AS name, pg_get_constraintdef(oid) AS definition
            FROM pg_constraint
            WHERE contype = 'f' AND conrelid = wanted.on_table AND conkey = wanted.key AND confdeltype <> 'c'
        LOOP
            INSERT INTO alerts_engine_replaced (migration, restore_sql)
            VALUES ('0014', format('ALTER TABLE %s ADD CONSTRAINT %I %s', wanted.on_table, old.name, old.definition))
            ON CONFLICT DO NOTHING;
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', wanted.on_table, old.name);
        END LOOP;

        CONTINUE WHEN EXISTS (
            SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = wanted.on_table AND conkey = wanted.key
        );
        EXECUTE format(
            'ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s ON DELETE CASCADE NOT VALID',
            wanted.on_table, wanted.name, wanted.column_name, wanted.target
        );
        EXECUTE format(
            'COMMENT ON CONSTRAINT %I ON %s IS ''created by alerts-engine''', wanted.name, wanted.on_table
        );
    END LOOP;
END
$$;
