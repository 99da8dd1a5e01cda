-- ASSET_RISK_SPIKE: an asset's newest 7-day risk in a region is high (SPEC A-2).
--   $1 now        timestamptz
--   $2 time_zone  text
-- A score older than its own window of 7 days says nothing about today and is not looked at. An asset that had its
-- event today has another when it reaches a higher severity than any event of it today: one a tier (SPEC A-3a).
WITH newest AS (
    SELECT DISTINCT ON (region, asset) region, asset, risk_score, direction, calculated_at
      FROM asset_risk
     WHERE window_days = 7
       AND risk_score IS NOT NULL
       AND calculated_at <= $1::timestamptz
       AND calculated_at > $1::timestamptz - make_interval(days => 7)
     ORDER BY region, asset, calculated_at DESC, id DESC
),
spikes AS (
    SELECT n.*, before.risk_score AS previous, before.calculated_at AS previous_at,
           CASE WHEN n.risk_score >= 90 THEN 5 WHEN n.risk_score >= 80 THEN 4 ELSE 3 END AS severity,
           format('ASSET_RISK_SPIKE:%s:%s:%s', n.region, n.asset,
                  to_char($1::timestamptz AT TIME ZONE $2, 'YYYY-MM-DD')) AS key
      FROM newest AS n
      LEFT JOIN LATERAL (
           SELECT a.risk_score, a.calculated_at
             FROM asset_risk AS a
            WHERE a.region = n.region
              AND a.asset = n.asset
              AND a.window_days = 7
              AND a.risk_score IS NOT NULL
              AND a.calculated_at <= n.calculated_at - make_interval(hours => 24)
            ORDER BY a.calculated_at DESC, a.id DESC
            LIMIT 1
           ) AS before ON TRUE
     WHERE n.risk_score >= 70
),
-- The most severe of today's events of the same key; it may be the application's, known by its cooldown key alone.
told_today AS (
    SELECT s.key, told.severity, told.value, told.at,
           CASE WHEN told.event_fingerprint = ANY (k.keys) THEN told.event_fingerprint ELSE told.cooldown_key END AS as_key
      FROM spikes AS s
     CROSS JOIN LATERAL (
           SELECT ARRAY[s.key, s.key || ':S1', s.key || ':S2', s.key || ':S3', s.key || ':S4', s.key || ':S5'] AS keys
           ) AS k
     CROSS JOIN LATERAL (
           SELECT e.severity, e.event_fingerprint, e.cooldown_key,
                  CASE WHEN jsonb_typeof(e.payload -> 'value') = 'number' THEN (e.payload ->> 'value')::numeric END AS value,
                  to_char(e.created_at::timestamptz AT TIME ZONE $2, 'HH24:MI') AS at
             FROM alert_events AS e
            WHERE e.event_fingerprint = ANY (k.keys)
               OR e.cooldown_key = ANY (k.keys)
            ORDER BY e.severity DESC, e.id DESC
            LIMIT 1
           ) AS told
),
-- The key: the day's first event has the plain one, an escalation its tier's, and anything else the known event's.
keyed AS (
    SELECT s.*, t.value AS told_value, t.at AS told_at, coalesce(s.severity > t.severity, FALSE) AS escalated,
           CASE WHEN s.severity > t.severity THEN format('%s:S%s', s.key, s.severity)
                ELSE coalesce(t.as_key, s.key) END AS event_key
      FROM spikes AS s
      LEFT JOIN told_today AS t USING (key)
),
-- The words. A number is cut, not rounded: 89.9 must not read as 90, where the next severity begins.
said AS (
    SELECT k.*,
           format('%s%s %s risk', upper(left(k.region, 1)), substr(k.region, 2),
                  CASE lower(k.asset) WHEN 'fx' THEN 'FX' ELSE lower(k.asset) END) AS what,
           CASE WHEN k.risk_score >= 80 THEN 'high' ELSE 'elevated' END AS level,
           trunc(k.risk_score::numeric) AS score,
           trunc(k.previous::numeric) AS score_before,
           trunc(k.told_value) AS score_told,
           k.risk_score - k.previous AS change,
           CASE WHEN between_.peak >= greatest(k.risk_score, k.previous) + 1 THEN trunc(between_.peak::numeric) END AS peak,
           k.previous_day = k.today - 1 AS since_yesterday,
           CASE WHEN k.previous_day = k.today - 1 AND abs(k.risk_score - k.previous) >= 1 AND between_.differs
                THEN 'a day ago'
                WHEN k.previous_day = k.today - 1 THEN 'yesterday'
                WHEN k.previous_day > k.today - 7 THEN to_char(k.previous_day, 'FMDay')
                ELSE to_char(k.previous_day, 'FMDD FMMonth') END AS since
      FROM (SELECT d.*,
                   ($1::timestamptz AT TIME ZONE $2)::date AS today,
                   d.calculated_at::timestamptz AT TIME ZONE $2 AS calculated,
                   (d.previous_at::timestamptz AT TIME ZONE $2)::date AS previous_day
              FROM keyed AS d) AS k
     CROSS JOIN LATERAL (
           -- What came after the value that it is compared with: where that differs, "yesterday" had several values.
           SELECT max(a.risk_score) AS peak, bool_or(abs(a.risk_score - k.previous) >= 1) AS differs
             FROM asset_risk AS a
            WHERE a.region = k.region
              AND a.asset = k.asset
              AND a.window_days = 7
              AND a.calculated_at > k.previous_at
              AND a.calculated_at < k.calculated_at
           ) AS between_
),
-- The headline, but for the day that it ends with: a digest is read on another one, when "yesterday" is not true.
headed AS (
    SELECT s.*,
           s.what || CASE
               WHEN s.escalated AND s.score_told < s.score
               THEN format(' rises to %s, from %s at %s', s.score, s.score_told, s.told_at)
               WHEN s.escalated AND s.change >= 1
               THEN format(' rises to %s, up from %s ', s.score, s.score_before)
               WHEN s.escalated THEN format(' rises to %s', s.score)
               WHEN s.previous IS NULL THEN format(' at %s', s.score)
               WHEN abs(s.change) < 1 THEN format(' %s, little changed since ', s.score)
               WHEN s.change > 0 THEN format(' %s, up from %s ', s.score, s.score_before)
               ELSE format(' %s, still %s, down from %s ', s.score, s.level, s.score_before) END AS begins,
           CASE WHEN s.previous IS NULL OR (s.escalated AND (s.score_told < s.score OR s.change < 1)) THEN ''
                WHEN abs(s.change) < 1 OR s.since_yesterday THEN s.since
                ELSE 'on ' || s.since END AS ends
      FROM said AS s
)
SELECT 'ASSET_RISK_SPIKE' AS alert_type,
       s.region AS scope_region,
       ARRAY[s.asset] AS scope_assets,
       s.severity,
       s.begins || s.ends AS headline,
       concat_ws(E'\n',
           'Drivers: ' || drivers.titles || '.',
           'In between it stood at ' || s.peak || '.',
           CASE WHEN s.risk_score >= 100 THEN 'The top of its scale.'
                WHEN s.risk_score >= 90 THEN 'The highest level on a scale of 0 to 100.'
                WHEN s.risk_score >= 80 THEN 'On a scale of 0 to 100, critical begins at 90.'
                ELSE 'On a scale of 0 to 100, high begins at 80.' END,
           CASE s.direction WHEN 'up' THEN 'Prices point up.' WHEN 'down' THEN 'Prices point down.'
                            WHEN 'mixed' THEN 'Price signals are mixed.' END,
           CASE WHEN drivers.titles IS NULL THEN 'No single news event of the past week stands behind it.' END,
           CASE WHEN s.calculated::date < s.today
                THEN format('As of %s.', to_char(s.calculated, 'FMDD FMMonth, HH24:MI')) END) AS body,
       drivers.event_ids AS driver_event_ids,
       s.event_key AS cooldown_key,
       s.event_key AS event_fingerprint,
       jsonb_build_object('value', s.risk_score, 'previous', s.previous, 'direction', s.direction, 'window_days', 7,
                          'what', s.what, 'digest_headline', s.begins || replace(replace(s.ends, 'yesterday', 'the day before'), 'a day ago', 'a day before'))
       || CASE WHEN s.escalated THEN jsonb_build_object('escalated', TRUE, 'earlier_today', s.told_value) ELSE '{}' END
       AS payload
  FROM headed AS s
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(top.event_id ORDER BY top.place), '{}') AS event_ids,
              string_agg(top.title, '; ' ORDER BY top.place) FILTER (WHERE top.title <> '') AS titles
         FROM (SELECT r.event_id, btrim(regexp_replace(e.title, '\s+', ' ', 'g'), ' .;') AS title,
                      row_number() OVER (ORDER BY r.weighted_score DESC NULLS LAST, r.id) AS place
                 FROM risk_events AS r
                 JOIN events AS e ON e.id = r.event_id
                WHERE r.region = s.region
                  AND r.created_at <= $1::timestamptz
                  AND r.created_at > $1::timestamptz - make_interval(days => 7)
                ORDER BY place
                LIMIT 3) AS top
       ) AS drivers
