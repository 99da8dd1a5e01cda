DROP TRIGGER IF EXISTS alerts_engine_fingerprint ON alert_events;
DROP FUNCTION IF EXISTS alerts_engine_fingerprint_from_cooldown_key();
