DROP FUNCTION IF EXISTS alert_destinations();
DROP FUNCTION IF EXISTS alert_missing_destinations(users, jsonb);
DROP TABLE IF EXISTS user_alert_destinations;
DROP FUNCTION IF EXISTS alert_destination(text);
