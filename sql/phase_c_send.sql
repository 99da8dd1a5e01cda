-- Phase C: what is due is claimed, sent and settled (SPEC section 8). Deliveries and digests have the same life; their
-- statements stand side by side. Every settle is guarded by the lease: a late writer changes nothing.
--
-- In this phase $n now may be NULL: then the database's clock decides, anew in each statement (C-14).

-- name: reclaim_deliveries
-- Give back, or give up, the deliveries whose lease ran out: their sender is gone (C-11).
--   $1 now            timestamptz
--   $2 max_attempts   int4
--   $3 give_up        bool         ALERTS_UNCERTAIN_SEND=fail: a send that had begun is not tried again
-- returns: Reclaimed, one
-- locks: the expired rows
-- again: safe; a reclaimed row has no lease
WITH expired AS (
    SELECT d.id, d.send_started_at IS NOT NULL AS begun
      FROM user_alert_deliveries AS d
     WHERE d.status = 'sending'
       AND d.lease_expires_at <= coalesce($1::timestamptz, now())
       FOR UPDATE SKIP LOCKED
),
reclaimed AS (
    UPDATE user_alert_deliveries AS d
       SET status = CASE WHEN x.begun AND ($3 OR d.attempts + 1 >= $2) THEN 'failed' ELSE 'queued' END,
           failure_kind = CASE WHEN NOT x.begun THEN d.failure_kind
                               WHEN $3 THEN 'permanent'
                               ELSE 'transient' END,
           last_error = CASE WHEN x.begun THEN 'send_uncertain' ELSE d.last_error END,
           attempts = d.attempts + CASE WHEN x.begun THEN 1 ELSE 0 END,
           next_retry_at = CASE WHEN x.begun THEN NULL ELSE d.next_retry_at END,
           claimed_by = NULL, lease_expires_at = NULL, send_started_at = NULL
      FROM expired AS x
     WHERE d.id = x.id
    RETURNING d.status
)
SELECT count(*) AS reclaimed, count(*) FILTER (WHERE status = 'failed') AS failed FROM reclaimed;

-- name: reclaim_digests
-- The same for digests.
--   $1 now            timestamptz
--   $2 max_attempts   int4
--   $3 give_up        bool
-- returns: Reclaimed, one
-- locks: the expired rows
-- again: safe; a reclaimed row has no lease
WITH expired AS (
    SELECT g.id, g.send_started_at IS NOT NULL AS begun
      FROM user_alert_digests AS g
     WHERE g.status = 'sending'
       AND g.lease_expires_at <= coalesce($1::timestamptz, now())
       FOR UPDATE SKIP LOCKED
),
reclaimed AS (
    UPDATE user_alert_digests AS g
       SET status = CASE WHEN x.begun AND ($3 OR g.attempts + 1 >= $2) THEN 'failed' ELSE 'queued' END,
           failure_kind = CASE WHEN NOT x.begun THEN g.failure_kind
                               WHEN $3 THEN 'permanent'
                               ELSE 'transient' END,
           last_error = CASE WHEN x.begun THEN 'send_uncertain' ELSE g.last_error END,
           attempts = g.attempts + CASE WHEN x.begun THEN 1 ELSE 0 END,
           next_retry_at = CASE WHEN x.begun THEN NULL ELSE g.next_retry_at END,
           claimed_by = NULL, lease_expires_at = NULL, send_started_at = NULL
      FROM expired AS x
     WHERE g.id = x.id
    RETURNING g.status
)
SELECT count(*) AS reclaimed, count(*) FILTER (WHERE status = 'failed') AS failed FROM reclaimed;

-- name: skip_unconfigured_deliveries
-- End the due deliveries of a channel that has no credentials (C-10), a batch at a time.
--   $1 channel   text
--   $2 now       timestamptz
--   $3 allowlist int8[]        NULL: everybody
--   $4 batch     int8
-- returns: Count, one
-- locks: the rows it ends (skip locked)
-- again: safe; an ended row is not queued any more
WITH due AS (
    SELECT d.id
      FROM user_alert_deliveries AS d
     WHERE d.channel = $1
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND (d.next_retry_at IS NULL OR d.next_retry_at <= coalesce($2::timestamptz, now()))
       AND ($3::int8[] IS NULL OR d.user_id = ANY ($3))
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
ended AS (
    UPDATE user_alert_deliveries AS d
       SET status = 'skipped', last_error = 'channel_not_configured', next_retry_at = NULL
      FROM due
     WHERE d.id = due.id
    RETURNING d.id
)
SELECT count(*) AS count FROM ended;

-- name: skip_unconfigured_digests
-- The same for digests.
--   $1 channel   text
--   $2 now       timestamptz
--   $3 allowlist int8[]
--   $4 batch     int8
-- returns: Count, one
-- locks: the rows it ends (skip locked)
-- again: safe; an ended row is not queued any more
WITH due AS (
    SELECT g.id
      FROM user_alert_digests AS g
     WHERE g.channel = $1
       AND g.status = 'queued'
       AND (g.next_retry_at IS NULL OR g.next_retry_at <= coalesce($2::timestamptz, now()))
       AND ($3::int8[] IS NULL OR g.user_id = ANY ($3))
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
ended AS (
    UPDATE user_alert_digests AS g
       SET status = 'skipped', last_error = 'channel_not_configured', next_retry_at = NULL
      FROM due
     WHERE g.id = due.id
    RETURNING g.id
)
SELECT count(*) AS count FROM ended;

-- name: claim_deliveries
-- Lease due instant deliveries of one channel to this run, oldest first.
--   $1 channel      text
--   $2 claim_size   int8        most rows to take
--   $3 run_id       text
--   $4 lease        interval
--   $5 now          timestamptz
--   $6 allowlist    int8[]      NULL: everybody
--   $7 resting      text[]      Telegram chats that may not be written to this very moment
--   $8 set_aside    int8[]      rows whose outcome this run has not been able to write yet
-- returns: ClaimedDelivery, many
-- locks: the claimed rows (skip locked)
-- again: safe; a crash leaves a lease that reclaim_deliveries gives back
WITH fresh AS (
    SELECT d.id, d.created_at
      FROM user_alert_deliveries AS d
      JOIN users AS u ON u.id = d.user_id
     WHERE d.channel = $1
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NULL
       AND ($6::int8[] IS NULL OR d.user_id = ANY ($6))
       AND (u.telegram_chat_id = ANY ($7) AND d.channel = 'telegram') IS NOT TRUE
       AND d.id <> ALL ($8)
     ORDER BY d.created_at, d.id
     LIMIT $2
       FOR UPDATE OF d SKIP LOCKED
),
again AS (
    SELECT d.id, d.created_at
      FROM user_alert_deliveries AS d
      JOIN users AS u ON u.id = d.user_id
     WHERE d.channel = $1
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NOT NULL
       AND d.next_retry_at <= coalesce($5::timestamptz, now())
       AND ($6::int8[] IS NULL OR d.user_id = ANY ($6))
       AND (u.telegram_chat_id = ANY ($7) AND d.channel = 'telegram') IS NOT TRUE
       AND d.id <> ALL ($8)
     ORDER BY d.next_retry_at, d.id
     LIMIT $2
       FOR UPDATE OF d SKIP LOCKED
),
due AS (
    SELECT id
      FROM (SELECT id, created_at FROM fresh UNION ALL SELECT id, created_at FROM again) AS both_kinds
     ORDER BY created_at, id
     LIMIT $2
),
-- A claim need not wait for the disk: every send waits for the commit of begin_deliveries, which takes it along.
unhurried AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', TRUE) AS mode
),
claimed AS (
    UPDATE user_alert_deliveries AS d
       SET status = 'sending',
           claimed_by = $3,
           lease_expires_at = coalesce($5::timestamptz, now()) + $4::interval,
           send_started_at = NULL
      FROM due
     CROSS JOIN unhurried
     WHERE d.id = due.id
       AND unhurried.mode = 'off'
    RETURNING d.id, d.user_id, d.alert_event_id, d.attempts, d.created_at
)
SELECT c.id::int8 AS id, c.attempts, c.created_at::timestamptz AS created_at,
       CASE $1 WHEN 'email' THEN u.email WHEN 'telegram' THEN u.telegram_chat_id ELSE u.phone_number END AS destination,
       coalesce(p.enabled, TRUE) AS channel_enabled,
       c.alert_event_id::int8 AS event_id
  FROM claimed AS c
  JOIN users AS u ON u.id = c.user_id
  LEFT JOIN user_channel_preferences AS p ON p.user_id = c.user_id AND p.channel = $1
 ORDER BY c.created_at, c.id;

-- name: claim_digests
-- Lease due digests of one channel to this run, oldest window first.
--   $1 channel      text
--   $2 claim_size   int8
--   $3 run_id       text
--   $4 lease        interval
--   $5 now          timestamptz
--   $6 allowlist    int8[]
--   $7 resting      text[]
--   $8 set_aside    int8[]
-- returns: ClaimedDigest, many
-- locks: the claimed rows (skip locked)
-- again: safe; a crash leaves a lease that reclaim_digests gives back
WITH fresh AS (
    SELECT g.id, g.window_end
      FROM user_alert_digests AS g
      JOIN users AS u ON u.id = g.user_id
     WHERE g.channel = $1
       AND g.status = 'queued'
       AND g.next_retry_at IS NULL
       AND ($6::int8[] IS NULL OR g.user_id = ANY ($6))
       AND (u.telegram_chat_id = ANY ($7) AND g.channel = 'telegram') IS NOT TRUE
       AND g.id <> ALL ($8)
     ORDER BY g.id
     LIMIT $2
       FOR UPDATE OF g SKIP LOCKED
),
again AS (
    SELECT g.id, g.window_end
      FROM user_alert_digests AS g
      JOIN users AS u ON u.id = g.user_id
     WHERE g.channel = $1
       AND g.status = 'queued'
       AND g.next_retry_at IS NOT NULL
       AND g.next_retry_at <= coalesce($5::timestamptz, now())
       AND ($6::int8[] IS NULL OR g.user_id = ANY ($6))
       AND (u.telegram_chat_id = ANY ($7) AND g.channel = 'telegram') IS NOT TRUE
       AND g.id <> ALL ($8)
     ORDER BY g.next_retry_at, g.id
     LIMIT $2
       FOR UPDATE OF g SKIP LOCKED
),
due AS (
    SELECT id
      FROM (SELECT id, window_end FROM fresh UNION ALL SELECT id, window_end FROM again) AS both_kinds
     ORDER BY window_end, id
     LIMIT $2
),
-- As for deliveries.
unhurried AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', TRUE) AS mode
),
claimed AS (
    UPDATE user_alert_digests AS g
       SET status = 'sending',
           claimed_by = $3,
           lease_expires_at = coalesce($5::timestamptz, now()) + $4::interval,
           send_started_at = NULL
      FROM due
     CROSS JOIN unhurried
     WHERE g.id = due.id
       AND unhurried.mode = 'off'
    RETURNING g.id, g.user_id, g.period, g.window_start, g.window_end, g.digest_key, g.attempts, g.created_at
)
SELECT c.id::int8 AS id, c.attempts, c.created_at::timestamptz AS created_at,
       CASE $1 WHEN 'email' THEN u.email ELSE u.telegram_chat_id END AS destination,
       coalesce(p.enabled, TRUE) AS channel_enabled,
       c.digest_key, c.period, c.window_start::timestamptz AS window_start, c.window_end::timestamptz AS window_end
  FROM claimed AS c
  JOIN users AS u ON u.id = c.user_id
  LEFT JOIN user_channel_preferences AS p ON p.user_id = c.user_id AND p.channel = $1
 ORDER BY c.window_end, c.id;

-- name: digest_items
-- What stands in these digests, the most severe first.
--   $1 digest_ids int8[]
-- returns: DigestItem, many
-- again: safe; reads only
SELECT i.digest_id::int8 AS digest_id, e.id::int8 AS event_id
  FROM user_alert_digest_items AS i
  JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
  JOIN alert_events AS e ON e.id = d.alert_event_id
 WHERE i.digest_id = ANY ($1)
 ORDER BY i.digest_id, e.severity DESC, e.created_at, e.id;

-- name: event_rows
-- The events that messages are made of. Many rows tell the same few: each is read once, not with every row.
--   $1 event_ids int8[]
-- returns: EventRow, many
-- again: safe; reads only
SELECT e.id::int8 AS id, e.event_fingerprint, e.alert_type, e.scope_region, e.scope_assets, e.severity,
       e.headline, e.body, e.created_at::timestamptz AS created_at,
       CASE WHEN jsonb_typeof(e.payload -> 'value') = 'number'
            THEN round(least(greatest((e.payload -> 'value')::numeric, -1e300), 1e300), 100)::float8 END AS value
  FROM alert_events AS e
 WHERE e.id = ANY ($1);

-- name: are_deliveries_due
-- Whether anything of one channel is due, resting chats included.
--   $1 channel   text
--   $2 now       timestamptz
--   $3 allowlist int8[]
--   $4 set_aside int8[]
-- returns: Due, one
-- again: safe; reads only
SELECT EXISTS (
           SELECT FROM user_alert_deliveries AS d
            WHERE d.channel = $1
              AND d.status = 'queued'
              AND d.delivery_kind = 'instant'
              AND d.next_retry_at IS NULL
              AND ($3::int8[] IS NULL OR d.user_id = ANY ($3))
              AND d.id <> ALL ($4))
    OR EXISTS (
           SELECT FROM user_alert_deliveries AS d
            WHERE d.channel = $1
              AND d.status = 'queued'
              AND d.delivery_kind = 'instant'
              AND d.next_retry_at IS NOT NULL
              AND d.next_retry_at <= coalesce($2::timestamptz, now())
              AND ($3::int8[] IS NULL OR d.user_id = ANY ($3))
              AND d.id <> ALL ($4)) AS due;

-- name: are_digests_due
-- The same for digests.
--   $1 channel   text
--   $2 now       timestamptz
--   $3 allowlist int8[]
--   $4 set_aside int8[]
-- returns: Due, one
-- again: safe; reads only
SELECT EXISTS (
           SELECT FROM user_alert_digests AS g
            WHERE g.channel = $1
              AND g.status = 'queued'
              AND g.next_retry_at IS NULL
              AND ($3::int8[] IS NULL OR g.user_id = ANY ($3))
              AND g.id <> ALL ($4))
    OR EXISTS (
           SELECT FROM user_alert_digests AS g
            WHERE g.channel = $1
              AND g.status = 'queued'
              AND g.next_retry_at IS NOT NULL
              AND g.next_retry_at <= coalesce($2::timestamptz, now())
              AND ($3::int8[] IS NULL OR g.user_id = ANY ($3))
              AND g.id <> ALL ($4)) AS due;

-- name: begin_deliveries
-- Note that these sends begin now: from here on a crash leaves them uncertain (C-11). Not returned is what another run
-- took, and what would be sent beyond its lease: this process was asleep.
--   $1 ids       int8[]
--   $2 run_id    text
--   $3 now       timestamptz
--   $4 send_time interval       how long a send may take
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE user_alert_deliveries AS d
   SET send_started_at = now()
 WHERE d.id = ANY ($1)
   AND d.status = 'sending'
   AND d.claimed_by = $2
   AND d.lease_expires_at > coalesce($3::timestamptz, now()) + $4::interval
RETURNING d.id::int8 AS id;

-- name: begin_digests
-- The same for digests.
--   $1 ids       int8[]
--   $2 run_id    text
--   $3 now       timestamptz
--   $4 send_time interval       how long a send may take
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE user_alert_digests AS g
   SET send_started_at = now()
 WHERE g.id = ANY ($1)
   AND g.status = 'sending'
   AND g.claimed_by = $2
   AND g.lease_expires_at > coalesce($3::timestamptz, now()) + $4::interval
RETURNING g.id::int8 AS id;

-- name: settle_deliveries
-- Write the outcomes of a batch of sends, each only while this run still holds it (C-5); except that what was reclaimed
-- as uncertain, and that nobody took since, becomes sent when the truth comes late.
--   $1 run_id               text
--   $2 now                  timestamptz
--   $3 ids                  int8[]
--   $4 statuses             text[]
--   $5 attempts             int4[]      attempts made, this one included
--   $6 retry_seconds        float8[]    NULL: no retry
--   $7 errors               text[]
--   $8 failure_kinds        text[]
--   $9 provider_message_ids text[]
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease, so the second time changes nothing
UPDATE user_alert_deliveries AS d
   SET status = o.status,
       attempts = o.attempts,
       next_retry_at = coalesce($2::timestamptz, now()) + make_interval(secs => o.retry_seconds),
       last_error = o.error,
       failure_kind = o.failure_kind,
       provider_message_id = coalesce(o.provider_message_id, d.provider_message_id),
       sent_at = CASE WHEN o.status = 'sent' THEN coalesce($2::timestamptz, now()) END,
       claimed_by = CASE WHEN o.status <> 'queued' THEN $1 END,
       lease_expires_at = NULL,
       send_started_at = NULL
  FROM unnest($3::int8[], $4::text[], $5::int4[], $6::float8[], $7::text[], $8::text[], $9::text[])
       AS o(id, status, attempts, retry_seconds, error, failure_kind, provider_message_id)
 WHERE d.id = o.id
   AND (d.status = 'sending' AND d.claimed_by = $1
        OR o.status = 'sent' AND d.status IN ('queued', 'failed') AND d.last_error = 'send_uncertain')
RETURNING d.id::int8 AS id;

-- name: settle_digests
-- The same for digests.
--   $1 run_id               text
--   $2 now                  timestamptz
--   $3 ids                  int8[]
--   $4 statuses             text[]
--   $5 attempts             int4[]
--   $6 retry_seconds        float8[]
--   $7 errors               text[]
--   $8 failure_kinds        text[]
--   $9 provider_message_ids text[]
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease, so the second time changes nothing
UPDATE user_alert_digests AS g
   SET status = o.status,
       attempts = o.attempts,
       next_retry_at = coalesce($2::timestamptz, now()) + make_interval(secs => o.retry_seconds),
       last_error = o.error,
       failure_kind = o.failure_kind,
       provider_message_id = coalesce(o.provider_message_id, g.provider_message_id),
       sent_at = CASE WHEN o.status = 'sent' THEN coalesce($2::timestamptz, now()) END,
       claimed_by = CASE WHEN o.status <> 'queued' THEN $1 END,
       lease_expires_at = NULL,
       send_started_at = NULL
  FROM unnest($3::int8[], $4::text[], $5::int4[], $6::float8[], $7::text[], $8::text[], $9::text[])
       AS o(id, status, attempts, retry_seconds, error, failure_kind, provider_message_id)
 WHERE g.id = o.id
   AND (g.status = 'sending' AND g.claimed_by = $1
        OR o.status = 'sent' AND g.status IN ('queued', 'failed') AND g.last_error = 'send_uncertain')
RETURNING g.id::int8 AS id;

-- name: release_deliveries
-- Put claimed rows back as they were, with no attempt spent (C-7, CLI-7).
--   $1 run_id text
--   $2 ids    int8[]
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE user_alert_deliveries AS d
   SET status = 'queued', claimed_by = NULL, lease_expires_at = NULL, send_started_at = NULL
 WHERE d.id = ANY ($2)
   AND d.status = 'sending'
   AND d.claimed_by = $1
RETURNING d.id::int8 AS id;

-- name: release_digests
-- The same for digests.
--   $1 run_id text
--   $2 ids    int8[]
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE user_alert_digests AS g
   SET status = 'queued', claimed_by = NULL, lease_expires_at = NULL, send_started_at = NULL
 WHERE g.id = ANY ($2)
   AND g.status = 'sending'
   AND g.claimed_by = $1
RETURNING g.id::int8 AS id;

-- name: release_unbegun_deliveries
-- Put back what this run claimed without knowing it: the claim was committed, and its answer was lost on the way.
--   $1 run_id text
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE user_alert_deliveries AS d
   SET status = 'queued', claimed_by = NULL, lease_expires_at = NULL
 WHERE d.status = 'sending'
   AND d.claimed_by = $1
   AND d.send_started_at IS NULL
RETURNING d.id::int8 AS id;

-- name: release_unbegun_digests
-- The same for digests.
--   $1 run_id text
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE user_alert_digests AS g
   SET status = 'queued', claimed_by = NULL, lease_expires_at = NULL
 WHERE g.status = 'sending'
   AND g.claimed_by = $1
   AND g.send_started_at IS NULL
RETURNING g.id::int8 AS id;

-- name: move_telegram_chat
-- A Telegram group has a new id: keep it for everybody who had the old one (C-7).
--   $1 old_chat_id text
--   $2 new_chat_id text
-- returns: nothing
-- locks: the users' rows, like any update of a user
-- again: safe
UPDATE users AS u
   SET telegram_chat_id = $2
 WHERE u.telegram_chat_id = $1;

-- name: sendable_now
-- What a run would send now, and what waits and why, per channel: for the dry run (X-1).
--   $1 now        timestamptz
--   $2 allowlist  int8[]
--   $3 most_ids   int4
-- returns: Sendable, many
-- again: safe; reads only
WITH waiting AS (
    SELECT 'delivery' AS kind, d.id::int8 AS id, d.channel, d.user_id, d.created_at::timestamptz AS created_at,
           d.next_retry_at::timestamptz AS next_retry_at
      FROM user_alert_deliveries AS d
     WHERE d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.channel IN ('email', 'telegram', 'sms')
     UNION ALL
    SELECT 'digest', g.id::int8, g.channel, g.user_id, g.created_at::timestamptz, g.next_retry_at::timestamptz
      FROM user_alert_digests AS g
     WHERE g.status = 'queued'
),
judged AS (
    SELECT w.kind, w.id, w.channel, w.created_at,
           CASE WHEN $2::int8[] IS NOT NULL AND w.user_id <> ALL ($2::int8[]) THEN 'not_in_allowlist'
                WHEN w.next_retry_at = 'infinity' THEN 'held'
                WHEN w.next_retry_at > coalesce($1::timestamptz, now()) THEN 'not_due_yet'
                WHEN c.enabled IS FALSE THEN 'channel_disabled'
                WHEN CASE w.channel WHEN 'email' THEN u.email WHEN 'telegram' THEN u.telegram_chat_id
                     ELSE u.phone_number END !~ '\S' IS NOT FALSE THEN 'missing_destination'
                ELSE 'due' END AS state
      FROM waiting AS w
      JOIN users AS u ON u.id = w.user_id
      LEFT JOIN user_channel_preferences AS c ON c.user_id = w.user_id AND c.channel = w.channel
)
SELECT j.kind, j.channel, j.state, count(*) AS count,
       (array_agg(j.id ORDER BY j.created_at, j.id) FILTER (WHERE j.state = 'due'))[1:$3] AS ids
  FROM judged AS j
 GROUP BY j.kind, j.channel, j.state
 ORDER BY j.kind, j.channel, j.state;
