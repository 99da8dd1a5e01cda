-- transactional: false
--
-- What the new columns say about rows that were there before (SPEC DB-3). The legacy columns of these rows stay as they
-- are. account rows are the application's in-app feed: nothing about them changes.
--
-- The application goes on writing to these tables. So each row has a transaction of its own: nobody waits for more than
-- one row, and no two transactions can wait for each other. Its commit need not wait for the disk: what a crash takes
-- away is done again, since the migration is not noted before its end. Waiting for a row that the application holds
-- keeps nobody up, so it may take long.

-- The fingerprint is the cooldown_key. Where that is taken or not unique (half-way databases), the id makes it so.
DO $$
DECLARE
    nameless RECORD;
BEGIN
    FOR nameless IN
        SELECT
            event.id,
            CASE
                WHEN named.id IS NULL
                    AND row_number() OVER (PARTITION BY event.cooldown_key ORDER BY event.id) = 1
                THEN event.cooldown_key
                ELSE event.cooldown_key || '#' || event.id
            END AS fingerprint
        FROM alert_events AS event
        LEFT JOIN alert_events AS named ON named.event_fingerprint = event.cooldown_key
        WHERE event.event_fingerprint IS NULL
    LOOP
        SET LOCAL synchronous_commit = off;
        SET LOCAL lock_timeout = '15min';
        UPDATE alert_events
        SET event_fingerprint = nameless.fingerprint
        WHERE id = nameless.id AND event_fingerprint IS NULL;
        COMMIT;
    END LOOP;
END
$$;

-- An event that has deliveries was fanned out by the application; one without any still waits for its fan-out.
-- Where the column was there before us, whoever made it has decided.
DO $$
DECLARE
    delivered RECORD;
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'alert_events'::regclass
          AND attname = 'fanout_completed_at'
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    ) THEN
        RETURN;
    END IF;
    FOR delivered IN
        SELECT event.id
        -- One pass over the deliveries. EXISTS would look for each event's, in an index that has the event second.
        FROM (SELECT DISTINCT alert_event_id AS id FROM user_alert_deliveries) AS told
        JOIN alert_events AS event ON event.id = told.id
        WHERE event.fanout_completed_at IS NULL
    LOOP
        SET LOCAL synchronous_commit = off;
        SET LOCAL lock_timeout = '15min';
        UPDATE alert_events
        SET fanout_completed_at = coalesce(created_at AT TIME ZONE 'UTC', now())
        WHERE id = delivered.id AND fanout_completed_at IS NULL;
        COMMIT;
    END LOOP;
END
$$;

-- Columns that were added by hand without NOT NULL get what their default would have been. A row without status is due
-- for nobody, and stays so. Whoever was sending has no lease: it has expired, and whether the message left is uncertain
-- (SPEC C-11).
DO $$
DECLARE
    missing RECORD;
    found RECORD;
BEGIN
    FOR missing IN
        SELECT in_table, condition, value
        FROM (VALUES
            ('alert_events', 'fanout_position IS NULL', 'fanout_position = 0'),
            ('user_alert_deliveries', 'delivery_kind IS NULL', 'delivery_kind = ''instant'''),
            ('user_alert_deliveries', 'attempts IS NULL', 'attempts = 0'),
            ('user_alert_deliveries', 'status IS NULL', 'status = ''skipped'''),
            ('user_alert_digests', 'attempts IS NULL', 'attempts = 0'),
            ('user_alert_digests', 'status IS NULL', 'status = ''skipped''')
        ) AS columns (in_table, condition, value)
        UNION ALL
        SELECT
            in_table,
            'status = ''sending'' AND (claimed_by IS NULL OR lease_expires_at IS NULL)',
            'claimed_by = coalesce(claimed_by, ''before alerts-engine''), '
            'lease_expires_at = coalesce(lease_expires_at, now()), send_started_at = coalesce(send_started_at, now())'
        FROM (VALUES ('user_alert_deliveries'), ('user_alert_digests')) AS tables (in_table)
    LOOP
        FOR found IN EXECUTE format('SELECT id FROM %I WHERE %s', missing.in_table, missing.condition)
        LOOP
            SET LOCAL synchronous_commit = off;
            SET LOCAL lock_timeout = '15min';
            EXECUTE format(
                'UPDATE %I SET %s WHERE id = $1 AND %s', missing.in_table, missing.value, missing.condition
            ) USING found.id;
            COMMIT;
        END LOOP;
    END LOOP;
END
$$;

-- The history is small, and the application does not know it.
UPDATE alerts_engine_runs SET counts = '{}' WHERE counts IS NULL;
UPDATE alerts_engine_runs SET dry_run = FALSE WHERE dry_run IS NULL;
UPDATE alerts_engine_run_items SET counts = '{}' WHERE counts IS NULL;

-- A delivery is an item of one digest (SPEC DB-6). Where the UNIQUE was on the pair, it may stand in several: the item
-- in a digest that was sent is the true one, else the one in the oldest digest. The others go to
-- alerts_engine_replaced, as the SQL that a rollback puts them back with: nothing is lost.
WITH ranked AS (
    SELECT
        item.ctid AS place,
        to_jsonb(item) AS content,
        row_number() OVER (PARTITION BY item.delivery_id ORDER BY digest.status = 'sent' DESC, item.digest_id) AS nth
    FROM user_alert_digest_items AS item
    JOIN user_alert_digests AS digest ON digest.id = item.digest_id
),
surplus AS (
    DELETE FROM user_alert_digest_items AS item
    USING ranked
    WHERE item.ctid = ranked.place AND ranked.nth > 1
    RETURNING ranked.content
)
INSERT INTO alerts_engine_replaced (migration, restore_sql)
SELECT
    'existing_rows',
    format(
        'INSERT INTO user_alert_digest_items OVERRIDING SYSTEM VALUE '
        'SELECT * FROM jsonb_populate_record(NULL::user_alert_digest_items, %L) ON CONFLICT DO NOTHING',
        content
    )
FROM surplus
ON CONFLICT DO NOTHING;

-- What the deliveries of today and yesterday use of a quota. There are such only where the engine has run already and
-- its newer migrations were rolled back.
DO $$
DECLARE
    used RECORD;
BEGIN
    FOR used IN
        SELECT DISTINCT ON (user_id, channel)
            user_id, channel, quota_day, count(*) AS made, max(created_at)::TIMESTAMPTZ AS counted_at
        FROM user_alert_deliveries
        WHERE quota_day >= CURRENT_DATE - 1
        GROUP BY user_id, channel, quota_day
        ORDER BY user_id, channel, quota_day DESC
    LOOP
        SET LOCAL synchronous_commit = off;
        INSERT INTO user_alert_quotas (user_id, channel, quota_day, made, counted_at)
        SELECT users.id, used.channel, used.quota_day, used.made, used.counted_at
        FROM users
        WHERE users.id = used.user_id
        FOR KEY SHARE
        ON CONFLICT (user_id, channel) DO NOTHING;
        COMMIT;
    END LOOP;
END
$$;

-- A queued delivery of the application belongs to the application's own sender; sending it too would send it twice.
-- It is held, never due, until an operator sets next_retry_at to NULL. It comes last, so that the application's newest
-- rows are among these.
DO $$
DECLARE
    waiting RECORD;
BEGIN
    IF obj_description('user_alert_deliveries'::regclass, 'pg_class') IS NOT DISTINCT FROM 'created by alerts-engine'
       OR NOT EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = 'user_alert_deliveries'::regclass
          AND attname = 'next_retry_at'
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    ) THEN
        RETURN;
    END IF;
    FOR waiting IN
        SELECT id
        FROM user_alert_deliveries
        WHERE status = 'queued' AND channel <> 'account' AND next_retry_at IS NULL
    LOOP
        SET LOCAL synchronous_commit = off;
        SET LOCAL lock_timeout = '15min';
        UPDATE user_alert_deliveries
        SET next_retry_at = 'infinity'
        WHERE id = waiting.id AND status = 'queued' AND next_retry_at IS NULL;
        COMMIT;
    END LOOP;
END
$$;
