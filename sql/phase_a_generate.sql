-- Phase A: what the rules found becomes global alert events (SPEC section 5). The rules themselves are in rules/.

-- name: begin_rule
-- From here to the end of the savepoint nothing can be written, and no statement takes longer: a rule is a SELECT.
--   $1 patience text           such as 60s
-- returns: nothing
SELECT set_config('transaction_read_only', 'on', TRUE),
       set_config('statement_timeout', $1, TRUE);

-- name: insert_events
-- Insert what one rule found; what is known already, by fingerprint or by a legacy unique cooldown key, is left alone.
-- A row of another session that comes in between by the cooldown key makes this fail: then it must be run again.
--   $1 events jsonb
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
      FROM jsonb_to_recordset($1)
           AS e(alert_type text, scope_region text, scope_assets text[], severity int4, headline text, body text,
                driver_event_ids int4[], cooldown_key text, event_fingerprint text, payload jsonb)
),
unknown AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.cooldown_key ORDER BY f.place) AS turn
      FROM found AS f
     WHERE NOT EXISTS (SELECT FROM alert_events AS known WHERE known.event_fingerprint = f.event_fingerprint)
       AND NOT EXISTS (SELECT
                         FROM alert_events AS known
                        WHERE known.cooldown_key = f.cooldown_key
                          AND (SELECT of_cooldown_key FROM uniqueness))
)
INSERT INTO alert_events (alert_type, scope_region, scope_assets, severity, headline, body,
                          driver_event_ids, cooldown_key, event_fingerprint, payload, created_at)
SELECT e.alert_type, e.scope_region, e.scope_assets, e.severity, e.headline, e.body,
       e.driver_event_ids, e.cooldown_key, e.event_fingerprint, e.payload, $2::timestamptz
  FROM unknown AS e
 CROSS JOIN uniqueness AS u
 WHERE e.turn = 1
    OR NOT u.of_cooldown_key
 ORDER BY e.place
    ON CONFLICT (event_fingerprint) DO NOTHING
RETURNING id::int8 AS id, event_fingerprint;

-- name: event_by_fingerprint
-- The event that already has this identity.
--   $1 event_fingerprint text
--   $2 cooldown_key      text
-- returns: InsertedEvent, many
-- again: safe; reads only
SELECT e.id::int8 AS id, e.event_fingerprint
  FROM alert_events AS e
 WHERE e.event_fingerprint = $1
    OR e.cooldown_key = $2
 ORDER BY (e.event_fingerprint = $1) DESC, e.id
 LIMIT 1;
