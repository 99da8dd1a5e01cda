-- What a run leaves behind in the queue, for its summary (SPEC R-4); for how long what is due has waited says due_state of
-- health.sql. Reads only.

-- name: digests_queued
-- How many digests of these channels wait, for their time or for a sender.
--   $1 channels text[]
-- returns: Count, one
-- limit: 20 s
-- again: safe; reads only
SELECT count(*) AS count FROM user_alert_digests AS g WHERE g.status = 'queued' AND g.channel = ANY ($1);
