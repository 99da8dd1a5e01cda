-- Ending the life of what is finished (SPEC K-1). Each statement looks at the next rows by id and deletes those of them
-- that nothing needs any more; a row that somebody has locked is left for the next time.
--
-- Digests go first, and take their items along; then deliveries that are in no digest any more; then events without
-- deliveries. OFFSET 0 keeps a question about one row from becoming a join that reads the whole other table.
-- Rows of the application's in-app feed are its own: they stay, and so do their events.

-- name: begin_pruning
-- Nobody waits for a batch: it gives up where it takes too long, and is tried again with fewer rows.
--   $1 lock_patience text         such as 100ms
--   $2 patience      text         such as 1s
-- returns: nothing
SELECT set_config('lock_timeout', $1, TRUE),
       set_config('statement_timeout', $2, TRUE),
       set_config('jit', 'off', TRUE);

-- name: prune_digests
-- Digests that have ended, with their items.
--   $1 after  int8         the last id that was looked at
--   $2 most   int8         rows to look at
--   $3 before timestamptz
-- returns: PrunedPage, one
-- locks: the rows it deletes (skip locked)
-- again: safe; what is gone is gone
WITH page AS MATERIALIZED (
    SELECT g.id, g.created_at, g.status,
           greatest(g.created_at::timestamptz, g.window_end::timestamptz, g.sent_at::timestamptz) AS newest
      FROM user_alert_digests AS g
     WHERE g.id > $1
     ORDER BY g.id
     LIMIT $2
),
finished AS MATERIALIZED (
    SELECT g.id
      FROM user_alert_digests AS g
     WHERE g.id = ANY (ARRAY(SELECT p.id FROM page AS p WHERE p.newest < $3))
       AND g.status IN ('sent', 'failed', 'skipped')
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM user_alert_digests AS g
     WHERE g.id = ANY (ARRAY(SELECT f.id FROM finished AS f))
    RETURNING g.id
)
SELECT (SELECT max(p.id)::int8 FROM page AS p) AS last_id,
       (SELECT count(*) FROM page AS p WHERE p.created_at::timestamptz < $3) AS old,
       (SELECT count(*) FROM gone) AS pruned;

-- name: prune_deliveries
-- Deliveries that have ended, that no digest holds, whose event is fanned out (else it would be delivered again), and
-- that begin no cooldown any more, however long its preference makes it.
--   $1 after    int8         the last id that was looked at
--   $2 most     int8         rows to look at
--   $3 before   timestamptz
--   $4 now      timestamptz
--   $5 channels text[]       those of the engine
-- returns: PrunedPage, one
-- locks: the rows it deletes (skip locked)
-- again: safe; what is gone is gone
WITH page AS MATERIALIZED (
    SELECT d.id, d.user_id, d.alert_event_id, d.channel, d.status, d.created_at::timestamptz AS created_at,
           greatest(d.created_at::timestamptz, d.sent_at::timestamptz) AS newest
      FROM user_alert_deliveries AS d
     WHERE d.id > $1
     ORDER BY d.id
     LIMIT $2
),
old AS MATERIALIZED (
    SELECT p.*
      FROM page AS p
     WHERE p.newest < $3
       AND p.status IN ('sent', 'failed', 'skipped')
       AND p.channel = ANY ($5)
),
-- The longest of each user, whether its row is enabled now or not: only those that reach beyond what is pruned matter.
cooldowns AS MATERIALIZED (
    SELECT p.user_id, max(p.cooldown_minutes) AS minutes
      FROM user_alert_prefs AS p
     WHERE p.user_id = ANY (ARRAY(SELECT DISTINCT o.user_id FROM old AS o))
       AND make_interval(mins => p.cooldown_minutes) > $4 - $3
     GROUP BY p.user_id
),
unneeded AS MATERIALIZED (
    SELECT o.id
      FROM old AS o
      LEFT JOIN cooldowns AS c ON c.user_id = o.user_id
     WHERE (o.created_at > $4 - make_interval(mins => c.minutes)) IS NOT TRUE
       AND EXISTS (SELECT
                     FROM alert_events AS e
                    WHERE e.id = o.alert_event_id
                      AND e.fanout_completed_at IS NOT NULL
                   OFFSET 0)
       AND NOT EXISTS (SELECT FROM user_alert_digest_items AS i WHERE i.delivery_id = o.id OFFSET 0)
),
finished AS MATERIALIZED (
    SELECT d.id
      FROM user_alert_deliveries AS d
     WHERE d.id = ANY (ARRAY(SELECT u.id FROM unneeded AS u))
       AND d.status IN ('sent', 'failed', 'skipped')
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM user_alert_deliveries AS d
     WHERE d.id = ANY (ARRAY(SELECT f.id FROM finished AS f))
    RETURNING d.id
)
SELECT (SELECT max(p.id)::int8 FROM page AS p) AS last_id,
       (SELECT count(*) FROM page AS p WHERE p.created_at < $3) AS old,
       (SELECT count(*) FROM gone) AS pruned;

-- name: prune_events
-- Events that are fanned out, have no deliveries any more, and would not come again: a rule that still finds one would
-- create it again once its fingerprint is gone.
--   $1 after         int8         the last id that was looked at
--   $2 most          int8         rows to look at
--   $3 before        timestamptz
--   $4 fingerprints  text[]       what the rules find now
--   $5 cooldown_keys text[]       the same; they matter on a legacy database, where they are unique, too
-- returns: PrunedPage, one
-- locks: the rows it deletes (skip locked)
-- again: safe; what is gone is gone
WITH uniqueness AS MATERIALIZED (
    SELECT EXISTS (SELECT
                     FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = 'alert_events'::regclass
                      AND i.indisunique
                      AND i.indnkeyatts = 1
                      AND i.indpred IS NULL
                      AND a.attname = 'cooldown_key') AS of_cooldown_key
),
page AS MATERIALIZED (
    SELECT e.id, e.event_fingerprint, e.cooldown_key, e.created_at::timestamptz AS created_at,
           greatest(e.created_at::timestamptz, e.fanout_completed_at) AS newest, e.fanout_completed_at
      FROM alert_events AS e
     WHERE e.id > $1
     ORDER BY e.id
     LIMIT $2
),
unneeded AS MATERIALIZED (
    SELECT p.id
      FROM page AS p
     WHERE p.newest < $3
       AND p.fanout_completed_at IS NOT NULL
       AND p.event_fingerprint <> ALL ($4)
       AND (p.cooldown_key = ANY ($5) AND (SELECT u.of_cooldown_key FROM uniqueness AS u)) IS NOT TRUE
       -- In the order of the index, so that it is used: an event that has none would else cost a look at all of them.
       AND (SELECT d.user_id
              FROM user_alert_deliveries AS d
             WHERE d.alert_event_id = p.id
             ORDER BY d.user_id
             LIMIT 1) IS NULL
),
finished AS MATERIALIZED (
    SELECT e.id
      FROM alert_events AS e
     WHERE e.id = ANY (ARRAY(SELECT u.id FROM unneeded AS u))
       AND e.fanout_completed_at IS NOT NULL
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM alert_events AS e
     WHERE e.id = ANY (ARRAY(SELECT f.id FROM finished AS f))
    RETURNING e.id
)
SELECT (SELECT max(p.id)::int8 FROM page AS p) AS last_id,
       (SELECT count(*) FROM page AS p WHERE p.created_at < $3) AS old,
       (SELECT count(*) FROM gone) AS pruned;

-- name: prune_runs
-- Runs that have ended, with their phases.
--   $1 after  int8         the last id that was looked at
--   $2 most   int8         rows to look at
--   $3 before timestamptz
-- returns: PrunedPage, one
-- locks: the rows it deletes (skip locked)
-- again: safe; what is gone is gone
WITH page AS MATERIALIZED (
    SELECT r.id, r.started_at, greatest(r.started_at, r.finished_at) AS newest
      FROM alerts_engine_runs AS r
     WHERE r.id > $1
     ORDER BY r.id
     LIMIT $2
),
finished AS MATERIALIZED (
    SELECT r.id
      FROM alerts_engine_runs AS r
     WHERE r.id = ANY (ARRAY(SELECT p.id FROM page AS p WHERE p.newest < $3))
       AND r.status <> 'running'
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM alerts_engine_runs AS r
     WHERE r.id = ANY (ARRAY(SELECT f.id FROM finished AS f))
    RETURNING r.id
)
SELECT (SELECT max(p.id)::int8 FROM page AS p) AS last_id,
       (SELECT count(*) FROM page AS p WHERE p.started_at < $3) AS old,
       (SELECT count(*) FROM gone) AS pruned;
