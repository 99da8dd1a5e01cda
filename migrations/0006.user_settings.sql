-- What a user chose about alerts as a whole (SPEC DB-6, B-4, B-6, D-2). No row means the defaults.

DO $$
BEGIN
    IF to_regclass('user_notification_settings') IS NULL THEN
        CREATE TABLE user_notification_settings (
            user_id INT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
            digest_only BOOLEAN NOT NULL DEFAULT FALSE,
            digest_period TEXT CHECK (digest_period IN ('daily', 'hourly'))
        );
        COMMENT ON TABLE user_notification_settings IS 'created by alerts-engine';
    END IF;

    IF to_regclass('user_channel_preferences') IS NULL THEN
        CREATE TABLE user_channel_preferences (
            user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            channel TEXT NOT NULL CHECK (channel IN ('email', 'telegram', 'sms', 'account') OR channel LIKE '%.%'),
            enabled BOOLEAN NOT NULL DEFAULT TRUE,
            PRIMARY KEY (user_id, channel)
        );
        COMMENT ON TABLE user_channel_preferences IS 'created by alerts-engine';
    END IF;
END
$$;
