-- How much of a day's quota the fan-out has used, one row for each user and channel: however many events a day has,
-- the next one reads and writes as much as the first (SPEC B-7).

DO $$
BEGIN
    IF to_regclass('user_alert_quotas') IS NULL THEN
        CREATE TABLE user_alert_quotas (
            user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            channel TEXT NOT NULL,
            quota_day DATE NOT NULL,
            made INT NOT NULL,
            counted_at TIMESTAMPTZ NOT NULL,
            CONSTRAINT user_alert_quotas_pkey PRIMARY KEY (user_id, channel)
        )
        -- Every event updates every row: with room on its page, no index is touched.
        WITH (fillfactor = 45);
        COMMENT ON TABLE user_alert_quotas IS 'created by alerts-engine';
        COMMENT ON COLUMN user_alert_quotas.quota_day IS 'the local day of the newest instant delivery';
        COMMENT ON COLUMN user_alert_quotas.made IS
            'instant deliveries made on quota_day, also those that failed later';
        COMMENT ON COLUMN user_alert_quotas.counted_at IS 'the latest moment at which one was made, in any time zone';
    END IF;
END
$$;
