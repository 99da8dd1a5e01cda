-- What each plan allows: the application's plan_settings first, then the built-in map (SPEC B-5).

-- name: resolve_plans
-- One row a plan: the active row of plan_settings where there is one, else the built-in plan.
--   $1 built_in jsonb   [{plan, email, telegram, sms, digests, alert_types}, …]
-- returns: Plan, many
-- again: safe; reads only
WITH configured AS (
    SELECT s.plan_code,
           s.delivery_config -> 'telegram' AS telegram,
           s.delivery_config -> 'sms' AS sms,
           limits.per_day,
           coalesce(limits.realtime, limits.per_day) AS email,
           coalesce(s.allowed_alert_types, '{}') AS alert_types
      FROM plan_settings AS s
     CROSS JOIN LATERAL (
           -- Whatever is not a number where a number belongs counts as missing.
           SELECT s.delivery_config -> 'email' -> 'max_per_day' AS max_per_day,
                  s.delivery_config -> 'email' -> 'realtime_limit' AS realtime_limit
           ) AS raw
     CROSS JOIN LATERAL (
           SELECT least(greatest(floor(coalesce(
                      CASE WHEN jsonb_typeof(raw.max_per_day) = 'number' THEN raw.max_per_day::numeric END,
                      s.max_email_alerts_per_day,
                      0)), 0), 2147483647)::int4 AS per_day,
                  -- Guarded as a whole: greatest() takes no notice of a NULL.
                  CASE WHEN jsonb_typeof(raw.realtime_limit) = 'number'
                       THEN least(greatest(floor(raw.realtime_limit::numeric), 0), 2147483647)::int4
                  END AS realtime
           ) AS limits
     WHERE s.is_active IS NOT FALSE
)
SELECT plan_code AS plan,
       email,
       CASE WHEN telegram -> 'enabled' = 'true' THEN
            CASE WHEN telegram -> 'send_all' = 'true' THEN per_day ELSE email END
       END AS telegram,
       CASE WHEN sms -> 'enabled' = 'true' THEN
            CASE WHEN sms -> 'send_all' = 'true' THEN per_day ELSE email END
       END AS sms,
       greatest(1, per_day / 4) AS digests,
       alert_types
  FROM configured
 UNION ALL
SELECT b.plan, b.email, b.telegram, b.sms, b.digests, b.alert_types
  FROM jsonb_to_recordset($1)
       AS b(plan text, email int4, telegram int4, sms int4, digests int4, alert_types text[])
 WHERE b.plan NOT IN (SELECT plan_code FROM configured)
 ORDER BY plan;
