-- Publishing in an application's own transaction, and what is said of an event that nobody can get (SPEC I-1, I-2).

-- name: events_table
-- Where the engine's own connections find the events.
-- returns: EventsTable, one
-- limit: 20 s
SELECT c.oid::int8 AS number, quote_ident(n.nspname) AS schema
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = 'alert_events'::regclass;

-- name: find_events_table
-- Let the rest of the transaction find that table first, where the session would find another one or none.
--   $1 number int8
--   $2 schema text
-- returns: Found, one
-- limit: 20 s
SELECT clock_timestamp() AS now,
       -- Clones of a database have the same numbers, another server's tables other ones.
       coalesce(to_regclass($2 || '.alert_events')::oid::int8 = $1, FALSE) AS is_there,
       s.search_path AS search_path_before,
       CASE WHEN to_regclass('alert_events')::oid::int8 IS DISTINCT FROM $1
            THEN set_config('search_path', concat_ws(', ', $2, nullif(s.search_path, '')), TRUE)
       END AS search_path
  FROM (SELECT current_setting('search_path') AS search_path) AS s;

-- name: restore_search_path
--   $1 search_path text
-- returns: nothing
-- limit: 20 s
SELECT set_config('search_path', $1, TRUE);

-- name: unknown_words
-- Which words of new events keep them from everybody, or from all but those who asked for everything.
-- Only the newest preferences are looked at: they are a table that grows, and a new word comes with a new row.
--   $1 alert_types text[]
--   $2 regions     text[]
--   $3 assets      text[]
--   $4 built_in    json_text  [{plan, alert_types}, …]
--   $5 most        int8       preferences to look at
-- returns: UnknownWord, many
-- limit: 20 s
-- again: safe; reads only
WITH preferences AS MATERIALIZED (
    SELECT newest.alert_type, lower(btrim(newest.region)) AS region, lower(newest.asset) AS asset, newest.enabled
      FROM (SELECT p.alert_type, p.region, p.asset, p.enabled
              FROM user_alert_prefs AS p
             ORDER BY p.id DESC
             LIMIT $5) AS newest
),
wanted AS (
    SELECT DISTINCT p.alert_type, p.region, p.asset FROM preferences AS p WHERE p.enabled
     UNION ALL
    -- What a user without any preference gets (SPEC B-4).
    SELECT 'HIGH_IMPACT_EVENT', 'europe', NULL
),
allowed AS (
    SELECT unnest(s.allowed_alert_types) AS alert_type FROM plan_settings AS s WHERE s.is_active IS NOT FALSE
     UNION
    SELECT unnest(b.alert_types)
      FROM jsonb_to_recordset($4::text::jsonb) AS b(plan text, alert_types text[])
     WHERE b.plan NOT IN (SELECT s.plan_code FROM plan_settings AS s WHERE s.is_active IS NOT FALSE)
)
SELECT word.unknown_to, word.word, (SELECT count(*) FROM preferences) AS looked_at
  FROM (SELECT 'plans' AS unknown_to, t.word
          FROM unnest($1::text[]) AS t(word)
         WHERE NOT EXISTS (SELECT FROM allowed AS a WHERE a.alert_type IN (t.word, 'ALL'))
         UNION ALL
        SELECT 'preferences_for_type', t.word
          FROM unnest($1::text[]) AS t(word)
         WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.alert_type = t.word)
         UNION ALL
        SELECT 'preferences_for_region', r.word
          FROM unnest($2::text[]) AS r(word)
         WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.region = lower(btrim(r.word)))
         UNION ALL
        SELECT 'preferences_for_asset', a.word
          FROM unnest($3::text[]) AS a(word)
         WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.asset = lower(a.word))) AS word
 ORDER BY word.unknown_to, word.word;
