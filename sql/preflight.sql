-- What preflight asks of a database before a run (SPEC R-1). Reads only.

-- name: missing_tables
-- Which of these tables are not there.
--   $1 names text[]
-- returns: TableName, many
-- again: safe; reads only
SELECT n.name
  FROM unnest($1::text[]) AS n(name)
 WHERE to_regclass(quote_ident(n.name)) IS NULL
 ORDER BY n.name;

-- name: held_deliveries
-- Queued deliveries that the application left behind; they are due never, until an operator says otherwise.
-- returns: Held, one
-- again: safe; reads only
SELECT count(*) AS deliveries
  FROM user_alert_deliveries AS d
 WHERE d.status = 'queued'
   AND d.delivery_kind = 'instant'
   AND d.channel IN ('email', 'telegram', 'sms')
   AND d.next_retry_at = 'infinity';

-- name: unknown_users
-- Which of these users do not exist.
--   $1 user_ids int8[]
-- returns: UnknownUser, many
-- again: safe; reads only
SELECT a.user_id
  FROM unnest($1::int8[]) AS a(user_id)
 WHERE NOT EXISTS (SELECT FROM users AS u WHERE u.id = a.user_id)
 ORDER BY a.user_id;

-- name: odd_plans
-- Plans whose delivery_config has something where another thing belongs; it counts as missing (B-5).
-- returns: OddPlan, many
-- again: safe; reads only
SELECT s.plan_code::text AS plan, array_agg(part.name ORDER BY part.place) AS parts
  FROM plan_settings AS s
 CROSS JOIN LATERAL (
       VALUES (1, 'delivery_config', s.delivery_config, 'object'),
              (2, 'email', s.delivery_config -> 'email', 'object'),
              (3, 'email.max_per_day', s.delivery_config -> 'email' -> 'max_per_day', 'number'),
              (4, 'email.realtime_limit', s.delivery_config -> 'email' -> 'realtime_limit', 'number'),
              (5, 'telegram', s.delivery_config -> 'telegram', 'object'),
              (6, 'telegram.enabled', s.delivery_config -> 'telegram' -> 'enabled', 'boolean'),
              (7, 'telegram.send_all', s.delivery_config -> 'telegram' -> 'send_all', 'boolean'),
              (8, 'sms', s.delivery_config -> 'sms', 'object'),
              (9, 'sms.enabled', s.delivery_config -> 'sms' -> 'enabled', 'boolean'),
              (10, 'sms.send_all', s.delivery_config -> 'sms' -> 'send_all', 'boolean')
       ) AS part(place, name, value, belongs)
 WHERE s.is_active IS NOT FALSE
   AND (jsonb_typeof(part.value) NOT IN (part.belongs, 'null')
        -- Compared as JSON: numbers sort as numbers, and nothing has to be cast that may be none.
        OR jsonb_typeof(part.value) = 'number' AND part.value < '0')
 GROUP BY s.plan_code
 ORDER BY s.plan_code;
