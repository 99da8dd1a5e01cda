-- Why a user does or does not get an event (SPEC B-9). The decision itself comes from fan_out_page, with record = false.

-- name: explained_user
-- What stands before every decision: does the user exist, and is the address confirmed.
--   $1 user_id int8
-- returns: ExplainedUser, many
-- again: safe; reads only
SELECT u.id::int8 AS id, u.email_verified IS NOT FALSE AS considered FROM users AS u WHERE u.id = $1::int8;

-- name: users_of_address
-- Who can be reached at an address: email in any letter case, a phone number however it is written, a chat id.
--   $1 address text
--   $2 most    int8
-- returns: UserId, many
-- again: safe; reads only
SELECT DISTINCT a.user_id::int8 AS id
  FROM alert_destinations() AS a
 WHERE CASE a.channel WHEN 'email' THEN lower(a.destination) = lower($1)
                      WHEN 'sms' THEN $1 ~ '[0-9]'
                                      AND regexp_replace(a.destination, '[^0-9+]', '', 'g')
                                          = regexp_replace($1, '[^0-9+]', '', 'g')
                      ELSE a.destination = $1 END
 ORDER BY id
 LIMIT $2;

-- name: explained_events
-- The events asked for, or the newest ones, and when their fan-out reached this user.
--   $1 event_ids    int8[]   NULL: the newest
--   $2 user_id      int8
--   $3 most         int8
--   $4 longest_line int4     characters of a text to read
-- returns: ExplainedEvent, many
-- again: safe; reads only
SELECT e.id::int8 AS id, left(e.alert_type, $4) AS alert_type, left(e.scope_region, $4) AS scope_region, e.severity,
       left(e.headline, $4) AS headline,
       least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS created_at,
       e.fanout_completed_at IS NOT NULL OR e.fanout_position >= $2 AS reached,
       coalesce((SELECT min(d.created_at)::timestamptz
                   FROM user_alert_deliveries AS d
                  WHERE d.alert_event_id = e.id AND d.user_id = $2 AND d.channel <> 'account'),
                e.fanout_completed_at::timestamptz) AS reached_at
  FROM alert_events AS e
 WHERE $1::int8[] IS NULL OR e.id = ANY ($1::int8[])
 ORDER BY e.created_at DESC, e.id DESC
 LIMIT $3;

-- name: preferences_of_user
-- What the user asked for, in the user's own words.
--   $1 ids          int8[]
--   $2 longest_line int4     characters of a text to read
-- returns: PreferenceRow, many
-- again: safe; reads only
SELECT f.id::int8 AS id, left(f.region, $2) AS region, left(f.alert_type, $2) AS alert_type,
       left(f.asset, $2) AS asset, f.threshold::float8 AS threshold
  FROM user_alert_prefs AS f
 WHERE f.id = ANY ($1::int8[])
 ORDER BY f.id;

-- name: deliveries_of_user
-- What became of an event for a user: each delivery, and the digest it went into.
--   $1 event_id int8
--   $2 user_id  int8
-- returns: DeliveryState, many
-- again: safe; reads only
SELECT d.id::int8 AS id, d.channel, d.delivery_kind AS kind, d.status, d.attempts, d.last_error, d.failure_kind,
       d.next_retry_at::timestamptz AS next_retry_at, d.uncertain_since, d.sent_by, d.sent_at::timestamptz AS sent_at,
       g.id::int8 AS digest_id, g.digest_key, g.status AS digest_status, g.attempts AS digest_attempts,
       g.last_error AS digest_last_error, g.next_retry_at::timestamptz AS digest_due_at,
       g.uncertain_since AS digest_uncertain_since, g.sent_by AS digest_sent_by,
       g.sent_at::timestamptz AS digest_sent_at
  FROM user_alert_deliveries AS d
  LEFT JOIN user_alert_digest_items AS i ON i.delivery_id = d.id
  LEFT JOIN user_alert_digests AS g ON g.id = i.digest_id
 WHERE d.alert_event_id = $1::int8
   AND d.user_id = $2::int8
   AND d.channel <> 'account'
 ORDER BY d.channel, d.delivery_kind DESC;
