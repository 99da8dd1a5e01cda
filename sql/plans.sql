-- What each plan allows: the application's plan_settings first, then the built-in map (SPEC B-5).

-- name: resolve_plans
-- One row a plan: the active row of plan_settings where there is one, else the built-in plan.
--   $1 built_in json_text [{plan, per_day: {channel: number or null, …}, digests, alert_types}, …]
--   $2 channels text[]    the registry's
-- returns: Plan, many
-- again: safe; reads only
WITH configured AS (
    SELECT s.plan_code,
           s.delivery_config,
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
       (SELECT jsonb_object_agg(c.channel, CASE
                   -- The number for email holds for every channel that does not send all.
                   WHEN c.channel = 'email' THEN p.email
                   WHEN p.delivery_config -> c.channel -> 'enabled' = 'true' THEN
                        CASE WHEN p.delivery_config -> c.channel -> 'send_all' = 'true' THEN p.per_day ELSE p.email END
               END)
          FROM unnest($2::text[]) AS c(channel))::text AS per_day,
       greatest(1, p.per_day / 4) AS digests,
       p.alert_types
  FROM configured AS p
 UNION ALL
SELECT b.plan, b.per_day::text, b.digests, b.alert_types
  FROM jsonb_to_recordset($1::text::jsonb)
       AS b(plan text, per_day jsonb, digests int4, alert_types text[])
 WHERE b.plan NOT IN (SELECT plan_code FROM configured)
 ORDER BY plan;
