-- Taking up again what failed, or what was skipped for want of credentials (SPEC O-5). Such a row keeps its error, so
-- that everybody sees why it is tried again, and so that no digest that was tried once gets other items (D-5). It leaves
-- the counters of what is done (O-4a), and counts in its day's quota again (B-7), which is counted from the rows.

-- name: retry_failed_deliveries
-- also: retry_failed_digests for user_alert_digests
-- Queue a batch of one channel's failed rows again: those that another try can help.
--   $1 channel        text
--   $2 since          timestamptz   failed since
--   $3 max_attempts   int4
--   $4 reset_attempts bool          also those that used up their attempts: they begin at none
--   $5 cause          text          NULL: all
--   $6 never_twice    bool          ALERTS_UNCERTAIN_SEND=fail: not what may have been accepted
--   $7 batch          int8
-- returns: RetriedRows, many
-- locks: the rows (skip locked)
-- again: safe; what is queued has not failed
WITH failed AS MATERIALIZED (
    SELECT r.id, r.ended_at, r.attempts > 1 AS retried
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.channel = $1
       AND r.status = 'failed'
       AND r.ended_at >= $2
       AND r.failure_kind = 'transient'
       AND (r.attempts < $3 OR $4)
       AND ($5::text IS NULL OR r.last_error = $5)
       AND NOT ($6 AND r.last_error = 'send_uncertain')
     ORDER BY r.ended_at, r.id
     LIMIT $7
       FOR UPDATE SKIP LOCKED
),
queued AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = 'queued', next_retry_at = NULL, attempts = CASE WHEN $4 THEN 0 ELSE r.attempts END,
           failed_before = f.ended_at, ended_at = NULL, claimed_by = NULL
      FROM failed AS f
     WHERE r.id = f.id
    RETURNING r.channel, r.last_error, f.ended_at, f.retried
              , r.delivery_kind AS kind  -- there: , 'digest' AS kind
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made, undone)
    SELECT date_trunc('hour', q.ended_at, 'UTC'),
           'deliveries',  -- there: 'digests',
           q.channel, q.kind, 'failed', q.retried, 0, count(*)
      FROM queued AS q
     GROUP BY 1, q.channel, q.kind, q.retried
)
SELECT q.channel, coalesce(q.last_error, 'unknown') AS cause, count(*) AS count
  FROM queued AS q
 GROUP BY q.channel, coalesce(q.last_error, 'unknown');

-- name: would_retry_deliveries
-- also: would_retry_digests for user_alert_digests
-- What retry_failed_deliveries would queue.
--   $1 channel        text
--   $2 since          timestamptz
--   $3 max_attempts   int4
--   $4 reset_attempts bool
--   $5 cause          text
--   $6 never_twice    bool
-- returns: RetriedRows, many
-- again: safe; reads only
SELECT r.channel, coalesce(r.last_error, 'unknown') AS cause, count(*) AS count
  FROM /* TABLE */ user_alert_deliveries AS r
 WHERE r.channel = $1
   AND r.status = 'failed'
   AND r.ended_at >= $2
   AND r.failure_kind = 'transient'
   AND (r.attempts < $3 OR $4)
   AND ($5::text IS NULL OR r.last_error = $5)
   AND NOT ($6 AND r.last_error = 'send_uncertain')
 GROUP BY r.channel, coalesce(r.last_error, 'unknown');

-- name: retry_unconfigured_deliveries
-- also: retry_unconfigured_digests for user_alert_digests
-- Queue a batch of what was skipped since the channel had no credentials, where the event is young enough to be of use; a
-- digest is young enough while its newest event is.
--   $1 channel        text
--   $2 since          timestamptz   the event was created since
--   $3 reset_attempts bool
--   $4 batch          int8
-- returns: RetriedRows, many
-- locks: the rows (skip locked)
-- again: safe; what is queued is not skipped
WITH skipped AS MATERIALIZED (
    SELECT r.id, r.ended_at, r.attempts > 1 AS retried
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.channel = $1
       AND r.status = 'skipped'
       AND r.last_error = 'channel_not_configured'
       AND r.ended_at >= $2
       AND EXISTS (SELECT
                     FROM alert_events AS e WHERE e.id = r.alert_event_id  -- there: FROM user_alert_digest_items AS i JOIN user_alert_deliveries AS d ON d.id = i.delivery_id JOIN alert_events AS e ON e.id = d.alert_event_id WHERE i.digest_id = r.id
                      AND e.created_at::timestamptz >= $2
                   OFFSET 0)
     ORDER BY r.ended_at, r.id
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
queued AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = 'queued', next_retry_at = NULL, attempts = CASE WHEN $3 THEN 0 ELSE r.attempts END, ended_at = NULL,
           claimed_by = NULL
      FROM skipped AS s
     WHERE r.id = s.id
    RETURNING r.channel, r.last_error, s.ended_at, s.retried
              , r.delivery_kind AS kind  -- there: , 'digest' AS kind
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made, undone)
    SELECT date_trunc('hour', q.ended_at, 'UTC'),
           'deliveries',  -- there: 'digests',
           q.channel, q.kind, 'skipped', q.retried, 0, count(*)
      FROM queued AS q
     GROUP BY 1, q.channel, q.kind, q.retried
)
SELECT q.channel, q.last_error AS cause, count(*) AS count
  FROM queued AS q
 GROUP BY q.channel, q.last_error;

-- name: would_retry_unconfigured_deliveries
-- also: would_retry_unconfigured_digests for user_alert_digests
-- What retry_unconfigured_deliveries would queue.
--   $1 channel text
--   $2 since   timestamptz
-- returns: RetriedRows, many
-- again: safe; reads only
SELECT r.channel, r.last_error AS cause, count(*) AS count
  FROM /* TABLE */ user_alert_deliveries AS r
 WHERE r.channel = $1
   AND r.status = 'skipped'
   AND r.last_error = 'channel_not_configured'
   AND r.ended_at >= $2
   AND EXISTS (SELECT
                 FROM alert_events AS e WHERE e.id = r.alert_event_id  -- there: FROM user_alert_digest_items AS i JOIN user_alert_deliveries AS d ON d.id = i.delivery_id JOIN alert_events AS e ON e.id = d.alert_event_id WHERE i.digest_id = r.id
                  AND e.created_at::timestamptz >= $2
               OFFSET 0)
 GROUP BY r.channel, r.last_error;
