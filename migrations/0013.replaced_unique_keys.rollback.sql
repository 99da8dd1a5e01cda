-- The legacy key has room for one delivery per event, user and channel: beside an instant one, the digest one goes.
-- Digest deliveries are the engine's alone, and the alert itself stays told by the instant one.

DO $$
DECLARE
    replaced RECORD;
BEGIN
    IF EXISTS (SELECT FROM alerts_engine_replaced WHERE migration = '0013') THEN
        DELETE FROM user_alert_deliveries AS digest
        USING user_alert_deliveries AS instant
        WHERE digest.delivery_kind = 'digest'
          AND instant.delivery_kind = 'instant'
          AND (digest.alert_event_id, digest.user_id, digest.channel)
            = (instant.alert_event_id, instant.user_id, instant.channel);
    END IF;

    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = '0013' RETURNING restore_sql
    LOOP
        EXECUTE replaced.restore_sql;
    END LOOP;
END
$$;
