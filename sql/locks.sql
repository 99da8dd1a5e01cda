-- Phase locks: session advisory locks on a connection that is held for the phase alone (SPEC L-1).

-- name: try_lock
-- Take the lock if nobody has it.
--   $1 key int8
-- returns: Held, one
-- limit: 20 s
SELECT pg_try_advisory_lock($1) AS held;

-- name: still_locked
-- Whether the connection that answers holds the lock. Behind a pooler that hands out another one, it does not (L-2).
--   $1 key int8
-- returns: Held, one
-- limit: 20 s
SELECT EXISTS (
       SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory'
          AND l.pid = pg_backend_pid()
          AND l.granted
          AND l.objsubid = 1
          AND (l.classid::int8 << 32 | l.objid::int8) = $1) AS held;

-- name: unlock
-- Give the lock back.
--   $1 key int8
-- returns: Held, one
-- limit: 5 s
SELECT pg_advisory_unlock($1) AS held;

-- name: locked_keys
-- Which of these locks anybody holds.
--   $1 keys int8[]
-- returns: LockKey, many
-- limit: 20 s
SELECT DISTINCT (l.classid::int8 << 32 | l.objid::int8) AS key
  FROM pg_locks AS l
 WHERE l.locktype = 'advisory'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.granted
   AND l.objsubid = 1
   AND (l.classid::int8 << 32 | l.objid::int8) = ANY ($1);

-- name: backend
-- Which process of the server answers.
-- returns: Backend, one
SELECT pg_backend_pid() AS pid;

-- name: lock_holders
-- Who holds a lock.
--   $1 key int8
-- returns: LockHolder, many
-- limit: 20 s
SELECT l.pid, nullif(a.application_name, '') AS application_name, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int8 AS seconds
  FROM pg_locks AS l
  LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.locktype = 'advisory'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.granted
   AND l.objsubid = 1
   AND (l.classid::int8 << 32 | l.objid::int8) = $1;

-- name: waiters
-- How many sessions wait for this transaction to end.
-- returns: Waiters, one
-- again: safe; reads only
SELECT count(*) AS count
  FROM pg_locks AS l
 WHERE l.locktype = 'transactionid'
   AND NOT l.granted
   AND l.transactionid = pg_current_xact_id_if_assigned()::xid;
