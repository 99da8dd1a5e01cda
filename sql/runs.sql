-- The run history (SPEC section 10). Its times are the database's own, also when a run replays another --now.

-- name: migrations_applied
-- The migrations this database has.
-- returns: MigrationId, many
-- limit: 20 s
SELECT m.migration_id FROM _yoyo_migration AS m;

-- name: clock
-- The database's clock.
-- returns: Clock, one
-- limit: 20 s
SELECT clock_timestamp() AS now;

-- name: open_run
-- A run begins.
--   $1 run_id       uuid
--   $2 triggered_by text
--   $3 phase        text
--   $4 git_sha      text
--   $5 dry_run      bool
--   $6 host         text
--   $7 pid          int4
-- returns: nothing
-- limit: 10 s
INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status, git_sha, dry_run, host, pid)
VALUES ($1, $2, $3, clock_timestamp(), 'running', $4, $5, $6, $7);

-- name: enter_phase
-- A run has the lock of a phase, and begins it.
--   $1 run_id uuid
--   $2 phase  text
-- returns: nothing
-- limit: 10 s
UPDATE alerts_engine_runs SET at_phase = $2 WHERE run_id = $1;

-- name: record_phase
-- A phase of a run has ended.
--   $1 run_id        uuid
--   $2 phase         text
--   $3 status        text
--   $4 started_at    timestamptz
--   $5 finished_at   timestamptz
--   $6 duration_ms   int8
--   $7 counts        json_text
--   $8 error_summary text
-- returns: nothing
-- limit: 10 s
INSERT INTO alerts_engine_run_items
       (run_id, phase, status, started_at, finished_at, duration_ms, counts, error_summary)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8);

-- name: close_run
-- A run has ended.
--   $1 run_id        uuid
--   $2 status        text
--   $3 duration_ms   int8
--   $4 counts        json_text
--   $5 error_summary text
-- returns: nothing
-- limit: 10 s
UPDATE alerts_engine_runs
   SET finished_at = clock_timestamp(), status = $2, duration_ms = $3, counts = $4::text::jsonb, error_summary = $5,
       at_phase = NULL
 WHERE run_id = $1;

-- name: close_interrupted
-- Close what is still called running although its process is gone: older than a lease, and none of its phases locked (O-2).
--   $1 lease         interval
--   $2 locked_phases text[]
-- returns: nothing
-- limit: 10 s
UPDATE alerts_engine_runs
   SET finished_at = clock_timestamp(), status = 'failed', error_summary = 'interrupted'
 WHERE status = 'running'
   AND started_at < clock_timestamp() - $1::interval
   AND phase <> ALL ($2)
   AND (phase <> 'all' OR $2 = '{}');

-- name: recent_runs
-- The newest runs first, or those before one of them.
--   $1 most   int8
--   $2 before uuid   a run that is left out, with all newer ones; NULL: from the newest one
-- returns: RunRow, many
SELECT r.run_id, r.triggered_by, r.phase, r.started_at, r.finished_at, r.duration_ms, r.status,
       r.counts::text, r.error_summary, r.git_sha, r.dry_run, r.host, r.pid, r.at_phase
  FROM alerts_engine_runs AS r
 WHERE $2::uuid IS NULL
    OR (r.started_at, r.id) < (SELECT b.started_at, b.id FROM alerts_engine_runs AS b WHERE b.run_id = $2::uuid)
 ORDER BY r.started_at DESC, r.id DESC
 LIMIT $1;

-- name: run_by_id
-- One run.
--   $1 run_id uuid
-- returns: RunRow, many
SELECT r.run_id, r.triggered_by, r.phase, r.started_at, r.finished_at, r.duration_ms, r.status,
       r.counts::text, r.error_summary, r.git_sha, r.dry_run, r.host, r.pid, r.at_phase
  FROM alerts_engine_runs AS r
 WHERE r.run_id = $1;

-- name: runs_between
-- The runs whose ids lie between two, both included, the newest first: those that begin with the same characters.
--   $1 first uuid
--   $2 last  uuid
--   $3 most  int8
-- returns: RunRow, many
SELECT r.run_id, r.triggered_by, r.phase, r.started_at, r.finished_at, r.duration_ms, r.status, r.counts::text,
       r.error_summary, r.git_sha, r.dry_run, r.host, r.pid, r.at_phase
  FROM alerts_engine_runs AS r
 WHERE r.run_id BETWEEN $1 AND $2
 ORDER BY r.started_at DESC, r.id DESC
 LIMIT $3;

-- name: phases_of_runs
-- The phases of some runs, in the order in which they ran. Of a run that was killed they are all there is.
--   $1 run_ids uuid[]
-- returns: RecordedPhase, many
SELECT i.run_id, i.phase, i.status, i.started_at, i.finished_at, i.duration_ms, i.counts::text, i.error_summary
  FROM alerts_engine_run_items AS i
 WHERE i.run_id = ANY ($1)
 ORDER BY i.started_at, i.id;
