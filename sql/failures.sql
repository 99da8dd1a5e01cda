-- What is wrong now, by cause (SPEC O-6): what failed or was skipped for want of credentials within the hours, and
-- whatever waits for another attempt or for an answer, however old. Reads only; each part has its partial index.

-- name: failure_causes
-- One row a cause. Since when: of the oldest row, its first attempt that was no success.
--   $1 channels text[]
--   $2 since    timestamptz
--   $3 cause    text         NULL: all
-- returns: CauseRow, many
-- limit: 60 s
-- again: safe; reads only
WITH wrong AS (
    SELECT 'delivery' AS kind, d.id, d.user_id, d.channel, d.last_error AS code,
           CASE d.failure_kind WHEN 'transient' THEN 'exhausted' ELSE 'permanent' END AS state, d.ended_at AS moment
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1) AND d.status = 'failed' AND d.ended_at >= $2
     UNION ALL
    SELECT 'delivery', d.id, d.user_id, d.channel, d.last_error, 'not_configured', d.ended_at
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1) AND d.status = 'skipped' AND d.last_error = 'channel_not_configured'
       AND d.ended_at >= $2
     UNION ALL
    SELECT 'delivery', d.id, d.user_id, d.channel, d.last_error,
           CASE WHEN d.uncertain_since IS NULL THEN 'waiting' ELSE 'uncertain' END,
           coalesce(d.uncertain_since, d.send_started_at, d.created_at::timestamptz)
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1) AND d.status = 'queued' AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NOT NULL AND d.next_retry_at < 'infinity' AND d.last_error IS NOT NULL
     UNION ALL
    SELECT 'digest', g.id, g.user_id, g.channel, g.last_error,
           CASE g.failure_kind WHEN 'transient' THEN 'exhausted' ELSE 'permanent' END, g.ended_at
      FROM user_alert_digests AS g
     WHERE g.channel = ANY ($1) AND g.status = 'failed' AND g.ended_at >= $2
     UNION ALL
    SELECT 'digest', g.id, g.user_id, g.channel, g.last_error, 'not_configured', g.ended_at
      FROM user_alert_digests AS g
     WHERE g.channel = ANY ($1) AND g.status = 'skipped' AND g.last_error = 'channel_not_configured'
       AND g.ended_at >= $2
     UNION ALL
    SELECT 'digest', g.id, g.user_id, g.channel, g.last_error,
           CASE WHEN g.uncertain_since IS NULL THEN 'waiting' ELSE 'uncertain' END,
           coalesce(g.uncertain_since, g.send_started_at, g.created_at::timestamptz)
      FROM user_alert_digests AS g
     WHERE g.channel = ANY ($1) AND g.status = 'queued' AND g.next_retry_at < 'infinity'
       AND g.last_error IS NOT NULL
),
-- First by user: that leaves less to sort than the rows would.
by_user AS (
    SELECT w.kind, w.channel, coalesce(w.code, 'unknown') AS code, w.state, w.user_id, count(*) AS rows,
           min(w.moment) AS oldest, max(w.moment) AS newest, min(w.id) AS first_id, max(w.id) AS last_id
      FROM wrong AS w
     WHERE $3::text IS NULL OR w.code = $3
     GROUP BY w.kind, w.channel, coalesce(w.code, 'unknown'), w.state, w.user_id
),
causes AS (
    SELECT u.kind, u.channel, u.code, u.state, sum(u.rows)::int8 AS count, count(*) AS users, min(u.oldest) AS oldest,
           max(u.newest) AS newest_at, min(u.first_id) AS first_id,
           (array_agg(u.user_id ORDER BY u.newest DESC, u.last_id DESC))[1:5] AS user_ids,
           (array_agg(u.last_id ORDER BY u.newest DESC, u.last_id DESC))[1] AS sample_id
      FROM by_user AS u
     GROUP BY u.kind, u.channel, u.code, u.state
)
SELECT c.kind, c.channel, c.code, c.state, c.count, c.users,
       least(c.oldest, CASE c.kind
           WHEN 'delivery' THEN (SELECT min(a.known_at) FROM alerts_engine_attempts AS a WHERE a.delivery_id = c.first_id)
           ELSE (SELECT min(a.known_at) FROM alerts_engine_attempts AS a WHERE a.digest_id = c.first_id) END) AS since,
       c.newest_at, c.user_ids::int8[] AS user_ids, c.sample_id::int8 AS sample_id
  FROM causes AS c
 ORDER BY c.count DESC, c.kind, c.channel, c.code, c.state;

-- name: failed_rows
-- also: failed_digest_rows for user_alert_digests
-- The rows of one cause, the newest first, a page at a time.
--   $1 channels text[]
--   $2 since    timestamptz
--   $3 cause    text
--   $4 below_id int8         the last id of the page before; NULL: the first page
--   $5 most     int8
-- returns: FailedRow, many
-- limit: 60 s
-- again: safe; reads only
WITH wrong AS (
    SELECT r.id, r.user_id, r.channel, r.status, r.failure_kind, r.attempts, r.ended_at, r.next_retry_at,
           r.uncertain_since, r.created_at
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.channel = ANY ($1) AND r.status = 'failed' AND r.ended_at >= $2 AND r.last_error = $3
     UNION ALL
    SELECT r.id, r.user_id, r.channel, r.status, r.failure_kind, r.attempts, r.ended_at, r.next_retry_at,
           r.uncertain_since, r.created_at
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.channel = ANY ($1) AND r.status = 'skipped' AND r.last_error = 'channel_not_configured'
       AND r.ended_at >= $2 AND r.last_error = $3
     UNION ALL
    SELECT r.id, r.user_id, r.channel, r.status, r.failure_kind, r.attempts, r.ended_at, r.next_retry_at,
           r.uncertain_since, r.created_at
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.channel = ANY ($1) AND r.status = 'queued'
       AND r.delivery_kind = 'instant'  -- only here
       AND r.next_retry_at IS NOT NULL AND r.next_retry_at < 'infinity' AND r.last_error = $3
)
SELECT w.id::int8 AS id, w.user_id::int8 AS user_id, w.channel, w.status,
       CASE WHEN w.status = 'skipped' THEN 'not_configured'
            WHEN w.uncertain_since IS NOT NULL THEN 'uncertain'
            WHEN w.status = 'queued' THEN 'waiting'
            WHEN w.failure_kind = 'transient' THEN 'exhausted'
            ELSE 'permanent' END AS state,
       w.attempts, w.created_at::timestamptz AS created_at, w.ended_at, w.next_retry_at::timestamptz AS next_retry_at
  FROM wrong AS w
 WHERE $4::int8 IS NULL OR w.id < $4
 ORDER BY w.id DESC
 LIMIT $5;

-- name: channels_down
-- What the newest run of phase C found of the channels, and since when they are down without a break: a run that found one
-- down has failed, and one that succeeded found none.
--   $1 channels text[]
-- returns: ChannelDownRow, many
-- limit: 20 s
-- again: safe; reads only
WITH success AS (
    SELECT i.started_at
      FROM alerts_engine_run_items AS i
     WHERE i.phase = 'c'
       AND i.status = 'success'
       AND EXISTS (SELECT FROM alerts_engine_runs AS r WHERE r.run_id = i.run_id AND NOT r.dry_run OFFSET 0)
     ORDER BY i.started_at AT TIME ZONE 'UTC' DESC
     LIMIT 1
),
failed AS (
    SELECT i.started_at, i.counts -> 'channels_down' AS down
      FROM alerts_engine_run_items AS i
     WHERE i.phase = 'c'
       AND i.status = 'failed'
       AND i.started_at AT TIME ZONE 'UTC'
           > coalesce((SELECT s.started_at FROM success AS s), '-infinity') AT TIME ZONE 'UTC'
       AND EXISTS (SELECT FROM alerts_engine_runs AS r WHERE r.run_id = i.run_id AND NOT r.dry_run OFFSET 0)
     ORDER BY i.started_at AT TIME ZONE 'UTC' DESC
     LIMIT 1000
),
newest AS (
    SELECT f.down FROM failed AS f ORDER BY f.started_at DESC LIMIT 1
)
SELECT c.name AS channel, n.down ->> c.name AS cause,
       (SELECT min(f.started_at)
          FROM failed AS f
         WHERE f.started_at > coalesce((SELECT max(u.started_at) FROM failed AS u WHERE u.down ->> c.name IS NULL),
                                       '-infinity')) AS since
  FROM unnest($1::text[]) AS c(name)
  JOIN newest AS n ON n.down ->> c.name IS NOT NULL;

-- name: waiting_on_channel
-- Who waits for a channel that is down: the instant deliveries that are due, counted up to a limit.
--   $1 channel text
--   $2 now     timestamptz
--   $3 most    int8
-- returns: WaitingOnChannel, one
-- limit: 20 s
-- again: safe; reads only
WITH due AS (
    (SELECT d.id, d.user_id, d.created_at
       FROM user_alert_deliveries AS d
      WHERE d.channel = $1 AND d.status = 'queued' AND d.delivery_kind = 'instant' AND d.next_retry_at IS NULL
      ORDER BY d.created_at DESC, d.id DESC
      LIMIT $3)
     UNION ALL
    (SELECT d.id, d.user_id, d.created_at
       FROM user_alert_deliveries AS d
      WHERE d.channel = $1 AND d.status = 'queued' AND d.delivery_kind = 'instant' AND d.next_retry_at <= $2
      ORDER BY d.next_retry_at DESC, d.id DESC
      LIMIT $3)
)
SELECT count(*) AS count, count(DISTINCT d.user_id) AS users, max(d.created_at)::timestamptz AS newest_at,
       coalesce((array_agg(d.user_id ORDER BY d.created_at DESC, d.id DESC))[1:20]::int8[], '{}') AS user_ids,
       (array_agg(d.id ORDER BY d.created_at DESC, d.id DESC))[1]::int8 AS sample_id
  FROM due AS d;
