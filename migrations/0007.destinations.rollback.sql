DROP FUNCTION IF EXISTS alert_destinations();
DROP TABLE IF EXISTS user_alert_destinations;
DROP FUNCTION IF EXISTS alert_destination(text);
