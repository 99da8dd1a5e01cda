-- The proofs of 0016 among them, where it was not reached.
DO $$
DECLARE
    ours RECORD;
BEGIN
    FOR ours IN
        SELECT conrelid::regclass AS on_table, conname AS name
        FROM pg_constraint
        WHERE contype = 'c' AND obj_description(oid, 'pg_constraint') = 'created by alerts-engine'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', ours.on_table, ours.name);
    END LOOP;
END
$$;

-- The one required column without a default: an application that does not know it could write no event.
ALTER TABLE alert_events ALTER COLUMN event_fingerprint DROP NOT NULL;

-- The legacy shape has no leases: what was claimed waits again. No alert is lost; one that had just left goes twice.
UPDATE user_alert_deliveries SET status = 'queued' WHERE status = 'sending';

-- The old CHECKs come back; one that newer rows contradict guards new rows only.
DO $$
DECLARE
    replaced RECORD;
BEGIN
    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = '0010' RETURNING restore_sql
    LOOP
        BEGIN
            EXECUTE replaced.restore_sql;
        EXCEPTION WHEN check_violation THEN
            EXECUTE replaced.restore_sql || ' NOT VALID';
        END;
    END LOOP;
END
$$;
