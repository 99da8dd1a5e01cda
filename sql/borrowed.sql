-- On connections that are the application's (SPEC I-1).

-- name: session_defaults
-- How transactions begin on this connection; and what asyncpg may change, when it first meets a type in a transaction.
-- returns: SessionDefaults, one
-- limit: 20 s
SELECT current_setting('transaction_isolation') AS isolation, current_setting('jit') AS jit;

-- name: set_time_zone
-- For the session: it is put back before the application gets the connection again.
--   $1 time_zone text
-- returns: nothing
-- limit: 5 s
SELECT set_config('TimeZone', $1, FALSE);

-- name: end_session
-- No lock of ours outlasts the use of a connection.
--   $1 jit text   as it was
-- returns: nothing
-- limit: 5 s
SELECT pg_advisory_unlock_all(), set_config('jit', $1, FALSE);

-- name: set_savepoint
-- What follows can be undone without the application's work before it.
-- returns: nothing
-- limit: 20 s
SAVEPOINT alerts_engine;

-- name: undo_to_savepoint
-- returns: nothing
-- limit: 20 s
ROLLBACK TO SAVEPOINT alerts_engine;

-- name: release_savepoint
-- returns: nothing
-- limit: 20 s
RELEASE SAVEPOINT alerts_engine;
