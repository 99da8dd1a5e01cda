DO $$
BEGIN
    IF obj_description(to_regclass('user_channel_preferences'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_channel_preferences;
    END IF;
    IF obj_description(to_regclass('user_notification_settings'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE user_notification_settings;
    END IF;
END
$$;
