-- Phase B: every pending event becomes deliveries for the users whose plan, preferences and quota say so (SPEC section 6).
--
-- The audience is taken in pages of users, each in a transaction of its own: lock, fan_out_page, advance. A kill between
-- two pages leaves fanout_position at the last committed one, and the next run goes on from there (B-2).

-- name: pending_events
-- The oldest events that wait for their fan-out.
--   $1 now        timestamptz
--   $2 since      interval     NULL: no limit
--   $3 most       int8
-- returns: PendingEvent, many
-- again: safe; reads only
SELECT e.id::int8 AS id, e.fanout_position
  FROM alert_events AS e
 WHERE e.fanout_completed_at IS NULL
   AND ($2::interval IS NULL OR e.created_at > $1::timestamptz - $2::interval)
 ORDER BY e.created_at, e.id
 LIMIT $3;

-- name: events_outside_window
-- How many events were never fanned out and are too old to be now (B-1).
--   $1 now        timestamptz
--   $2 since      interval     NULL: no limit, so none
-- returns: Count, one
-- again: safe; reads only
SELECT count(*) AS count
  FROM alert_events AS e
 WHERE e.fanout_completed_at IS NULL
   AND e.created_at <= $1::timestamptz - $2::interval;

-- name: audience_size
-- About how many users there are, for the progress bar.
-- returns: Count, one
-- again: safe; reads only
SELECT greatest(c.reltuples, 0)::int8 AS count
  FROM pg_class AS c
 WHERE c.oid = 'users'::regclass;

-- name: begin_page
-- One page at a time in the whole database, whatever happens to the phase lock: reading a quota and using it up is
-- exclusive until the commit (B-7). The lock is the transaction's own, so it also holds behind a pooler.
--   $1 key int8
-- returns: nothing
-- locks: the fan-out, until the end of the transaction
SELECT pg_advisory_xact_lock($1),
       -- The page's statement is planned for its values; its joins are between sets that the planner cannot estimate.
       set_config('plan_cache_mode', 'force_custom_plan', TRUE),
       set_config('enable_nestloop', 'off', TRUE),
       set_config('enable_mergejoin', 'off', TRUE),
       set_config('work_mem', '64MB', TRUE);

-- name: fan_out_page
-- Decide for each of the events and each user of one page, per channel, and make the deliveries.
-- explain runs it with record = false: then nothing is written and the decisions come back, with their facts.
--   $1 event_ids  int8[]
--   $2 after_user int8         the page begins behind this user
--   $3 page_size  int8
--   $4 now        timestamptz
--   $5 time_zone  text         whose day the quotas count
--   $6 plans      jsonb        what resolve_plans returned
--   $7 allowlist  int8[]       NULL: everybody
--   $8 record     bool
-- returns: FanOutPage, one
-- locks: key share on the users and events referred to; nothing that stops the application from writing to them
-- again: safe; users up to an event's fanout_position are passed over, and so is every delivery that exists
WITH day AS (
    SELECT today,
           today::timestamp AT TIME ZONE $5 AS starts,
           (today + 1)::timestamp AT TIME ZONE $5 AS ends
      FROM (SELECT ($4::timestamptz AT TIME ZONE $5)::date AS today) AS local
),
plans AS MATERIALIZED (
    SELECT p.*
      FROM jsonb_to_recordset($6)
           AS p(plan text, email int4, telegram int4, sms int4, digests int4, alert_types text[])
),
events AS MATERIALIZED (
    SELECT e.id, e.alert_type, e.fanout_position, e.cooldown_key,
           nullif(lower(btrim(e.scope_region)), '') AS region,
           lower(e.scope_assets::text)::text[] AS assets,
           CASE WHEN jsonb_typeof(e.payload -> 'value') = 'number'
                THEN (e.payload -> 'value')::float8 END AS value,
           row_number() OVER (ORDER BY e.severity DESC, e.created_at, e.id) AS quota_rank,
           row_number() OVER (ORDER BY e.created_at, e.id) AS age_rank,
           count(*) OVER (PARTITION BY e.cooldown_key) > 1 AS has_twin
      FROM alert_events AS e
     WHERE e.id = ANY ($1)
       AND (NOT $8 OR e.fanout_completed_at IS NULL)
),
page AS MATERIALIZED (
    SELECT u.id, u.email, u.telegram_chat_id, u.phone_number, u.email_verified
      FROM users AS u
     WHERE u.id > $2::int8
     ORDER BY u.id
     LIMIT $3
),
bounds AS MATERIALIZED (
    SELECT max(id) AS last_user, count(*) AS users FROM page
),
-- What a plan allows for an event, per channel: a handful of rows, so that a user needs one look-up.
lanes AS MATERIALIZED (
    SELECT e.id AS event_id, p.plan, s.digest_only, c.channel, c.per_day, k.kind,
           NOT (e.alert_type = ANY (p.alert_types) OR 'ALL' = ANY (p.alert_types)) AS type_refused,
           coalesce(e.alert_type = ANY (p.alert_types) OR 'ALL' = ANY (p.alert_types), FALSE)
           AND c.per_day IS NOT NULL
           AND (k.kind = 'instant' OR (c.channel <> 'sms' AND p.digests > 0)) AS allowed
      FROM events AS e
     CROSS JOIN plans AS p
     CROSS JOIN (VALUES (FALSE), (TRUE)) AS s(digest_only)
     CROSS JOIN LATERAL (VALUES ('email', p.email), ('telegram', p.telegram), ('sms', p.sms)) AS c(channel, per_day)
     CROSS JOIN LATERAL (
           SELECT CASE WHEN p.plan = 'free' OR s.digest_only OR c.per_day = 0
                       THEN 'digest' ELSE 'instant' END AS kind
           ) AS k
),
members AS MATERIALIZED (
    SELECT u.id AS user_id, u.email, u.telegram_chat_id, u.phone_number,
           coalesce(p.plan, 'free') AS plan,
           coalesce(s.digest_only, FALSE) AS digest_only
      FROM page AS u
      LEFT JOIN user_plans AS up ON up.user_id = u.id AND up.user_id > $2
      LEFT JOIN plans AS p ON p.plan = up.plan
      LEFT JOIN user_notification_settings AS s ON s.user_id = u.id AND s.user_id > $2
     WHERE u.email_verified IS NOT FALSE
       AND ($7::int8[] IS NULL OR u.id = ANY ($7))
),
preferences AS MATERIALIZED (
    SELECT f.id, f.user_id, f.enabled, f.alert_type, f.asset, f.threshold, f.cooldown_minutes,
           lower(btrim(f.region)) AS region
      FROM user_alert_prefs AS f
     WHERE f.user_id > $2
       AND f.user_id <= (SELECT last_user FROM bounds)
),
checked_preferences AS (
    SELECT f.id, f.user_id, e.id AS event_id,
           greatest(coalesce(f.cooldown_minutes, 0), 0) AS cooldown_minutes,
           c.*
      FROM preferences AS f
     CROSS JOIN events AS e
     CROSS JOIN LATERAL (
           SELECT f.enabled IS TRUE AS enabled,
                  f.alert_type = e.alert_type AS type_matches,
                  e.region IS NULL OR f.region IN ('global', e.region) AS region_matches,
                  e.alert_type <> 'ASSET_RISK_SPIKE' OR f.asset IS NULL OR lower(f.asset) = ANY (e.assets) AS asset_matches,
                  f.threshold IS NULL OR e.value IS NULL OR f.threshold <= e.value AS threshold_matches
           ) AS c
),
-- Rows that match differ in their cooldown alone, so the one with the shortest decides.
matching AS (
    SELECT user_id, event_id, min(cooldown_minutes) AS cooldown_minutes
      FROM checked_preferences
     WHERE enabled AND type_matches AND region_matches AND asset_matches AND threshold_matches
     GROUP BY user_id, event_id
     UNION ALL
    SELECT m.user_id, e.id, 0
      FROM members AS m
     CROSS JOIN events AS e
     WHERE e.alert_type = 'HIGH_IMPACT_EVENT'
       AND (e.region IS NULL OR e.region = 'europe')
       AND NOT EXISTS (SELECT FROM preferences AS f WHERE f.user_id = m.user_id)
),
-- When the user last heard of another event with the same cooldown key.
last_heard AS (
    SELECT e.id AS event_id, d.user_id, max(d.created_at) AS heard_at
      FROM events AS e
      JOIN alert_events AS other ON other.cooldown_key = e.cooldown_key AND other.id <> e.id
      JOIN user_alert_deliveries AS d
           ON d.alert_event_id = other.id
          AND d.user_id > $2
          AND d.user_id <= (SELECT last_user FROM bounds)
          AND d.channel <> 'account'
          AND ($8 OR d.created_at <= $4::timestamptz)
     GROUP BY e.id, d.user_id
),
pairs AS MATERIALIZED (
    SELECT m.*, e.id AS event_id, e.quota_rank, e.age_rank, e.cooldown_key, e.has_twin,
           f.cooldown_minutes, h.heard_at,
           f.cooldown_minutes IS NOT NULL AS preferred,
           coalesce(h.heard_at > $4::timestamptz - make_interval(mins => f.cooldown_minutes), FALSE) AS cooling
      FROM members AS m
      JOIN events AS e ON m.user_id > e.fanout_position OR NOT $8
      LEFT JOIN matching AS f ON f.user_id = m.user_id AND f.event_id = e.id
      LEFT JOIN last_heard AS h ON h.user_id = m.user_id AND h.event_id = e.id
),
switched_off AS (
    SELECT c.user_id, c.channel
      FROM user_channel_preferences AS c
     WHERE c.enabled IS FALSE
       AND c.user_id > $2
       AND c.user_id <= (SELECT last_user FROM bounds)
),
existing AS (
    SELECT d.alert_event_id, d.user_id, d.channel
      FROM user_alert_deliveries AS d
     WHERE $8
       AND d.alert_event_id = ANY ($1)
       AND d.user_id > $2
       AND d.user_id <= (SELECT last_user FROM bounds)
     GROUP BY d.alert_event_id, d.user_id, d.channel
),
considered AS MATERIALIZED (
    SELECT p.user_id, p.event_id, p.quota_rank, p.age_rank, p.cooldown_key, p.has_twin, p.cooldown_minutes,
           p.heard_at, p.preferred, p.cooling, p.plan,
           l.channel, l.kind, l.per_day, l.allowed, l.type_refused,
           off.user_id IS NOT NULL AS switched_off,
           CASE l.channel WHEN 'email' THEN p.email WHEN 'telegram' THEN p.telegram_chat_id ELSE p.phone_number END
               !~ '\S' IS NOT FALSE AS missing_destination
      FROM pairs AS p
      JOIN lanes AS l
           ON l.event_id = p.event_id AND l.plan = p.plan AND l.digest_only = p.digest_only
          AND (l.allowed OR NOT $8)
      LEFT JOIN switched_off AS off ON off.user_id = p.user_id AND off.channel = l.channel
      LEFT JOIN existing AS x
           ON x.user_id = p.user_id AND x.alert_event_id = p.event_id AND x.channel = l.channel
     WHERE x.user_id IS NULL
),
-- Within one run the older of two events with one cooldown key goes first (B-4).
first_heard AS (
    SELECT c.user_id, c.cooldown_key, min(c.age_rank) AS age_rank
      FROM considered AS c
     WHERE c.has_twin
       AND c.allowed AND c.preferred AND NOT c.cooling AND NOT c.switched_off AND NOT c.missing_destination
     GROUP BY c.user_id, c.cooldown_key
),
screened AS (
    SELECT c.*,
           CASE WHEN NOT c.allowed THEN 'plan'
                WHEN NOT c.preferred OR c.cooling OR c.switched_off
                  OR (c.cooldown_minutes > 0 AND f.age_rank < c.age_rank) THEN 'prefs'
                WHEN c.missing_destination THEN 'missing_destination'
           END AS refusal,
           f.age_rank < c.age_rank AS twin_goes_first
      FROM considered AS c
      LEFT JOIN first_heard AS f ON c.has_twin AND f.user_id = c.user_id AND f.cooldown_key = c.cooldown_key
),
freed AS (
    SELECT d.user_id, d.channel, count(*) AS deliveries
      FROM user_alert_deliveries AS d
     WHERE d.quota_day = (SELECT today FROM day)
       AND d.status IN ('failed', 'skipped')
       AND d.user_id > $2
       AND d.user_id <= (SELECT last_user FROM bounds)
     GROUP BY d.user_id, d.channel
),
ranked AS (
    SELECT s.*,
           row_number() OVER (PARTITION BY s.user_id, s.channel, s.kind, s.refusal IS NULL ORDER BY s.quota_rank) AS place
      FROM screened AS s
),
-- What is used of a quota costs one index probe, not a count of the day: the newest delivery's ordinal, and the few rows
-- that others wrote, less the few that failed. That can only be too high (after a DELETE), so a count is made where it
-- would refuse.
counted AS (
    SELECT r.*, newest.ordinal,
           CASE WHEN r.kind = 'digest' OR r.refusal IS NOT NULL THEN NULL
                WHEN $8 AND estimate.used + r.place <= r.per_day THEN estimate.used
                ELSE (SELECT count(*)
                        FROM user_alert_deliveries AS d
                       WHERE d.user_id = r.user_id
                         AND d.channel = r.channel
                         AND d.delivery_kind = 'instant'
                         AND d.status IN ('queued', 'sending', 'sent')
                         AND d.created_at >= day.starts
                         AND d.created_at < day.ends
                         AND ($8 OR (d.created_at <= $4::timestamptz AND d.alert_event_id <> r.event_id))
                         AND (d.quota_day IS NULL OR d.quota_day BETWEEN day.today - 1 AND day.today + 1))
           END AS used
      FROM ranked AS r
     CROSS JOIN day
      LEFT JOIN LATERAL (
           SELECT d.quota_ordinal AS ordinal
             FROM user_alert_deliveries AS d
            WHERE r.kind = 'instant'
              AND r.refusal IS NULL
              AND d.user_id = r.user_id
              AND d.channel = r.channel
              AND d.quota_day = day.today
              AND d.quota_ordinal IS NOT NULL
            ORDER BY d.quota_ordinal DESC
            LIMIT 1
           ) AS newest ON TRUE
      LEFT JOIN LATERAL (
           SELECT count(*) AS deliveries
             FROM user_alert_deliveries AS d
            WHERE r.kind = 'instant'
              AND r.refusal IS NULL
              AND d.user_id = r.user_id
              AND d.channel = r.channel
              AND d.delivery_kind = 'instant'
              AND d.quota_day IS NULL
              AND d.status IN ('queued', 'sending', 'sent')
              AND d.created_at >= day.starts
              AND d.created_at < day.ends
           ) AS uncounted ON TRUE
      LEFT JOIN freed ON freed.user_id = r.user_id AND freed.channel = r.channel
     CROSS JOIN LATERAL (
           SELECT coalesce(newest.ordinal, 0) + uncounted.deliveries - coalesce(freed.deliveries, 0) AS used
           ) AS estimate
),
decided AS MATERIALIZED (
    SELECT c.*,
           coalesce(c.refusal, CASE WHEN c.kind = 'instant' AND c.used + c.place > c.per_day THEN 'quota' END) AS reason
      FROM counted AS c
),
delivered AS (
    INSERT INTO user_alert_deliveries
           (user_id, alert_event_id, channel, delivery_kind, created_at, quota_day, quota_ordinal)
    SELECT d.user_id, d.event_id, d.channel, d.kind, $4,
           CASE WHEN d.kind = 'instant' THEN (SELECT today FROM day) END,
           CASE WHEN d.kind = 'instant' THEN coalesce(d.ordinal, 0) + d.place END
      FROM decided AS d
     WHERE $8
       AND d.reason IS NULL
        ON CONFLICT DO NOTHING
    RETURNING delivery_kind
),
made AS (
    SELECT count(*) AS deliveries, count(*) FILTER (WHERE delivery_kind = 'digest') AS digests FROM delivered
),
refused AS (
    SELECT count(*) FILTER (WHERE reason = 'prefs') AS prefs,
           count(*) FILTER (WHERE reason = 'missing_destination') AS missing_destination,
           count(*) FILTER (WHERE reason = 'quota') AS quota
      FROM decided
),
-- The channels that a plan refuses are counted by group of users, never one by one.
groups AS (
    SELECT p.event_id, p.plan, p.digest_only, count(*) AS users FROM pairs AS p GROUP BY p.event_id, p.plan, p.digest_only
),
refused_by_plan AS (
    SELECT coalesce(sum(g.users), 0)::int8 AS decisions
      FROM groups AS g
      JOIN lanes AS l USING (event_id, plan, digest_only)
     WHERE NOT l.allowed
),
refused_existing AS (
    SELECT count(*) AS decisions
      FROM existing AS x
      JOIN pairs AS p ON p.user_id = x.user_id AND p.event_id = x.alert_event_id
      JOIN lanes AS l
           ON l.event_id = p.event_id AND l.plan = p.plan AND l.digest_only = p.digest_only AND l.channel = x.channel
     WHERE NOT l.allowed
),
outside_allowlist AS (
    SELECT count(*) AS pairs
      FROM page AS u
      JOIN events AS e ON u.id > e.fanout_position
     WHERE u.email_verified IS NOT FALSE
       AND u.id <> ALL ($7::int8[])
)
SELECT coalesce(b.last_user, $2)::int8 AS last_user,
       b.users = $3 AS more,
       b.users AS users,
       (SELECT count(*) FROM pairs) + outside.pairs AS users_considered,
       made.deliveries - made.digests AS created_instant,
       made.digests AS created_digest,
       refused_by_plan.decisions - refused_existing.decisions AS skipped_plan,
       refused.prefs AS skipped_prefs,
       refused.missing_destination AS skipped_missing_dest,
       refused.quota AS skipped_quota,
       outside.pairs AS users_skipped_allowlist,
       CASE WHEN NOT $8 THEN (
           SELECT jsonb_agg(jsonb_build_object(
                      'event_id', d.event_id, 'user_id', d.user_id, 'channel', d.channel, 'kind', d.kind,
                      'reason', d.reason, 'plan', d.plan, 'type_refused', d.type_refused, 'per_day', d.per_day,
                      'preferred', d.preferred, 'switched_off', d.switched_off, 'cooldown_minutes', d.cooldown_minutes,
                      'heard_at', d.heard_at, 'cooling', d.cooling, 'missing_destination', d.missing_destination,
                      'used', d.used) ORDER BY d.event_id, d.channel)
             FROM decided AS d)
       END AS decisions,
       CASE WHEN NOT $8 THEN (
           SELECT jsonb_agg(to_jsonb(c) ORDER BY c.event_id, c.id) FROM checked_preferences AS c)
       END AS preferences
  FROM bounds AS b, made, refused, refused_by_plan, refused_existing, outside_allowlist AS outside;

-- name: advance_fan_out
-- Note how far the fan-out of these events has come; at the end of the audience, mark them completed.
--   $1 event_ids int8[]
--   $2 last_user int8
--   $3 completed bool
--   $4 now       timestamptz
-- returns: Count, one
-- locks: the events' rows
-- again: safe; it never goes back, and a completed event stays as it is
WITH advanced AS (
    UPDATE alert_events AS e
       SET fanout_position = greatest(e.fanout_position, $2),
           fanout_completed_at = CASE WHEN $3 THEN $4::timestamptz END
     WHERE e.id = ANY ($1)
       AND e.fanout_completed_at IS NULL
    RETURNING e.id
)
SELECT count(*) AS count FROM advanced;
