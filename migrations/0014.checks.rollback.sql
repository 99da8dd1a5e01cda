-- Each table's CHECKs in a transaction of their own; the proofs of 0016 among them, where it was not reached.
DO $$
DECLARE
    ours RECORD;
BEGIN
    FOR ours IN
        SELECT conrelid::regclass AS on_table, string_agg(format('DROP CONSTRAINT %I', conname), ', ') AS drops
        FROM pg_constraint
        WHERE contype = 'c'
          AND obj_description(oid, 'pg_constraint') = 'created by alerts-engine'
        GROUP BY conrelid
    LOOP
        EXECUTE format('ALTER TABLE %s %s', ours.on_table, ours.drops);
        COMMIT;
    END LOOP;
END
$$;

-- The legacy shape has no leases: what was claimed waits again. No alert is lost; one that had just left goes twice.
UPDATE user_alert_deliveries SET status = 'queued' WHERE status = 'sending';

-- The old CHECKs come back, and what was NULL may be NULL again. A CHECK that newer rows contradict guards new rows
-- only.
DO $$
DECLARE
    replaced RECORD;
BEGIN
    FOR replaced IN SELECT id, restore_sql FROM alerts_engine_replaced WHERE migration = 'checks' ORDER BY id
    LOOP
        BEGIN
            EXECUTE replaced.restore_sql;
        EXCEPTION WHEN check_violation THEN
            RAISE NOTICE 'newer rows break it: %', replaced.restore_sql;
        END;
        DELETE FROM alerts_engine_replaced WHERE id = replaced.id;
        COMMIT;
    END LOOP;
END
$$;
