-- Only a table that we made and that nobody filled goes: the application's tables and data are not ours to drop.

DO $$
DECLARE
    source TEXT;
    filled BOOLEAN;
BEGIN
    -- Children before parents.
    FOREACH source IN ARRAY ARRAY[
        'asset_risk', 'risk_indices', 'risk_events', 'events',
        'user_alert_prefs', 'plan_settings', 'user_plans', 'users'
    ]
    LOOP
        CONTINUE WHEN obj_description(to_regclass(source), 'pg_class') IS DISTINCT FROM 'created by alerts-engine';
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', source) INTO filled;
        CONTINUE WHEN filled;
        BEGIN
            EXECUTE format('DROP TABLE %I', source);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE '% stays: another table refers to it', source;
        END;
    END LOOP;
END
$$;
