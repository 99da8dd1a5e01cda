-- Finding a user, an event, a delivery or a digest by what an operator knows of it (SPEC P-4a). Reads only.

-- name: rows_with_number
-- Which of these there is by that number.
--   $1 number int8
-- returns: RowsWithNumber, one
-- limit: 20 s
-- again: safe; reads only
SELECT EXISTS (SELECT FROM users AS u WHERE u.id = $1::int8) AS is_user,
       EXISTS (SELECT FROM alert_events AS e WHERE e.id = $1::int8) AS is_event,
       EXISTS (SELECT FROM user_alert_deliveries AS d WHERE d.id = $1::int8) AS is_delivery,
       EXISTS (SELECT FROM user_alert_digests AS g WHERE g.id = $1::int8) AS is_digest;

-- name: events_found
-- Events, the newest first: all, or those of the newest ten thousand that have these words in the headline, the type or
-- the region, or this fingerprint.
--   $1 pattern      text     for ILIKE; NULL: all
--   $2 fingerprint  text     NULL: any
--   $3 before       int8     below this id; NULL: from the newest one
--   $4 most         int8
--   $5 longest_line int4     characters of a text to read
-- returns: FoundEvent, many
-- limit: 20 s
-- again: safe; reads only
SELECT e.id::int8 AS id, left(e.alert_type, $5) AS alert_type, left(e.scope_region, $5) AS scope_region, e.severity,
       left(e.headline, $5) AS headline,
       least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS created_at,
       e.fanout_completed_at::timestamptz AS fanout_completed_at
  FROM (SELECT n.*
          FROM alert_events AS n
         WHERE $3::int8 IS NULL OR n.id < $3::int8
         ORDER BY n.id DESC
         LIMIT CASE WHEN $1::text IS NULL THEN $4::int8 ELSE 10000 END) AS e
 WHERE $1::text IS NULL
    OR e.headline ILIKE $1 OR e.alert_type ILIKE $1 OR e.scope_region ILIKE $1 OR e.event_fingerprint = $2
 ORDER BY e.id DESC
 LIMIT $4;

-- name: deliveries_to_user
-- What became of a user's deliveries, the newest first.
--   $1 user_id      int8
--   $2 before       int8     below this id; NULL: from the newest one
--   $3 most         int8
--   $4 longest_line int4     characters of a text to read
-- returns: UserDelivery, many
-- limit: 20 s
-- again: safe; reads only
SELECT d.id::int8 AS id, d.channel, d.delivery_kind AS kind, d.status, d.attempts, d.last_error,
       d.created_at::timestamptz AS created_at, d.sent_at::timestamptz AS sent_at,
       e.id::int8 AS event_id, e.severity, left(e.headline, $4) AS headline,
       (SELECT i.digest_id FROM user_alert_digest_items AS i WHERE i.delivery_id = d.id)::int8 AS digest_id
  FROM user_alert_deliveries AS d
  JOIN alert_events AS e ON e.id = d.alert_event_id
 WHERE d.user_id = $1::int8
   AND ($2::int8 IS NULL OR d.id < $2::int8)
 ORDER BY d.id DESC
 LIMIT $3;

-- name: known_user
-- What stands about a user in every table that decides, but for addresses.
--   $1 user_id int8
-- returns: KnownUser, many
-- limit: 20 s
-- again: safe; reads only
SELECT u.id::int8 AS id, coalesce((SELECT p.plan FROM user_plans AS p WHERE p.user_id = u.id), 'none') AS plan,
       u.email_verified IS NOT FALSE AS considered,
       coalesce((SELECT s.digest_only FROM user_notification_settings AS s WHERE s.user_id = u.id), FALSE) AS digest_only,
       ARRAY(SELECT a.channel FROM alert_destinations() AS a
              WHERE a.user_id = u.id AND a.destination IS NOT NULL ORDER BY a.channel) AS channels,
       ARRAY(SELECT c.channel FROM user_channel_preferences AS c
              WHERE c.user_id = u.id AND NOT c.enabled ORDER BY c.channel) AS switched_off
  FROM users AS u
 WHERE u.id = $1::int8;

-- name: event_by_id
-- One event.
--   $1 id           int8
--   $2 longest_line int4     characters of a text to read
-- returns: FoundEvent, many
-- limit: 20 s
-- again: safe; reads only
SELECT e.id::int8 AS id, left(e.alert_type, $2) AS alert_type, left(e.scope_region, $2) AS scope_region, e.severity,
       left(e.headline, $2) AS headline,
       least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS created_at,
       e.fanout_completed_at::timestamptz AS fanout_completed_at
  FROM alert_events AS e
 WHERE e.id = $1;

-- name: outcomes_of_event
-- What became of an event's deliveries, by channel; of a hundred thousand at most.
--   $1 event_id int8
-- returns: EventOutcome, many
-- limit: 20 s
-- again: safe; reads only
SELECT d.channel, d.outcome, count(*)::int8 AS rows
  FROM (SELECT r.channel,
               CASE WHEN r.status = 'skipped' AND r.last_error = 'batched_into_digest' THEN r.last_error
                    ELSE r.status END AS outcome
          FROM user_alert_deliveries AS r
         WHERE r.alert_event_id = $1::int8
         LIMIT 100000) AS d
 GROUP BY d.channel, d.outcome
 ORDER BY d.channel, d.outcome;
