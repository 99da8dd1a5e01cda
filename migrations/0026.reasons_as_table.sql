-- The reasons of 0025 as a table: a function that returns one becomes part of the statement that asks it, so that the
-- claim of an email starts no query of its own for each row. The other one stays for workers of the version before.
CREATE OR REPLACE FUNCTION alert_reasons_for(of_user BIGINT, of_events BIGINT []) RETURNS TABLE (reasons JSONB)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT jsonb_agg(DISTINCT why.reason)
    FROM alert_events AS e
    CROSS JOIN LATERAL (
        SELECT jsonb_build_object('type', left(p.alert_type, 100), 'region', left(p.region, 100),
                                  'asset', CASE WHEN p.alert_type = 'ASSET_RISK_SPIKE' THEN left(p.asset, 100) END)
            AS reason, coalesce(p.cooldown_minutes, 0) AS cooldown, p.id::bigint AS id
        -- Of somebody's million rows a thousand are looked at, and of a digest's alerts a few: a claim must not take long.
        FROM (SELECT f.* FROM user_alert_prefs AS f WHERE f.user_id = of_user LIMIT 1000) AS p
        WHERE p.enabled IS TRUE
          AND p.alert_type = e.alert_type
          AND (nullif(btrim(e.scope_region), '') IS NULL
               OR lower(btrim(p.region)) IN ('global', lower(btrim(e.scope_region))))
          AND (e.alert_type <> 'ASSET_RISK_SPIKE' OR p.asset IS NULL
               OR lower(p.asset) = ANY (lower(e.scope_assets::text)::text[]))
          AND (p.threshold IS NULL OR jsonb_typeof(e.payload -> 'value') IS DISTINCT FROM 'number'
               OR p.threshold <= round(least(greatest((e.payload -> 'value')::numeric, -1e300), 1e300), 100)::float8)
        UNION ALL
        SELECT jsonb_build_object('type', 'HIGH_IMPACT_EVENT', 'region', 'Europe', 'default', TRUE), 0, 0
        WHERE e.alert_type = 'HIGH_IMPACT_EVENT'
          AND NOT EXISTS (SELECT FROM user_alert_prefs AS any_row WHERE any_row.user_id = of_user)
        ORDER BY cooldown, id
        LIMIT 1
    ) AS why
    WHERE e.id = ANY (of_events[:20])
$$;
COMMENT ON FUNCTION alert_reasons_for(BIGINT, BIGINT []) IS 'created by alerts-engine';
