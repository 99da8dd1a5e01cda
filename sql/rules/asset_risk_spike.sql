-- ASSET_RISK_SPIKE: an asset's newest 7-day risk in a region is high (SPEC A-2).
--   $1 now        timestamptz
--   $2 time_zone  text
-- A score older than its own window of 7 days says nothing about today and is not looked at.
WITH newest AS (
    SELECT DISTINCT ON (region, asset) region, asset, risk_score, direction
      FROM asset_risk
     WHERE window_days = 7
       AND risk_score IS NOT NULL
       AND calculated_at <= $1::timestamptz
       AND calculated_at > $1::timestamptz - make_interval(days => 7)
     ORDER BY region, asset, calculated_at DESC, id DESC
),
spikes AS (
    SELECT n.*, to_char($1::timestamptz AT TIME ZONE $2, 'YYYY-MM-DD') AS day
      FROM newest AS n
     WHERE n.risk_score >= 70
)
SELECT 'ASSET_RISK_SPIKE' AS alert_type,
       s.region AS scope_region,
       ARRAY[s.asset] AS scope_assets,
       CASE WHEN s.risk_score >= 90 THEN 5 WHEN s.risk_score >= 80 THEN 4 ELSE 3 END AS severity,
       format('%s risk in %s at %s', initcap(s.asset), s.region, round(s.risk_score::numeric)) AS headline,
       concat_ws(' ',
           format('The 7-day risk of %s in %s stands at %s of 100%s.', s.asset, s.region,
                  round(s.risk_score::numeric, 1), ', direction ' || s.direction),
           'Main drivers: ' || nullif(drivers.titles, '') || '.') AS body,
       drivers.event_ids AS driver_event_ids,
       format('ASSET_RISK_SPIKE:%s:%s:%s', s.region, s.asset, s.day) AS cooldown_key,
       format('ASSET_RISK_SPIKE:%s:%s:%s', s.region, s.asset, s.day) AS event_fingerprint,
       jsonb_build_object('value', s.risk_score, 'direction', s.direction, 'window_days', 7) AS payload
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
