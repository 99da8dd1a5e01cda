-- HIGH_IMPACT_EVENT: a severe news event of the last 24 hours, once per source event (SPEC A-2).
--   $1 now  timestamptz
SELECT 'HIGH_IMPACT_EVENT' AS alert_type,
       e.region AS scope_region,
       '{}'::text[] AS scope_assets,
       e.severity_score AS severity,
       CASE WHEN e.title ~ '\S' THEN e.title ELSE 'Untitled event' END AS headline,
       coalesce(nullif(btrim(e.ai_summary), ''), left(btrim(e.raw_text), 1000), '') AS body,
       ARRAY[e.id] AS driver_event_ids,
       format('HIGH_IMPACT_EVENT:%s', e.id) AS cooldown_key,
       format('HIGH_IMPACT_EVENT:%s', e.id) AS event_fingerprint,
       jsonb_build_object('category', e.category, 'source', e.source_name, 'source_url', e.source_url) AS payload
  FROM events AS e
 WHERE e.severity_score >= 4
   AND e.inserted_at <= $1::timestamptz
   AND e.inserted_at > $1::timestamptz - make_interval(hours => 24)
 ORDER BY e.inserted_at, e.id
