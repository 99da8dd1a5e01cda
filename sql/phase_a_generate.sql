-- Phase A: what the rules found becomes global alert events (SPEC section 5). The rules themselves are in rules/.

-- name: begin_rule
-- From here to the end of the savepoint nothing can be written, and no statement takes longer: a rule is a SELECT.
--   $1 patience text           such as 60s
-- returns: nothing
SELECT set_config('transaction_read_only', 'on', TRUE),
       set_config('statement_timeout', $1, TRUE);

-- name: insert_events
-- Insert new events: what is known already, by fingerprint or by a legacy unique cooldown key, is left alone.
-- A row of another session that comes in between has no id here, or makes this fail (by the cooldown key): then this
-- must be run again. Nothing here depends on the session's time zone or codecs: it may be an application's (SPEC I-1).
--   $1 events json_text
--   $2 now    timestamptz
-- returns: InsertedEvent, many
-- limit: 60 s
-- again: safe; the unique keys make the second time a no-op
WITH uniqueness AS MATERIALIZED (
    -- ON CONFLICT names one key, and without a name it would take a collision of ids for a known event.
    SELECT EXISTS (SELECT
                     FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = 'alert_events'::regclass
                      AND i.indisunique
                      AND i.indnkeyatts = 1
                      AND i.indpred IS NULL
                      AND a.attname = 'cooldown_key') AS of_cooldown_key
),
found AS MATERIALIZED (
    SELECT e.*, row_number() OVER () AS place
      FROM jsonb_to_recordset($1::text::jsonb)
           AS e(alert_type text, scope_region text, scope_assets text[], severity int4, headline text, body text,
                driver_event_ids int4[], cooldown_key text, event_fingerprint text, payload jsonb)
),
looked_up AS MATERIALIZED (
    SELECT f.*, u.of_cooldown_key,
           coalesce((SELECT known.id FROM alert_events AS known WHERE known.event_fingerprint = f.event_fingerprint),
                    CASE WHEN u.of_cooldown_key
                         THEN (SELECT known.id FROM alert_events AS known WHERE known.cooldown_key = f.cooldown_key)
                    END) AS known_id
      FROM found AS f
     CROSS JOIN uniqueness AS u
),
unknown AS (
    SELECT l.*, row_number() OVER (PARTITION BY l.cooldown_key ORDER BY l.place) AS turn
      FROM looked_up AS l
     WHERE l.known_id IS NULL
),
inserted AS (
    INSERT INTO alert_events (alert_type, scope_region, scope_assets, severity, headline, body,
                              driver_event_ids, cooldown_key, event_fingerprint, payload, created_at)
    SELECT e.alert_type, e.scope_region, e.scope_assets, e.severity, e.headline, e.body,
           e.driver_event_ids, e.cooldown_key, e.event_fingerprint, e.payload, $2::timestamptz AT TIME ZONE 'UTC'
      FROM unknown AS e
     WHERE e.turn = 1
        OR NOT e.of_cooldown_key
     ORDER BY e.place
        ON CONFLICT (event_fingerprint) DO NOTHING
    RETURNING id, event_fingerprint, cooldown_key
)
SELECT coalesce(l.known_id, same.id, earlier.id)::int8 AS id,
       same.id IS NOT NULL AND row_number() OVER (PARTITION BY same.id ORDER BY l.place) = 1 AS is_new
  FROM looked_up AS l
  LEFT JOIN inserted AS same ON same.event_fingerprint = l.event_fingerprint
  LEFT JOIN inserted AS earlier ON earlier.cooldown_key = CASE WHEN l.of_cooldown_key THEN l.cooldown_key END
 ORDER BY l.place;
