-- REGIONAL_RISK_SPIKE: a region's newest 7-day index is high, or clearly higher than a day ago (SPEC A-2).
--   $1 now        timestamptz
--   $2 time_zone  text
-- An index older than its own window of 7 days says nothing about today and is not looked at. A region that had its
-- event today has another when it reaches a higher severity than any event of it today: one a tier (SPEC A-3a).
WITH newest AS (
    SELECT DISTINCT ON (region) region, risk_score, trend, calculated_at
      FROM risk_indices
     WHERE window_days = 7
       AND risk_score IS NOT NULL
       AND calculated_at <= $1::timestamptz
       AND calculated_at > $1::timestamptz - make_interval(days => 7)
     ORDER BY region, calculated_at DESC, id DESC
),
compared AS (
    SELECT n.region, n.risk_score, n.trend, before.risk_score AS previous
      FROM newest AS n
      LEFT JOIN LATERAL (
           SELECT i.risk_score
             FROM risk_indices AS i
            WHERE i.region = n.region
              AND i.window_days = 7
              AND i.risk_score IS NOT NULL
              AND i.calculated_at <= n.calculated_at - make_interval(hours => 24)
            ORDER BY i.calculated_at DESC, i.id DESC
            LIMIT 1
           ) AS before ON TRUE
),
spikes AS (
    SELECT c.*,
           CASE WHEN c.risk_score >= 90 THEN 5 WHEN c.risk_score >= 80 THEN 4 ELSE 3 END AS severity,
           format('REGIONAL_RISK_SPIKE:%s:%s', c.region, to_char($1::timestamptz AT TIME ZONE $2, 'YYYY-MM-DD')) AS key
      FROM compared AS c
     WHERE c.risk_score >= 70
        -- In numeric, so that exactly 20 % counts whatever the floating point says.
        OR (c.risk_score > c.previous AND c.risk_score::numeric * 100 >= c.previous::numeric * 120)
),
-- The most severe of today's events of the same key; it may be the application's, known by its cooldown key alone.
told_today AS (
    SELECT s.key, told.severity, told.value,
           CASE WHEN told.event_fingerprint = ANY (k.keys) THEN told.event_fingerprint ELSE told.cooldown_key END AS as_key
      FROM spikes AS s
     CROSS JOIN LATERAL (
           SELECT ARRAY[s.key, s.key || ':S1', s.key || ':S2', s.key || ':S3', s.key || ':S4', s.key || ':S5'] AS keys
           ) AS k
     CROSS JOIN LATERAL (
           SELECT e.severity, e.payload -> 'value' AS value, e.event_fingerprint, e.cooldown_key
             FROM alert_events AS e
            WHERE e.event_fingerprint = ANY (k.keys)
               OR e.cooldown_key = ANY (k.keys)
            ORDER BY e.severity DESC, e.id DESC
            LIMIT 1
           ) AS told
),
-- The key: the day's first event has the plain one, an escalation its tier's, and anything else the known event's.
keyed AS (
    SELECT s.*, t.value AS told_value, coalesce(s.severity > t.severity, FALSE) AS escalated,
           CASE WHEN s.severity > t.severity THEN format('%s:S%s', s.key, s.severity)
                ELSE coalesce(t.as_key, s.key) END AS event_key
      FROM spikes AS s
      LEFT JOIN told_today AS t USING (key)
)
SELECT 'REGIONAL_RISK_SPIKE' AS alert_type,
       s.region AS scope_region,
       '{}'::text[] AS scope_assets,
       s.severity,
       format('%s risk index %s %s', s.region, CASE WHEN s.escalated THEN 'rose to' ELSE 'at' END,
              round(s.risk_score::numeric)) AS headline,
       concat_ws(' ',
           format('The 7-day risk index of %s stands at %s of 100%s%s.', s.region, round(s.risk_score::numeric, 1),
                  ' (' || round(s.previous::numeric, 1) || ' a day or more ago)', ', trend ' || s.trend),
           'Main drivers: ' || nullif(drivers.titles, '') || '.') AS body,
       drivers.event_ids AS driver_event_ids,
       s.event_key AS cooldown_key,
       s.event_key AS event_fingerprint,
       jsonb_build_object('value', s.risk_score, 'previous', s.previous, 'trend', s.trend, 'window_days', 7)
       || CASE WHEN s.escalated THEN jsonb_build_object('escalated', TRUE, 'earlier_today', s.told_value) ELSE '{}' END
       AS payload
  FROM keyed AS s
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(top.event_id ORDER BY top.place), '{}') AS event_ids,
              string_agg(top.title, '; ' ORDER BY top.place) AS titles
         FROM (SELECT r.event_id, e.title,
                      row_number() OVER (ORDER BY r.weighted_score DESC NULLS LAST, r.id) AS place
                 FROM risk_events AS r
                 JOIN events AS e ON e.id = r.event_id
                WHERE r.region = s.region
                  AND r.created_at <= $1::timestamptz
                  AND r.created_at > $1::timestamptz - make_interval(days => 7)
                ORDER BY place
                LIMIT 3) AS top
       ) AS drivers
