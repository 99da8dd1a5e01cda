-- What became of one delivery or one digest, from its making on (SPEC section 3). Reads only.

-- name: delivery_of_life
-- also: digest_of_life for user_alert_digests
-- The row itself.
--   $1 id int8
-- returns: LifeRow, many
-- again: safe; reads only
SELECT r.id::int8 AS id, r.user_id::int8 AS user_id, r.channel,
       r.delivery_kind AS kind,  -- there: r.period AS kind,
       r.status, r.attempts, r.created_at::timestamptz AS created_at, r.next_retry_at::timestamptz AS next_retry_at,
       r.last_error, r.failure_kind, r.claimed_by, r.lease_expires_at::timestamptz AS lease_expires_at,
       r.send_started_at::timestamptz AS send_started_at, r.uncertain_since, r.sent_by, r.key_used_at,
       r.sent_at::timestamptz AS sent_at, r.provider_message_id, r.ended_at, r.failed_before,
       r.alert_event_id::int8 AS event_id  -- there: NULL::int8 AS event_id
  FROM /* TABLE */ user_alert_deliveries AS r
 WHERE r.id = $1;

-- name: attempts_of_delivery
-- The attempts that were no plain success, and what was learnt of uncertain ones.
--   $1 id   int8
--   $2 most int8
-- returns: AttemptRow, many
-- again: safe; reads only
SELECT a.attempt, a.begun_at, a.known_at, a.outcome, a.error, a.provider, a.run_id
  FROM alerts_engine_attempts AS a
 WHERE a.delivery_id = $1
 ORDER BY a.known_at, a.id
 LIMIT $2;

-- name: attempts_of_digest
-- The same of a digest.
--   $1 id   int8
--   $2 most int8
-- returns: AttemptRow, many
-- again: safe; reads only
SELECT a.attempt, a.begun_at, a.known_at, a.outcome, a.error, a.provider, a.run_id
  FROM alerts_engine_attempts AS a
 WHERE a.digest_id = $1
 ORDER BY a.known_at, a.id
 LIMIT $2;

-- name: event_of_life
-- The event of a delivery.
--   $1 event_id     int8
--   $2 longest_line int4
-- returns: LifeEvent, many
-- again: safe; reads only
SELECT e.id::int8 AS id, left(e.alert_type, $2) AS alert_type, e.severity, left(e.headline, $2) AS headline,
       least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS created_at
  FROM alert_events AS e
 WHERE e.id = $1;

-- name: digest_of_delivery
-- The digest that a delivery went into.
--   $1 delivery_id int8
-- returns: LifeDigest, many
-- again: safe; reads only
SELECT g.id::int8 AS id, g.digest_key, g.status, g.window_start::timestamptz AS window_start,
       g.window_end::timestamptz AS window_end, g.sent_at::timestamptz AS sent_at
  FROM user_alert_digest_items AS i
  JOIN user_alert_digests AS g ON g.id = i.digest_id
 WHERE i.delivery_id = $1;

-- name: items_of_digest
-- The deliveries of a digest, and how many there are.
--   $1 digest_id int8
--   $2 most      int8
-- returns: DigestItems, one
-- again: safe; reads only
SELECT (SELECT count(*) FROM user_alert_digest_items AS i WHERE i.digest_id = $1) AS count,
       ARRAY(SELECT i.delivery_id::int8
               FROM user_alert_digest_items AS i
              WHERE i.digest_id = $1
              ORDER BY i.delivery_id
              LIMIT $2) AS delivery_ids,
       (SELECT g.digest_key FROM user_alert_digests AS g WHERE g.id = $1) AS digest_key,
       (SELECT g.window_start::timestamptz FROM user_alert_digests AS g WHERE g.id = $1) AS window_start,
       (SELECT g.window_end::timestamptz FROM user_alert_digests AS g WHERE g.id = $1) AS window_end;
