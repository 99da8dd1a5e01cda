-- What the new columns say about rows that were there before (SPEC DB-3). The legacy columns of these rows stay as they
-- are. account rows are the application's in-app feed: nothing about them changes.

-- The fingerprint is the cooldown_key. Where that is taken or not unique (half-way databases), the id makes it so.
UPDATE alert_events
SET event_fingerprint = CASE
        WHEN nameless.nth = 1 AND NOT nameless.taken THEN nameless.cooldown_key
        ELSE nameless.cooldown_key || '#' || nameless.id
    END
FROM (
    SELECT
        event.id,
        event.cooldown_key,
        row_number() OVER (PARTITION BY event.cooldown_key ORDER BY event.id) AS nth,
        named.id IS NOT NULL AS taken
    FROM alert_events AS event
    LEFT JOIN alert_events AS named ON named.event_fingerprint = event.cooldown_key
    WHERE event.event_fingerprint IS NULL
) AS nameless
WHERE alert_events.id = nameless.id;

-- An event that has deliveries was fanned out by the application; one without any still waits for its fan-out.
-- Where the column was there before us, whoever made it has decided.
DO $$
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'alert_events'::regclass
          AND attname = 'fanout_completed_at'
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    ) THEN
        UPDATE alert_events
        SET fanout_completed_at = coalesce(created_at AT TIME ZONE 'UTC', now())
        WHERE fanout_completed_at IS NULL
          AND EXISTS (SELECT FROM user_alert_deliveries WHERE alert_event_id = alert_events.id);
    END IF;
END
$$;

-- A queued delivery of the application belongs to the application's own sender; sending it too would send it twice.
-- It is held, never due, until an operator sets next_retry_at to NULL.
DO $$
BEGIN
    IF obj_description('user_alert_deliveries'::regclass, 'pg_class') IS DISTINCT FROM 'created by alerts-engine'
       AND EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'user_alert_deliveries'::regclass
          AND attname = 'next_retry_at'
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    ) THEN
        UPDATE user_alert_deliveries
        SET next_retry_at = 'infinity'
        WHERE status = 'queued' AND channel <> 'account' AND next_retry_at IS NULL;
    END IF;
END
$$;

-- Columns that were added by hand without NOT NULL get what their default would have been.
UPDATE alert_events SET fanout_position = 0 WHERE fanout_position IS NULL;
UPDATE user_alert_deliveries SET delivery_kind = 'instant' WHERE delivery_kind IS NULL;
UPDATE user_alert_deliveries SET attempts = 0 WHERE attempts IS NULL;
UPDATE user_alert_digests SET attempts = 0 WHERE attempts IS NULL;
UPDATE alerts_engine_runs SET counts = '{}' WHERE counts IS NULL;
UPDATE alerts_engine_runs SET dry_run = FALSE WHERE dry_run IS NULL;
UPDATE alerts_engine_run_items SET counts = '{}' WHERE counts IS NULL;

-- A delivery without status is due for nobody: it stays so.
UPDATE user_alert_deliveries SET status = 'skipped' WHERE status IS NULL;
UPDATE user_alert_digests SET status = 'skipped' WHERE status IS NULL;

-- Whoever was sending these has no lease: it has run out, and whether the message left is uncertain (SPEC C-11).
UPDATE user_alert_deliveries
SET claimed_by = coalesce(claimed_by, 'before alerts-engine'),
    lease_expires_at = coalesce(lease_expires_at, now()),
    send_started_at = coalesce(send_started_at, now())
WHERE status = 'sending' AND (claimed_by IS NULL OR lease_expires_at IS NULL);
UPDATE user_alert_digests
SET claimed_by = coalesce(claimed_by, 'before alerts-engine'),
    lease_expires_at = coalesce(lease_expires_at, now()),
    send_started_at = coalesce(send_started_at, now())
WHERE status = 'sending' AND (claimed_by IS NULL OR lease_expires_at IS NULL);
