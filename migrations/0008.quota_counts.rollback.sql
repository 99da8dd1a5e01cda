DO $$
BEGIN
    IF obj_description(to_regclass('user_alert_quotas'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_alert_quotas;
    END IF;
END
$$;
