-- What the engine needs to know about events and deliveries beyond the legacy shape (SPEC DB-6).
-- Every default is a constant, so that no table is rewritten. A column that is there already keeps its type.
-- The comment on a column remembers that we added it: the rollback drops exactly those.

DO $$
DECLARE
    wanted RECORD;
BEGIN
    FOR wanted IN
        SELECT *
        FROM (VALUES
            ('alert_events', 'event_fingerprint', 'TEXT', 'the event''s identity'),
            ('alert_events', 'payload', 'JSONB', 'numbers behind the alert; payload.value is the risk score'),
            ('alert_events', 'fanout_completed_at', 'TIMESTAMPTZ', 'every delivery of the event has been made'),
            ('alert_events', 'fanout_position', 'BIGINT NOT NULL DEFAULT 0',
                'users with an id up to this one have been fanned out: a large fan-out resumes here'),
            ('user_alert_deliveries', 'delivery_kind', 'TEXT NOT NULL DEFAULT ''instant''', 'instant or digest'),
            ('user_alert_deliveries', 'attempts', 'INT NOT NULL DEFAULT 0', 'failed attempts to send'),
            ('user_alert_deliveries', 'next_retry_at', 'TIMESTAMPTZ',
                'not due before; infinity holds a row of the application until an operator sets NULL'),
            ('user_alert_deliveries', 'last_error', 'TEXT', 'a code, never a text of a provider'),
            ('user_alert_deliveries', 'failure_kind', 'TEXT', 'transient or permanent'),
            ('user_alert_deliveries', 'claimed_by', 'TEXT', 'the run that leased the row'),
            ('user_alert_deliveries', 'lease_expires_at', 'TIMESTAMPTZ', 'after this the row is reclaimed'),
            ('user_alert_deliveries', 'send_started_at', 'TIMESTAMPTZ',
                'the send began: whether the message left is uncertain if the lease runs out'),
            ('user_alert_deliveries', 'quota_day', 'DATE',
                'the local day whose quota it counts in; NULL for rows that the fan-out did not write'),
            ('user_alert_deliveries', 'quota_ordinal', 'INT',
                'the how-manieth instant delivery of its user, channel and quota_day')
        ) AS columns (in_table, name, definition, meaning)
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT
            FROM pg_attribute
            WHERE attrelid = wanted.in_table::regclass AND attname = wanted.name AND NOT attisdropped
        );
        EXECUTE format('ALTER TABLE %I ADD COLUMN %I %s', wanted.in_table, wanted.name, wanted.definition);
        EXECUTE format(
            'COMMENT ON COLUMN %I.%I IS %L', wanted.in_table, wanted.name, 'alerts-engine: ' || wanted.meaning
        );
    END LOOP;
END
$$;

-- Where somebody added these by hand, the default may be missing.
ALTER TABLE alert_events
    ALTER COLUMN fanout_position SET DEFAULT 0;
ALTER TABLE user_alert_deliveries
    ALTER COLUMN delivery_kind SET DEFAULT 'instant',
    ALTER COLUMN attempts SET DEFAULT 0,
    ALTER COLUMN status SET DEFAULT 'queued';
