-- The application's tables stay, with all their rows.

DO $$
BEGIN
    IF obj_description(to_regclass('user_alert_deliveries'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_alert_deliveries;
    END IF;
    IF obj_description(to_regclass('alert_events'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE alert_events;
    END IF;
END
$$;
