-- Trying a rule: which of its events are there already (SPEC A-1, A-3, A-4). Reads only.

-- name: known_events
-- Of the events found, those that an insert would leave alone: by fingerprint, or by a legacy unique cooldown key.
--   $1 event_fingerprints text[]
--   $2 cooldown_keys      text[]       of the same events
-- returns: KnownEvent, many
-- again: safe; reads only
WITH uniqueness AS MATERIALIZED (
    SELECT EXISTS (SELECT
                     FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = 'alert_events'::regclass
                      AND i.indisunique
                      AND i.indnkeyatts = 1
                      AND i.indpred IS NULL
                      AND a.attname = 'cooldown_key') AS of_cooldown_key
)
SELECT f.event_fingerprint, e.id::int8 AS id
  FROM unnest($1::text[], $2::text[]) AS f(event_fingerprint, cooldown_key)
 CROSS JOIN uniqueness AS u
 CROSS JOIN LATERAL (
       SELECT known.id
         FROM (SELECT a.id, 1 AS place FROM alert_events AS a WHERE a.event_fingerprint = f.event_fingerprint
                UNION ALL
               SELECT a.id, 2 FROM alert_events AS a WHERE u.of_cooldown_key AND a.cooldown_key = f.cooldown_key
              ) AS known
        ORDER BY known.place
        LIMIT 1
       ) AS e;
