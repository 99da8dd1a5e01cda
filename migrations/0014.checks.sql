-- transactional: false
--
-- The states of a row, as far as SQL can say them (SPEC DB-7). NOT VALID: new rows are checked from now on, old ones in
-- 0016, so that no lock waits for a scan. Each table has a transaction of its own, which holds its lock for a moment.
--
-- What old CHECKs say about these columns contradicts the engine, whatever their names: rules bring new alert types,
-- "sending" is a status. They are remembered for the rollback.

DO $$
DECLARE
    guarded TEXT;
    old RECORD;
    wanted RECORD;
    sent_has_time TEXT := '(status = ''sent'') = (sent_at IS NOT NULL)';
    sending_has_lease TEXT := 'status <> ''sending'' OR (claimed_by IS NOT NULL AND lease_expires_at IS NOT NULL)';
    status_known TEXT := 'status IN (''queued'', ''sending'', ''sent'', ''failed'', ''skipped'')';
    -- account rows are the application's, and so is every row that fills neither of the fan-out's two columns.
    deliveries_sent_has_time TEXT := 'channel = ''account'' OR ' || sent_has_time;
BEGIN
    -- An application that was seen to write "sent" without a time goes on doing so; only the engine's rows are held
    -- to the rule there. Looking reads every delivery, so it comes before any lock.
    IF EXISTS (
        SELECT FROM user_alert_deliveries WHERE channel <> 'account' AND (status = 'sent') <> (sent_at IS NOT NULL)
    ) THEN
        deliveries_sent_has_time :=
            '(quota_day IS NULL AND delivery_kind = ''instant'') OR ' || deliveries_sent_has_time;
    END IF;
    COMMIT;

    FOREACH guarded IN ARRAY ARRAY[
        'alert_events', 'user_alert_deliveries', 'user_alert_digests', 'alerts_engine_runs', 'alerts_engine_run_items'
    ]
    LOOP
        FOR old IN
            SELECT con.conname AS name, pg_get_constraintdef(con.oid) AS definition, con.convalidated AS validated
            FROM pg_constraint AS con
            JOIN pg_attribute AS col ON col.attrelid = con.conrelid AND ARRAY[col.attnum] = con.conkey
            WHERE con.conrelid = guarded::regclass
              AND con.contype = 'c'
              AND obj_description(con.oid, 'pg_constraint') IS DISTINCT FROM 'created by alerts-engine'
              AND (guarded, col.attname) IN (
                ('alert_events', 'alert_type'),
                ('user_alert_deliveries', 'channel'),
                ('user_alert_deliveries', 'status'),
                ('user_alert_deliveries', 'delivery_kind'),
                ('user_alert_deliveries', 'failure_kind'),
                ('user_alert_digests', 'channel'),
                ('user_alert_digests', 'period'),
                ('user_alert_digests', 'status'),
                ('user_alert_digests', 'failure_kind'),
                ('alerts_engine_runs', 'triggered_by'),
                ('alerts_engine_runs', 'phase'),
                ('alerts_engine_runs', 'status'),
                ('alerts_engine_run_items', 'phase'),
                ('alerts_engine_run_items', 'status')
            )
        LOOP
            -- It comes back as it goes: without a scan under a lock, then validated if it was.
            INSERT INTO alerts_engine_replaced (migration, restore_sql)
            SELECT 'checks', restore_sql
            FROM (VALUES
                (format('ALTER TABLE %I ADD CONSTRAINT %I %s%s', guarded, old.name, old.definition,
                    CASE WHEN old.validated THEN ' NOT VALID' ELSE '' END), TRUE),
                (format('ALTER TABLE %I VALIDATE CONSTRAINT %I', guarded, old.name), old.validated)
            ) AS steps (restore_sql, needed)
            WHERE needed
            ON CONFLICT DO NOTHING;
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', guarded, old.name);
        END LOOP;

        FOR wanted IN
            SELECT guarded || '_' || name AS name, condition
            FROM (VALUES
                ('user_alert_deliveries', 'channel_known',
                    'channel IN (''email'', ''telegram'', ''sms'', ''account'') OR channel LIKE ''%.%'''),
                ('user_alert_deliveries', 'kind_known', 'delivery_kind IN (''instant'', ''digest'')'),
                ('user_alert_deliveries', 'status_known', status_known),
                ('user_alert_deliveries', 'failure_kind_known', 'failure_kind IN (''transient'', ''permanent'')'),
                ('user_alert_deliveries', 'attempts_counted', 'attempts >= 0'),
                ('user_alert_deliveries', 'sending_has_lease', sending_has_lease),
                ('user_alert_deliveries', 'sent_has_time', deliveries_sent_has_time),
                ('user_alert_digests', 'channel_known', 'channel IN (''email'', ''telegram'') OR channel LIKE ''%.%'''),
                ('user_alert_digests', 'period_known', 'period IN (''daily'', ''hourly'')'),
                ('user_alert_digests', 'window_forward', 'window_end > window_start'),
                ('user_alert_digests', 'status_known', status_known),
                ('user_alert_digests', 'failure_kind_known', 'failure_kind IN (''transient'', ''permanent'')'),
                ('user_alert_digests', 'attempts_counted', 'attempts >= 0'),
                ('user_alert_digests', 'sending_has_lease', sending_has_lease),
                ('user_alert_digests', 'sent_has_time', sent_has_time),
                ('alerts_engine_runs', 'status_known',
                    'status IN (''running'', ''success'', ''failed'', ''skipped'')'),
                ('alerts_engine_run_items', 'status_known',
                    'status IN (''running'', ''success'', ''failed'', ''skipped'')')
            ) AS checks (on_table, name, condition)
            WHERE on_table = guarded
        LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_constraint WHERE conrelid = guarded::regclass AND conname = wanted.name
            );
            EXECUTE format(
                'ALTER TABLE %I ADD CONSTRAINT %I CHECK (%s) NOT VALID', guarded, wanted.name, wanted.condition
            );
            EXECUTE format('COMMENT ON CONSTRAINT %I ON %I IS ''created by alerts-engine''', wanted.name, guarded);
        END LOOP;

        -- These columns become NOT NULL in 0016, with these CHECKs as the proof: that needs no scan under a lock.
        FOR wanted IN
            SELECT col.attname AS column_name, guarded || '_' || col.attname || '_present' AS name
            FROM (VALUES
                ('alert_events', 'event_fingerprint'),
                ('alert_events', 'fanout_position'),
                ('user_alert_deliveries', 'delivery_kind'),
                ('user_alert_deliveries', 'status'),
                ('user_alert_deliveries', 'attempts'),
                ('user_alert_digests', 'status'),
                ('user_alert_digests', 'attempts')
            ) AS required (on_table, name)
            JOIN pg_attribute AS col ON col.attrelid = guarded::regclass AND col.attname = required.name
            WHERE required.on_table = guarded AND NOT col.attnotnull
        LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_constraint WHERE conrelid = guarded::regclass AND conname = wanted.name
            );
            INSERT INTO alerts_engine_replaced (migration, restore_sql)
            VALUES ('checks', format('ALTER TABLE %I ALTER COLUMN %I DROP NOT NULL', guarded, wanted.column_name))
            ON CONFLICT DO NOTHING;
            EXECUTE format(
                'ALTER TABLE %I ADD CONSTRAINT %I CHECK (%I IS NOT NULL) NOT VALID',
                guarded, wanted.name, wanted.column_name
            );
            EXECUTE format('COMMENT ON CONSTRAINT %I ON %I IS ''created by alerts-engine''', wanted.name, guarded);
        END LOOP;
        COMMIT;
    END LOOP;
END
$$;
