-- REGIONAL_RISK_SPIKE: a region's newest 7-day index is high, or clearly higher than a day ago (SPEC A-2).
--   $1 now        timestamptz
--   $2 time_zone  text
-- An index older than its own window of 7 days says nothing about today and is not looked at.
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
    SELECT c.*, to_char($1::timestamptz AT TIME ZONE $2, 'YYYY-MM-DD') AS day
      FROM compared AS c
     WHERE c.risk_score >= 70
        -- In numeric, so that exactly 20 % counts whatever the floating point says.
        OR (c.risk_score > c.previous AND c.risk_score::numeric * 100 >= c.previous::numeric * 120)
)
SELECT 'REGIONAL_RISK_SPIKE' AS alert_type,
       s.region AS scope_region,
       '{}'::text[] AS scope_assets,
       CASE WHEN s.risk_score >= 90 THEN 5 WHEN s.risk_score >= 80 THEN 4 ELSE 3 END AS severity,
       format('%s risk index at %s', s.region, round(s.risk_score::numeric)) AS headline,
       concat_ws(' ',
           format('The 7-day risk index of %s stands at %s of 100%s%s.', s.region, round(s.risk_score::numeric, 1),
                  ' (' || round(s.previous::numeric, 1) || ' a day or more ago)', ', trend ' || s.trend),
           'Main drivers: ' || nullif(drivers.titles, '') || '.') AS body,
       drivers.event_ids AS driver_event_ids,
       format('REGIONAL_RISK_SPIKE:%s:%s', s.region, s.day) AS cooldown_key,
       format('REGIONAL_RISK_SPIKE:%s:%s', s.region, s.day) AS event_fingerprint,
       jsonb_build_object('value', s.risk_score, 'previous', s.previous, 'trend', s.trend, 'window_days', 7) AS payload
  FROM spikes AS s
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
