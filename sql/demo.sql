-- The demo: its ground in the embedded database, its audience, and one day's rows after another (SPEC F-2).

-- name: survey_ground
-- Whose the database is: the demo's own, nobody's, or somebody's.
--   $1 emails  text[]  the demo's users
-- returns: Ground, one
SELECT coalesce(obj_description('public'::regnamespace, 'pg_namespace') = 'alerts-engine demo', FALSE) AS marked,
       NOT (EXISTS (SELECT FROM users)
         OR EXISTS (SELECT FROM events)
         OR EXISTS (SELECT FROM risk_indices)
         OR EXISTS (SELECT FROM asset_risk)
         OR EXISTS (SELECT FROM alert_events)) AS empty,
       EXISTS (SELECT FROM users AS u WHERE u.email <> ALL ($1))
         OR EXISTS (SELECT FROM events AS e WHERE coalesce(e.source_name, '') NOT IN ('Sample data', 'sample')) AS has_strangers;

-- name: mark_ground
-- From now on the database is the demo's, to be cleared at its next start.
-- returns: nothing
COMMENT ON SCHEMA public IS 'alerts-engine demo';

-- name: clear_ground
-- Back to the beginning, ids included. A table of somebody else that refers to these makes it fail.
-- returns: nothing
TRUNCATE users, user_plans, user_alert_prefs, user_alert_quotas, user_notification_settings, user_channel_preferences,
         user_alert_destinations, user_alert_stops, alert_consents,
         events, risk_events, risk_indices, asset_risk,
         alert_events, user_alert_deliveries, user_alert_digests, user_alert_digest_items,
         alerts_engine_runs, alerts_engine_run_items, alerts_engine_outcomes, alerts_engine_attempts
 RESTART IDENTITY;

-- name: add_audience
-- The demo's users with their plans, preferences and settings.
--   $1 audience json_text a list of DemoUser
-- returns: nothing
WITH audience AS MATERIALIZED (
    SELECT a.*
      FROM jsonb_to_recordset($1::text::jsonb) AS a(
               email text, telegram_chat_id text, phone_number text, email_verified bool, plan text,
               digest_only bool, digest_period text, channels_off text[], prefs jsonb)
),
added AS (
    INSERT INTO users (email, telegram_chat_id, phone_number, email_verified)
    SELECT a.email, a.telegram_chat_id, a.phone_number, a.email_verified
      FROM audience AS a
    RETURNING id, email
),
planned AS (
    INSERT INTO user_plans (user_id, plan)
    SELECT u.id, a.plan
      FROM audience AS a
      JOIN added AS u USING (email)
     WHERE a.plan IS NOT NULL
),
preferring AS (
    INSERT INTO user_alert_prefs (user_id, region, alert_type, asset, threshold, enabled, cooldown_minutes)
    SELECT u.id, p.region, p.alert_type, p.asset, p.threshold, p.enabled, p.cooldown_minutes
      FROM audience AS a
      JOIN added AS u USING (email)
     CROSS JOIN LATERAL jsonb_to_recordset(a.prefs) AS p(
               region text, alert_type text, asset text, threshold float8, enabled bool, cooldown_minutes int4)
),
setting AS (
    INSERT INTO user_notification_settings (user_id, digest_only, digest_period)
    SELECT u.id, a.digest_only, a.digest_period
      FROM audience AS a
      JOIN added AS u USING (email)
     WHERE a.digest_only OR a.digest_period IS NOT NULL
)
INSERT INTO user_channel_preferences (user_id, channel, enabled)
SELECT u.id, off.channel, FALSE
  FROM audience AS a
  JOIN added AS u USING (email)
 CROSS JOIN LATERAL unnest(a.channels_off) AS off(channel);

-- name: add_events
-- One day's news, each with its score.
--   $1 events json_text a list of EventRow, each with the fields of its RiskEventRow
-- returns: nothing
WITH news AS MATERIALIZED (
    SELECT n.*
      FROM jsonb_to_recordset($1::text::jsonb) AS n(
               title text, source_name text, source_url text, category text, region text, severity_score int4,
               event_time timestamptz, inserted_at timestamptz, ai_summary text,
               base_severity int4, ai_confidence float8, weighted_score float8)
),
added AS (
    INSERT INTO events
           (title, source_name, source_url, category, region, severity_score, event_time, inserted_at, ai_summary)
    SELECT n.title, n.source_name, n.source_url, n.category, n.region, n.severity_score,
           n.event_time AT TIME ZONE 'UTC', n.inserted_at AT TIME ZONE 'UTC', n.ai_summary
      FROM news AS n
    RETURNING id, source_url
)
INSERT INTO risk_events (event_id, region, category, base_severity, ai_confidence, weighted_score, created_at)
SELECT e.id, n.region, n.category, n.base_severity, n.ai_confidence, n.weighted_score, n.inserted_at AT TIME ZONE 'UTC'
  FROM news AS n
  JOIN added AS e USING (source_url);

-- name: add_scores
-- One day's risk scores.
--   $1 calculated_at  timestamptz
--   $2 indices        json_text    a list of IndexRow
--   $3 asset_risks    json_text    a list of AssetRiskRow
-- returns: nothing
WITH regions AS (
    INSERT INTO risk_indices (region, window_days, risk_score, trend, calculated_at)
    SELECT i.region, i.window_days, i.risk_score, i.trend, $1::timestamptz AT TIME ZONE 'UTC'
      FROM jsonb_to_recordset($2::text::jsonb) AS i(region text, window_days int4, risk_score float8, trend text)
)
INSERT INTO asset_risk (asset, region, window_days, risk_score, direction, calculated_at)
SELECT a.asset, a.region, a.window_days, a.risk_score, a.direction, $1::timestamptz AT TIME ZONE 'UTC'
  FROM jsonb_to_recordset($3::text::jsonb) AS a(asset text, region text, window_days int4, risk_score float8, direction text);

-- name: count_rows
-- What the database holds in the end.
-- returns: Totals, one
SELECT (SELECT count(*) FROM events) AS news,
       (SELECT count(*) FROM alert_events) AS events,
       (SELECT count(*) FROM user_alert_deliveries) AS deliveries,
       (SELECT count(*) FROM user_alert_digests) AS digests,
       (SELECT count(*) FROM user_alert_deliveries AS d WHERE d.status = 'sent')
         + (SELECT count(*) FROM user_alert_digests AS g WHERE g.status = 'sent') AS sent,
       (SELECT count(*) FROM user_alert_deliveries AS d WHERE d.status IN ('queued', 'sending'))
         + (SELECT count(*) FROM user_alert_digests AS g WHERE g.status IN ('queued', 'sending')) AS waiting;

-- name: received
-- What each user got: messages by channel (digests apart), digests, and the alerts in them.
-- returns: Received, many
WITH instants AS (
    SELECT d.user_id,
           count(*) FILTER (WHERE d.channel = 'email') AS email,
           count(*) FILTER (WHERE d.channel = 'telegram') AS telegram,
           count(*) FILTER (WHERE d.channel = 'sms') AS sms
      FROM user_alert_deliveries AS d
     WHERE d.status = 'sent'
     GROUP BY d.user_id
),
digests AS (
    SELECT g.user_id, count(*) AS digests, sum(items.count)::int8 AS alerts
      FROM user_alert_digests AS g
     CROSS JOIN LATERAL (
           SELECT count(*) AS count
             FROM user_alert_digest_items AS i
            WHERE i.digest_id = g.id
           ) AS items
     WHERE g.status = 'sent'
     GROUP BY g.user_id
)
SELECT u.email AS address,
       p.plan,
       coalesce(i.email, 0) AS email,
       coalesce(i.telegram, 0) AS telegram,
       coalesce(i.sms, 0) AS sms,
       coalesce(g.digests, 0) AS digests,
       coalesce(g.alerts, 0) AS digest_items
  FROM users AS u
  LEFT JOIN user_plans AS p ON p.user_id = u.id
  LEFT JOIN instants AS i ON i.user_id = u.id
  LEFT JOIN digests AS g ON g.user_id = u.id
 ORDER BY u.id;
