-- What a run leaves behind in the queue, for its summary (SPEC R-4). Reads only.

-- name: queue_state
-- How long the oldest delivery and the oldest digest of these channels have been due, and how many digests wait. Each is
-- one look into an index of what is queued, however much was sent before.
--   $1 channels text[]
--   $2 now      timestamptz
-- returns: QueueState, one
-- limit: 20 s
-- again: safe; reads only
WITH
due_deliveries AS (
    SELECT least(
               (SELECT min(d.created_at)
                  FROM user_alert_deliveries AS d
                 WHERE d.channel = c.name AND d.delivery_kind = 'instant' AND d.status = 'queued'
                   AND d.next_retry_at IS NULL)::timestamptz,
               (SELECT min(d.next_retry_at)
                  FROM user_alert_deliveries AS d
                 WHERE d.channel = c.name AND d.delivery_kind = 'instant' AND d.status = 'queued'
                   AND d.next_retry_at <= $2)
           ) AS due_at
      FROM unnest($1::text[]) AS c(name)
),
due_digests AS (
    SELECT least(
               (SELECT min(g.created_at)
                  FROM user_alert_digests AS g
                 WHERE g.channel = c.name AND g.status = 'queued' AND g.next_retry_at IS NULL)::timestamptz,
               (SELECT min(g.next_retry_at)
                  FROM user_alert_digests AS g
                 WHERE g.channel = c.name AND g.status = 'queued' AND g.next_retry_at <= $2)
           ) AS due_at
      FROM unnest($1::text[]) AS c(name)
)
SELECT (EXTRACT(epoch FROM $2 - (SELECT min(due_at) FROM due_deliveries)) / 60)::float8 AS oldest_delivery_minutes,
       (EXTRACT(epoch FROM $2 - (SELECT min(due_at) FROM due_digests)) / 60)::float8 AS oldest_digest_minutes,
       (SELECT count(*) FROM user_alert_digests AS g WHERE g.status = 'queued' AND g.channel = ANY ($1))
           AS digests_queued;
