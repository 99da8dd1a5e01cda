-- ASSET_RISK_SPIKE: an asset's newest 7-day risk in a region is high (SPEC A-2).
--   $1 now        timestamptz
--   $2 time_zone  text
-- A score older than its own window of 7 days says nothing about today and is not looked at. An asset that had its
-- event today has another when it reaches a higher severity than any event of it today: one a tier (SPEC A-3a).
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
    SELECT n.*,
           CASE WHEN n.risk_score >= 90 THEN 5 WHEN n.risk_score >= 80 THEN 4 ELSE 3 END AS severity,
           format('ASSET_RISK_SPIKE:%s:%s:%s', n.region, n.asset,
                  to_char($1::timestamptz AT TIME ZONE $2, 'YYYY-MM-DD')) AS key
      FROM newest AS n
     WHERE n.risk_score >= 70
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
SELECT 'ASSET_RISK_SPIKE' AS alert_type,
       s.region AS scope_region,
       ARRAY[s.asset] AS scope_assets,
       s.severity,
       format('%s risk in %s %s %s', initcap(s.asset), s.region, CASE WHEN s.escalated THEN 'rose to' ELSE 'at' END,
              round(s.risk_score::numeric)) AS headline,
       concat_ws(' ',
           format('The 7-day risk of %s in %s stands at %s of 100%s.', s.asset, s.region,
                  round(s.risk_score::numeric, 1), ', direction ' || s.direction),
           'Main drivers: ' || nullif(drivers.titles, '') || '.') AS body,
       drivers.event_ids AS driver_event_ids,
       s.event_key AS cooldown_key,
       s.event_key AS event_fingerprint,
       jsonb_build_object('value', s.risk_score, 'direction', s.direction, 'window_days', 7)
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
