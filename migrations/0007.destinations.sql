-- Where a user can be reached, per channel: the one place that knows which column or table holds it, and the one
-- definition of blank. A new channel is one more branch; a custom channel has its rows in user_alert_destinations.
--
-- Functions, not views: the application may go on changing the types of its columns, which a view would forbid. Their
-- bodies are single SELECTs, which PostgreSQL plans as if they stood in the statement.

CREATE OR REPLACE FUNCTION alert_destination(raw text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT nullif(btrim(raw, E' \t\n\x0b\f\r'), '') $$;
COMMENT ON FUNCTION alert_destination(text) IS
    'alerts-engine: a destination without blanks around it; NULL when it is blank';

CREATE TABLE IF NOT EXISTS user_alert_destinations (
    user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    channel TEXT NOT NULL CHECK (channel LIKE '%.%'),
    destination TEXT NOT NULL,
    PRIMARY KEY (user_id, channel)
);
COMMENT ON TABLE user_alert_destinations IS 'created by alerts-engine';

CREATE OR REPLACE FUNCTION alert_destinations() RETURNS TABLE (user_id INT, channel TEXT, destination TEXT)
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT id, 'email'::text, alert_destination(email) FROM users
         UNION ALL
        SELECT id, 'telegram'::text, alert_destination(telegram_chat_id) FROM users
         UNION ALL
        SELECT id, 'sms'::text, alert_destination(phone_number) FROM users
         UNION ALL
        SELECT user_id, channel, alert_destination(destination) FROM user_alert_destinations
    $$;
COMMENT ON FUNCTION alert_destinations() IS 'alerts-engine: where each user can be reached, per channel; NULL: nowhere';
