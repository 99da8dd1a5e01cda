DROP FUNCTION alert_destinations();
DROP TABLE user_alert_destinations;
DROP FUNCTION alert_destination(text);
