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

-- The same for a whole audience: the bits of those channels for which this user's row has no destination. A channel whose
-- destinations are not in that row has none of these bits.
CREATE OR REPLACE FUNCTION alert_missing_destinations(u users, channels jsonb) RETURNS INT
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT CASE WHEN alert_destination(u.email) IS NULL
                    THEN coalesce((jsonb_path_query_first(channels, '$[*] ? (@.channel == "email").bit'))::int, 0)
                    ELSE 0 END
               + CASE WHEN alert_destination(u.telegram_chat_id) IS NULL
                      THEN coalesce((jsonb_path_query_first(channels, '$[*] ? (@.channel == "telegram").bit'))::int, 0)
                      ELSE 0 END
               + CASE WHEN alert_destination(u.phone_number) IS NULL
                      THEN coalesce((jsonb_path_query_first(channels, '$[*] ? (@.channel == "sms").bit'))::int, 0)
                      ELSE 0 END
    $$;
COMMENT ON FUNCTION alert_missing_destinations(users, jsonb) IS
    'alerts-engine: the bits of the channels by which a user cannot be reached';

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
