-- How the engine is (SPEC O-4). What is live is counted by partial indexes; what is done was counted by the hour when it
-- was settled. So however many deliveries there have ever been, these statements read as much. Reads only, all of them.

-- name: done_by_hour
-- What was done, from alerts_engine_outcomes: in this hour and the last one, since a day ago, and since a week ago. A
-- row that left its outcome again, such as one that retry-failed took up, does not count. Whole hours: the oldest one
-- counts in full.
--   $1 now timestamptz
-- returns: Done, many
-- limit: 20 s
-- again: safe; reads only
SELECT o.source, o.channel, o.kind, o.outcome, o.retried,
       (sum(o.made - o.undone) FILTER (WHERE o.hour > $1::timestamptz - interval '2 hours'))::int8 AS recent,
       (sum(o.made - o.undone) FILTER (WHERE o.hour > $1::timestamptz - interval '25 hours'))::int8 AS day,
       sum(o.made - o.undone)::int8 AS week
  FROM alerts_engine_outcomes AS o
 WHERE o.span = ANY (ARRAY['batch', 'hour'])
   AND o.hour > $1::timestamptz - interval '169 hours'
 GROUP BY o.source, o.channel, o.kind, o.outcome, o.retried;

-- name: done_ever
-- What was done since the counting began: a sum that never becomes smaller.
-- returns: DoneEver, many
-- limit: 20 s
-- again: safe; reads only
SELECT o.source, o.channel, o.kind, o.outcome, sum(o.made)::int8 AS made
  FROM alerts_engine_outcomes AS o
 GROUP BY o.source, o.channel, o.kind, o.outcome
 ORDER BY o.source, o.channel, o.kind, o.outcome;

-- name: live_rows
-- What waits and what is being sent, each by its partial index; what the application holds back for itself is not ours.
--   $1 channels text[]
--   $2 now      timestamptz
-- returns: Live, many
-- limit: 20 s
-- again: safe; reads only
WITH waiting AS (
    SELECT 'deliveries' AS source, d.channel, 'instant' AS kind, 'queued' AS status, count(*) AS rows,
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '24 hours') AS day,
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '168 hours') AS week
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1)
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NULL
     GROUP BY d.channel
     UNION ALL
    SELECT 'deliveries', d.channel, 'instant', 'queued', count(*),
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '24 hours'),
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '168 hours')
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1)
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NOT NULL
       AND d.next_retry_at < 'infinity'
     GROUP BY d.channel
     UNION ALL
    SELECT 'deliveries', d.channel, 'digest', 'queued', count(*),
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '24 hours'),
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '168 hours')
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1)
       AND d.status = 'queued'
       AND d.delivery_kind = 'digest'
     GROUP BY d.channel
     UNION ALL
    SELECT 'deliveries', d.channel, d.delivery_kind, 'sending', count(*),
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '24 hours'),
           count(*) FILTER (WHERE d.created_at::timestamptz > $2::timestamptz - interval '168 hours')
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($1)
       AND d.status = 'sending'
     GROUP BY d.channel, d.delivery_kind
     UNION ALL
    SELECT 'digests', g.channel, 'digest', 'queued', count(*),
           count(*) FILTER (WHERE g.created_at::timestamptz > $2::timestamptz - interval '24 hours'),
           count(*) FILTER (WHERE g.created_at::timestamptz > $2::timestamptz - interval '168 hours')
      FROM user_alert_digests AS g
     WHERE g.channel = ANY ($1)
       AND g.status = 'queued'
     GROUP BY g.channel
     UNION ALL
    SELECT 'digests', g.channel, 'digest', 'sending', count(*),
           count(*) FILTER (WHERE g.created_at::timestamptz > $2::timestamptz - interval '24 hours'),
           count(*) FILTER (WHERE g.created_at::timestamptz > $2::timestamptz - interval '168 hours')
      FROM user_alert_digests AS g
     WHERE g.channel = ANY ($1)
       AND g.status = 'sending'
     GROUP BY g.channel
)
SELECT w.source, w.channel, w.kind, w.status, sum(w.rows)::int8 AS rows, sum(w.day)::int8 AS day,
       sum(w.week)::int8 AS week
  FROM waiting AS w
 GROUP BY w.source, w.channel, w.kind, w.status;

-- name: due_state
-- For how long the oldest delivery and the oldest digest of each of these channels have been due: one look into an index
-- of what is queued for each, however much was sent before.
--   $1 channels text[]
--   $2 now      timestamptz
-- returns: DueState, many
-- limit: 20 s
-- again: safe; reads only
SELECT c.name AS channel,
       (EXTRACT(epoch FROM $2::timestamptz - least(
               (SELECT min(d.created_at)
                  FROM user_alert_deliveries AS d
                 WHERE d.channel = c.name AND d.delivery_kind = 'instant' AND d.status = 'queued'
                   AND d.next_retry_at IS NULL)::timestamptz,
               (SELECT min(d.next_retry_at)
                  FROM user_alert_deliveries AS d
                 WHERE d.channel = c.name AND d.delivery_kind = 'instant' AND d.status = 'queued'
                   AND d.next_retry_at <= $2))) / 60)::float8 AS delivery_minutes,
       (EXTRACT(epoch FROM $2::timestamptz - least(
               (SELECT min(g.created_at)
                  FROM user_alert_digests AS g
                 WHERE g.channel = c.name AND g.status = 'queued' AND g.next_retry_at IS NULL)::timestamptz,
               (SELECT min(g.next_retry_at)
                  FROM user_alert_digests AS g
                 WHERE g.channel = c.name AND g.status = 'queued' AND g.next_retry_at <= $2))) / 60)::float8
           AS digest_minutes
  FROM unnest($1::text[]) AS c(name);

-- name: events_not_fanned_out
-- How many events wait for their fan-out, and how many are too old for it (B-1).
--   $1 now         timestamptz
--   $2 since_hours float8       0: none is too old
-- returns: EventsNotFannedOut, one
-- limit: 20 s
-- again: safe; reads only
SELECT count(*) FILTER (WHERE NOT is_old) AS waiting, count(*) FILTER (WHERE is_old) AS outside_window
  FROM (SELECT $2::float8 > 0
               AND e.created_at::timestamptz < $1::timestamptz - make_interval(secs => 3600 * $2::float8) AS is_old
          FROM alert_events AS e
         WHERE e.fanout_completed_at IS NULL) AS pending;

-- name: uncertain_rows
-- Sends that may have been accepted, of which nobody has found out yet (C-17).
--   $1 channels text[]
-- returns: UncertainRows, many
-- limit: 20 s
-- again: safe; reads only
SELECT u.channel, count(*) AS rows, min(u.uncertain_since) AS oldest
  FROM (SELECT d.channel, d.uncertain_since
          FROM user_alert_deliveries AS d
         WHERE d.channel = ANY ($1) AND d.status = 'queued' AND d.uncertain_since IS NOT NULL
         UNION ALL
        SELECT g.channel, g.uncertain_since
          FROM user_alert_digests AS g
         WHERE g.channel = ANY ($1) AND g.status = 'queued' AND g.uncertain_since IS NOT NULL) AS u
 GROUP BY u.channel
 ORDER BY u.channel;

-- name: unconfigured_rows
-- How many rows of the last day were skipped since their channel had no credentials (C-10), counted up to a limit.
--   $1 channels text[]
--   $2 now      timestamptz
--   $3 most     int8
-- returns: UnconfiguredRows, many
-- limit: 20 s
-- again: safe; reads only
SELECT c.name AS channel, count(*) AS rows
  FROM unnest($1::text[]) AS c(name)
 CROSS JOIN LATERAL (
       SELECT
         FROM user_alert_deliveries AS d
        WHERE d.channel = c.name AND d.status = 'skipped' AND d.last_error = 'channel_not_configured'
          AND d.ended_at > $2::timestamptz - interval '24 hours'
        LIMIT $3) AS skipped
 GROUP BY c.name
 ORDER BY c.name;

-- name: housekeeping
-- Whether PostgreSQL can clean up behind us: the oldest transaction that keeps it from that, and the dead rows. Of other
-- roles' sessions it shows nothing without the role pg_read_all_stats; then their transactions are not seen.
-- returns: Housekeeping, one
-- limit: 20 s
-- again: safe; reads only
SELECT clock_timestamp() AS now,
       (SELECT max(EXTRACT(epoch FROM clock_timestamp() - a.xact_start))::float8
          FROM pg_stat_activity AS a
         WHERE a.datname = current_database()
           AND a.backend_xmin IS NOT NULL
           AND a.backend_type = 'client backend'
           AND a.pid <> pg_backend_pid()) AS oldest_transaction_seconds,
       (SELECT max(EXTRACT(epoch FROM clock_timestamp() - p.prepared))::float8
          FROM pg_prepared_xacts AS p
         WHERE p.database = current_database()) AS oldest_prepared_seconds,
       (SELECT coalesce(sum(t.n_dead_tup), 0)::int8
          FROM pg_stat_user_tables AS t
         WHERE t.relid IN ('user_alert_deliveries'::regclass, 'user_alert_digests'::regclass)) AS dead_rows,
       (SELECT coalesce(sum(t.n_live_tup), 0)::int8
          FROM pg_stat_user_tables AS t
         WHERE t.relid IN ('user_alert_deliveries'::regclass, 'user_alert_digests'::regclass)) AS live_rows;

-- name: newest_run
-- The newest run that was no dry run.
-- returns: LastRun, many
-- limit: 20 s
-- again: safe; reads only
SELECT r.run_id, r.phase, r.status, r.triggered_by, r.started_at, r.finished_at, r.duration_ms, r.error_summary, r.host,
       r.pid, r.at_phase
  FROM alerts_engine_runs AS r
 WHERE NOT r.dry_run
 ORDER BY r.started_at DESC, r.id DESC
 LIMIT 1;

-- name: newest_phases
-- For each phase, its newest success and its newest failure.
--   $1 phases text[]
-- returns: NewestPhase, many
-- limit: 20 s
-- again: safe; reads only
SELECT i.phase, i.status, i.started_at, i.finished_at, i.duration_ms, i.error_summary,
       (i.counts -> 'channels_down')::text AS channels_down
  FROM unnest($1::text[]) AS p(name)
 CROSS JOIN unnest(ARRAY['success', 'failed']) AS s(name)
 CROSS JOIN LATERAL (
       SELECT n.phase, n.status, n.started_at, n.finished_at, n.duration_ms, n.error_summary, n.counts
         FROM alerts_engine_run_items AS n
         JOIN alerts_engine_runs AS r ON r.run_id = n.run_id
        WHERE n.phase = p.name
          AND n.status = s.name
          AND NOT r.dry_run
        -- As the index has it.
        ORDER BY n.started_at AT TIME ZONE 'UTC' DESC
        LIMIT 1) AS i;
