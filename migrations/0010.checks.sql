-- The states of a row, as far as SQL can say them (SPEC DB-7). NOT VALID: new rows are checked from now on, old ones in
-- 0015, so that no lock waits for a scan.

-- What old CHECKs say about these columns contradicts the engine, whatever their names: rules bring new alert types,
-- "sending" is a status. They are remembered for the rollback.
DO $$
DECLARE
    old RECORD;
BEGIN
    FOR old IN
        SELECT con.conrelid::regclass AS on_table, con.conname AS name, pg_get_constraintdef(con.oid) AS definition
        FROM pg_constraint AS con
        JOIN pg_attribute AS col ON col.attrelid = con.conrelid AND ARRAY[col.attnum] = con.conkey
        WHERE con.contype = 'c'
          AND obj_description(con.oid, 'pg_constraint') IS DISTINCT FROM 'created by alerts-engine'
          AND (con.conrelid, col.attname) IN (
            ('alert_events'::regclass, 'alert_type'),
            ('user_alert_deliveries'::regclass, 'channel'),
            ('user_alert_deliveries'::regclass, 'status'),
            ('user_alert_deliveries'::regclass, 'delivery_kind'),
            ('user_alert_deliveries'::regclass, 'failure_kind'),
            ('user_alert_digests'::regclass, 'channel'),
            ('user_alert_digests'::regclass, 'period'),
            ('user_alert_digests'::regclass, 'status'),
            ('user_alert_digests'::regclass, 'failure_kind'),
            ('alerts_engine_runs'::regclass, 'triggered_by'),
            ('alerts_engine_runs'::regclass, 'phase'),
            ('alerts_engine_runs'::regclass, 'status'),
            ('alerts_engine_run_items'::regclass, 'phase'),
            ('alerts_engine_run_items'::regclass, 'status')
        )
    LOOP
        INSERT INTO alerts_engine_replaced (migration, restore_sql)
        VALUES ('0010', format('ALTER TABLE %s ADD CONSTRAINT %I %s', old.on_table, old.name, old.definition))
        ON CONFLICT DO NOTHING;
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', old.on_table, old.name);
    END LOOP;
END
$$;

DO $$
DECLARE
    wanted RECORD;
    sent_has_time TEXT := '(status = ''sent'') = (sent_at IS NOT NULL)';
    sending_has_lease TEXT := 'status <> ''sending'' OR (claimed_by IS NOT NULL AND lease_expires_at IS NOT NULL)';
    status_known TEXT := 'status IN (''queued'', ''sending'', ''sent'', ''failed'', ''skipped'')';
    -- account rows are the application's, and so is every row that fills neither of the fan-out's two columns.
    deliveries_sent_has_time TEXT := 'channel = ''account'' OR ' || sent_has_time;
BEGIN
    -- An application that was seen to write "sent" without a time goes on doing so; only the engine's rows are held
    -- to the rule there.
    IF EXISTS (
        SELECT FROM user_alert_deliveries WHERE channel <> 'account' AND (status = 'sent') <> (sent_at IS NOT NULL)
    ) THEN
        deliveries_sent_has_time :=
            '(quota_day IS NULL AND delivery_kind = ''instant'') OR ' || deliveries_sent_has_time;
    END IF;

    FOR wanted IN
        SELECT *
        FROM (VALUES
            ('user_alert_deliveries', 'channel_known', 'channel IN (''email'', ''telegram'', ''sms'', ''account'')'),
            ('user_alert_deliveries', 'kind_known', 'delivery_kind IN (''instant'', ''digest'')'),
            ('user_alert_deliveries', 'status_known', status_known),
            ('user_alert_deliveries', 'failure_kind_known', 'failure_kind IN (''transient'', ''permanent'')'),
            ('user_alert_deliveries', 'attempts_counted', 'attempts >= 0'),
            ('user_alert_deliveries', 'sending_has_lease', sending_has_lease),
            ('user_alert_deliveries', 'sent_has_time', deliveries_sent_has_time),
            ('user_alert_digests', 'channel_known', 'channel IN (''email'', ''telegram'')'),
            ('user_alert_digests', 'period_known', 'period IN (''daily'', ''hourly'')'),
            ('user_alert_digests', 'window_forward', 'window_end > window_start'),
            ('user_alert_digests', 'status_known', status_known),
            ('user_alert_digests', 'failure_kind_known', 'failure_kind IN (''transient'', ''permanent'')'),
            ('user_alert_digests', 'attempts_counted', 'attempts >= 0'),
            ('user_alert_digests', 'sending_has_lease', sending_has_lease),
            ('user_alert_digests', 'sent_has_time', sent_has_time),
            ('alerts_engine_runs', 'status_known', 'status IN (''running'', ''success'', ''failed'', ''skipped'')'),
            ('alerts_engine_run_items', 'status_known',
                'status IN (''running'', ''success'', ''failed'', ''skipped'')'),
            -- These become NOT NULL once they are validated: that way needs no scan under a lock.
            ('alert_events', 'event_fingerprint_present', 'event_fingerprint IS NOT NULL'),
            ('alert_events', 'fanout_position_present', 'fanout_position IS NOT NULL'),
            ('user_alert_deliveries', 'delivery_kind_present', 'delivery_kind IS NOT NULL'),
            ('user_alert_deliveries', 'status_present', 'status IS NOT NULL'),
            ('user_alert_deliveries', 'attempts_present', 'attempts IS NOT NULL'),
            ('user_alert_digests', 'status_present', 'status IS NOT NULL'),
            ('user_alert_digests', 'attempts_present', 'attempts IS NOT NULL')
        ) AS checks (on_table, name, condition)
    LOOP
        wanted.name := wanted.on_table || '_' || wanted.name;
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_constraint WHERE conrelid = wanted.on_table::regclass AND conname = wanted.name
        );
        EXECUTE format(
            'ALTER TABLE %I ADD CONSTRAINT %I CHECK (%s) NOT VALID', wanted.on_table, wanted.name, wanted.condition
        );
        EXECUTE format(
            'COMMENT ON CONSTRAINT %I ON %I IS ''created by alerts-engine''', wanted.name, wanted.on_table
        );
    END LOOP;
END
$$;
