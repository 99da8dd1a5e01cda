-- What a reader chooses on the page behind the link in an email (SPEC U-2, U-3). The reader is known by the token alone,
-- so every statement is about one user and one channel.

-- name: choices_of
-- What the reader gets now on one channel.
--   $1 user_id int8
--   $2 channel text
-- returns: ChoicesRow, many
-- again: safe; reads only
SELECT coalesce(p.enabled, TRUE) AS channel_enabled, coalesce(s.digest_only, FALSE) AS digest_only,
       ARRAY(SELECT left(t.alert_type, 100)
               FROM user_alert_stops AS t
              WHERE t.user_id = u.id AND t.channel = $2
              ORDER BY t.stopped_at, t.alert_type
              LIMIT 50) AS stopped_types,
       (SELECT jsonb_agg(wish ORDER BY wish ->> 'type', wish ->> 'region', wish ->> 'asset')
          FROM (SELECT DISTINCT jsonb_build_object(
                           'type', left(f.alert_type, 100), 'region', left(f.region, 100),
                           'asset', CASE WHEN f.alert_type = 'ASSET_RISK_SPIKE' THEN left(f.asset, 100) END) AS wish
                  FROM (SELECT * FROM user_alert_prefs AS all_rows WHERE all_rows.user_id = u.id LIMIT 1000) AS f
                 WHERE f.enabled IS TRUE
                 LIMIT 50) AS wishes)::text AS wishes,
       EXISTS (SELECT FROM user_alert_prefs AS f WHERE f.user_id = u.id) AS has_preferences
  FROM users AS u
  LEFT JOIN user_channel_preferences AS p ON p.user_id = u.id AND p.channel = $2
  LEFT JOIN user_notification_settings AS s ON s.user_id = u.id
 WHERE u.id = $1::int8;

-- name: hold_reader
-- Let one choice of a reader be made after the other.
--   $1 user_id int8
-- returns: nothing
-- locks: no key update on the user, until the end of the transaction
SELECT FROM users AS u WHERE u.id = $1::int8 FOR NO KEY UPDATE;

-- name: switch_channel
-- Nothing on this channel any more, or alerts again.
--   $1 user_id int8
--   $2 channel text
--   $3 enabled bool
-- returns: nothing
-- locks: the row
-- again: safe
INSERT INTO user_channel_preferences AS p (user_id, channel, enabled)
VALUES ($1::int8, $2, $3)
    ON CONFLICT (user_id, channel) DO UPDATE
   SET enabled = excluded.enabled
 WHERE p.enabled IS DISTINCT FROM excluded.enabled;

-- name: choose_digests
-- Everything in digests, or what is urgent at once again.
--   $1 user_id     int8
--   $2 digest_only bool
-- returns: nothing
-- locks: the row
-- again: safe
INSERT INTO user_notification_settings AS s (user_id, digest_only)
VALUES ($1::int8, $2)
    ON CONFLICT (user_id) DO UPDATE
   SET digest_only = excluded.digest_only
 WHERE s.digest_only IS DISTINCT FROM excluded.digest_only;

-- name: stop_alert_type
-- No alerts of this type on this channel any more. What waits for its first send is skipped, and what waits in a digest
-- that was never tried is taken out of it; what was tried must not change (C-12).
--   $1 user_id    int8
--   $2 channel    text
--   $3 alert_type text
--   $4 now        timestamptz
-- returns: nothing
-- locks: what waits for the user on this channel (skip locked)
-- again: safe
WITH stopped AS (
    INSERT INTO user_alert_stops (user_id, channel, alert_type, stopped_at)
    VALUES ($1::int8, $2, $3, $4)
        ON CONFLICT DO NOTHING
),
open_digests AS MATERIALIZED (
    SELECT g.id
      FROM user_alert_digests AS g
     WHERE g.user_id = $1::int8
       AND g.channel = $2
       AND g.status = 'queued'
       AND g.attempts = 0
       AND g.last_error IS NULL
       AND g.key_used_at IS NULL
       FOR NO KEY UPDATE SKIP LOCKED
),
taken_out AS (
    DELETE FROM user_alert_digest_items AS i
     USING open_digests AS g, user_alert_deliveries AS d, alert_events AS e
     WHERE i.digest_id = g.id
       AND d.id = i.delivery_id
       AND e.id = d.alert_event_id
       AND e.alert_type = $3
    RETURNING i.delivery_id
),
waiting AS MATERIALIZED (
    SELECT d.id
      FROM user_alert_deliveries AS d
      JOIN alert_events AS e ON e.id = d.alert_event_id AND e.alert_type = $3
     WHERE d.user_id = $1::int8
       AND d.channel = $2
       AND d.status = 'queued'
       AND d.attempts = 0
       AND d.key_used_at IS NULL
       AND d.uncertain_since IS NULL
       FOR NO KEY UPDATE OF d SKIP LOCKED
),
-- They are skipped already, since they went into a digest.
not_in_a_digest AS (
    UPDATE user_alert_deliveries AS d
       SET last_error = 'channel_disabled'
      FROM taken_out AS t
     WHERE d.id = t.delivery_id
),
ended AS (
    UPDATE user_alert_deliveries AS d
       SET status = 'skipped',
           last_error = 'channel_disabled',
           next_retry_at = NULL,
           ended_at = now()
      FROM waiting AS w
     WHERE d.id = w.id
       AND d.status = 'queued'
    RETURNING d.channel, d.delivery_kind, d.attempts
)
INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
SELECT date_trunc('hour', now(), 'UTC'), 'deliveries', e.channel, e.delivery_kind, 'skipped', e.attempts > 1, count(*)
  FROM ended AS e
 GROUP BY e.channel, e.delivery_kind, e.attempts > 1;

-- name: resume_alert_type
-- Alerts of this type again.
--   $1 user_id    int8
--   $2 channel    text
--   $3 alert_type text
-- returns: nothing
-- locks: the row
-- again: safe
DELETE FROM user_alert_stops AS s WHERE s.user_id = $1::int8 AND s.channel = $2 AND s.alert_type = $3;

-- name: note_consent
-- The record of a choice: who, what, by which way, when.
--   $1 user_id    int8
--   $2 channel    text
--   $3 alert_type text         NULL: not about one type
--   $4 choice     text
--   $5 way        text
--   $6 now        timestamptz
-- returns: nothing
INSERT INTO alert_consents (user_id, channel, alert_type, choice, way, given_at)
VALUES ($1::int8, $2, $3, $4, $5, $6);
