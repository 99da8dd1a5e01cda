-- An application that already writes alert_events knows nothing of event_fingerprint and keeps writing while we migrate
-- and after: its rows get the cooldown_key as fingerprint, as its old rows do. On a database of our own there is no
-- trigger: there a missing fingerprint is an error.

DO $$
BEGIN
    IF obj_description('alert_events'::regclass, 'pg_class') = 'created by alerts-engine' THEN
        RETURN;
    END IF;

    CREATE OR REPLACE FUNCTION alerts_engine_fingerprint_from_cooldown_key() RETURNS TRIGGER
    LANGUAGE plpgsql AS $body$
    BEGIN
        NEW.event_fingerprint := NEW.cooldown_key;
        RETURN NEW;
    END
    $body$;

    DROP TRIGGER IF EXISTS alerts_engine_fingerprint ON alert_events;
    CREATE TRIGGER alerts_engine_fingerprint
        BEFORE INSERT ON alert_events
        FOR EACH ROW
        WHEN (NEW.event_fingerprint IS NULL)
        EXECUTE FUNCTION alerts_engine_fingerprint_from_cooldown_key();
END
$$;
