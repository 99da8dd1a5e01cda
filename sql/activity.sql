-- What the dashboard draws (SPEC P-4): hours, runs and the fan-out's decisions. Reads only; nothing grows with history.

-- name: outcomes_of_hours
-- What was done in each hour, by channel. What retry-failed took up again does not count.
--   $1 since timestamptz
-- returns: HourOutcome, many
-- limit: 20 s
-- again: safe; reads only
SELECT o.hour, o.channel, o.outcome, sum(o.made - o.undone)::int8 AS rows
  FROM alerts_engine_outcomes AS o
 WHERE o.span = ANY (ARRAY['batch', 'hour'])
   AND o.hour >= $1
 GROUP BY o.hour, o.channel, o.outcome
HAVING sum(o.made - o.undone) > 0
 ORDER BY o.hour, o.channel, o.outcome;

-- name: due_in_hours
-- What becomes due in the next hours, by channel: of each channel's deliveries and digests the next ten thousand.
--   $1 channels text[]
--   $2 now      timestamptz
--   $3 until    timestamptz
-- returns: HourDue, many
-- limit: 20 s
-- again: safe; reads only
SELECT c.name AS channel, date_trunc('hour', d.due, 'UTC') AS hour, count(*)::int8 AS rows
  FROM unnest($1::text[]) AS c(name)
 CROSS JOIN LATERAL (
       (SELECT r.next_retry_at AS due
          FROM user_alert_deliveries AS r
         WHERE r.channel = c.name AND r.status = 'queued' AND r.delivery_kind = 'instant'
           AND r.next_retry_at > $2 AND r.next_retry_at <= $3
         ORDER BY r.next_retry_at
         LIMIT 10000)
        UNION ALL
       (SELECT g.next_retry_at
          FROM user_alert_digests AS g
         WHERE g.channel = c.name AND g.status = 'queued'
           AND g.next_retry_at > $2 AND g.next_retry_at <= $3
         ORDER BY g.next_retry_at
         LIMIT 10000)) AS d
 GROUP BY c.name, date_trunc('hour', d.due, 'UTC')
 ORDER BY c.name, hour;

-- name: phases_since
-- The phases that ran since then, the newest two thousand.
--   $1 since timestamptz
-- returns: PhaseRan, many
-- limit: 20 s
-- again: safe; reads only
SELECT i.run_id, i.phase, i.status, i.started_at, i.duration_ms
  FROM alerts_engine_run_items AS i
 WHERE i.started_at >= $1
 ORDER BY i.started_at DESC, i.id DESC
 LIMIT 2000;

-- name: decided_since
-- What phase B decided since then, of every event, user and channel; dry runs apart.
--   $1 since timestamptz
-- returns: Decided, one
-- limit: 20 s
-- again: safe; reads only
SELECT coalesce(sum((i.counts ->> 'events_processed')::numeric), 0)::int8 AS events,
       coalesce(sum((i.counts ->> 'users_considered')::numeric), 0)::int8 AS users_considered,
       coalesce(sum((i.counts ->> 'deliveries_skipped_plan')::numeric), 0)::int8 AS plan,
       coalesce(sum((i.counts ->> 'deliveries_skipped_prefs')::numeric), 0)::int8 AS preferences,
       coalesce(sum((i.counts ->> 'deliveries_skipped_suppressed')::numeric), 0)::int8 AS suppressed,
       coalesce(sum((i.counts ->> 'deliveries_skipped_missing_dest')::numeric), 0)::int8 AS missing_destination,
       coalesce(sum((i.counts ->> 'deliveries_skipped_quota')::numeric), 0)::int8 AS quota,
       coalesce(sum((i.counts ->> 'created_instant')::numeric), 0)::int8 AS instant,
       coalesce(sum((i.counts ->> 'created_digest')::numeric), 0)::int8 AS digest
  FROM alerts_engine_run_items AS i
 WHERE i.phase = 'b'
   AND i.started_at >= $1
   AND NOT (SELECT r.dry_run FROM alerts_engine_runs AS r WHERE r.run_id = i.run_id);
