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

-- name: schemas_off_the_path
-- Schemas that have a table of this name, but are not searched: not in the search_path, or closed to this role.
--   $1 name text
-- returns: TableName, many
-- again: safe; reads only
SELECT n.nspname::text AS name
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relname::text = $1
   AND c.relkind IN ('r', 'p')
   AND n.nspname <> ALL (current_schemas(true))
 ORDER BY n.nspname;

-- name: doubled_tables
-- Which of these tables are in several schemas that are searched: the first one is used. Temporary tables come first.
--   $1 names  text[]
--   $2 record text   the record of migrations, which is where the migrated tables are
-- returns: Doubled, many
-- again: safe; reads only
SELECT c.relname::text AS name,
       array_agg(n.nspname::text ORDER BY path.place) AS schemas,
       (SELECT r.relnamespace::regnamespace::text FROM pg_class AS r WHERE r.oid = to_regclass(quote_ident($2)))
           AS migrated
  FROM unnest(current_schemas(true)) WITH ORDINALITY AS path(schema, place)
  JOIN pg_namespace AS n ON n.nspname = path.schema
  JOIN pg_class AS c ON c.relnamespace = n.oid
 WHERE c.relname::text = ANY ($1)
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
 GROUP BY c.relname
HAVING count(*) > 1
 ORDER BY c.relname;

-- name: server_state
-- Whether anything can be written here.
-- returns: ServerState, one
-- again: safe; reads only
SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::bool AS read_only;

-- name: lacking_privileges
-- Which of these privileges this role does not have, and the sequences behind the tables it inserts into. A privilege on
-- some columns counts; identity columns need none on their sequence.
--   $1 names      text[]
--   $2 privileges text[]   one for each name; a name may come several times
-- returns: Lacking, many
-- again: safe; reads only
WITH needed AS (
    SELECT to_regclass(quote_ident(n.name)) AS id, n.name, n.privilege, n.place
      FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n(name, privilege, place)
), lacking AS (
    SELECT n.name, n.privilege, n.place
      FROM needed AS n
     WHERE n.id IS NOT NULL
       AND NOT CASE n.privilege WHEN 'DELETE' THEN has_table_privilege(n.id, 'DELETE')
                                ELSE has_any_column_privilege(n.id, n.privilege) END
     UNION ALL
    SELECT 'sequence ' || s.oid::regclass::text, 'USAGE', n.place
      FROM needed AS n
      JOIN pg_attrdef AS d ON d.adrelid = n.id
      JOIN pg_depend AS p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
      JOIN pg_class AS s ON s.oid = p.refobjid
     WHERE n.privilege = 'INSERT'
       AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') ELSE FALSE END
)
SELECT l.name, array_agg(l.privilege ORDER BY l.place) AS privileges
  FROM lacking AS l
 GROUP BY l.name
 ORDER BY min(l.place);

-- name: row_security
-- Of which of these tables policies may hide rows from this role.
--   $1 names text[]
-- returns: TableName, many
-- again: safe; reads only
SELECT n.name
  FROM unnest($1::text[]) AS n(name)
 WHERE to_regclass(quote_ident(n.name)) IS NOT NULL
   AND row_security_active(to_regclass(quote_ident(n.name)))
 ORDER BY n.name;

-- name: held_deliveries
-- Queued deliveries that the application left behind; they are due never, until an operator says otherwise.
-- returns: Held, one
-- again: safe; reads only
SELECT count(*) AS deliveries
  FROM user_alert_deliveries AS d
 WHERE d.status = 'queued'
   AND d.delivery_kind = 'instant'
   AND d.channel <> 'account'
   AND d.next_retry_at = 'infinity';

-- name: reachable_users
-- How many users the fan-out looks at: each may get alerts, by plan and preferences.
-- returns: UserCount, one
-- again: safe; reads only
SELECT count(*) AS users
  FROM users AS u
 WHERE u.email_verified IS NOT FALSE;

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

-- name: bare_sources
-- Large tables that the built-in rules read by time and that have no index for it: phase A scans them at every run. They
-- are the application's, so an index is its own business; with 500,000 rows, this one takes a run from a second to
-- some milliseconds.
-- returns: BareSource, many
-- again: safe; reads only
SELECT w.name, format('CREATE INDEX CONCURRENTLY ON %s %s', w.name, w.definition) AS remedy
  FROM (VALUES (1, 'events', 'inserted_at', '(inserted_at) WHERE severity_score >= 4'),
               (2, 'risk_events', 'region', '(region, created_at)'),
               (3, 'risk_indices', 'region', '(region, calculated_at DESC) WHERE window_days = 7'),
               (4, 'asset_risk', 'region', '(region, asset, calculated_at DESC) WHERE window_days = 7'))
       AS w(place, name, first_column, definition)
  JOIN pg_class AS c ON c.oid = to_regclass(w.name)
 WHERE c.reltuples >= 100000
   AND NOT EXISTS (
       SELECT
         FROM pg_index AS i
         JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid AND i.indisvalid AND a.attname = w.first_column)
 ORDER BY w.place;
