-- The legacy key has room for one delivery per event, user and channel: beside an instant one, the digest one goes.
-- Digest deliveries are the engine's alone, and the alert itself stays told by the instant one.
DO $$
DECLARE
    surplus RECORD;
BEGIN
    IF NOT EXISTS (SELECT FROM alerts_engine_replaced WHERE migration = 'replaced_keys') THEN
        RETURN;
    END IF;
    FOR surplus IN
        SELECT digest.id
        FROM user_alert_deliveries AS digest
        JOIN user_alert_deliveries AS instant USING (alert_event_id, user_id, channel)
        WHERE digest.delivery_kind = 'digest' AND instant.delivery_kind = 'instant'
    LOOP
        SET LOCAL synchronous_commit = off;
        DELETE FROM user_alert_deliveries WHERE id = surplus.id;
        COMMIT;
    END LOOP;
END
$$;

-- Each row of a SELECT is executed as a statement of its own: the old indexes are built while the application goes on
-- writing, before ours go.
SELECT restore_sql
FROM alerts_engine_replaced
WHERE migration = 'replaced_keys' AND restore_sql LIKE 'CREATE UNIQUE INDEX CONCURRENTLY %'
ORDER BY id;

DO $$
DECLARE
    replaced RECORD;
BEGIN
    FOR replaced IN SELECT id, restore_sql FROM alerts_engine_replaced WHERE migration = 'replaced_keys' ORDER BY id
    LOOP
        IF replaced.restore_sql LIKE 'ALTER TABLE %' THEN
            EXECUTE replaced.restore_sql;
        END IF;
        DELETE FROM alerts_engine_replaced WHERE id = replaced.id;
        COMMIT;
    END LOOP;
END
$$;
