DO $$
DECLARE
    ours RECORD;
BEGIN
    FOR ours IN
        SELECT conrelid::regclass AS on_table, conname AS name
        FROM pg_constraint
        WHERE contype = 'f' AND obj_description(oid, 'pg_constraint') = 'created by alerts-engine'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', ours.on_table, ours.name);
        COMMIT;
    END LOOP;
END
$$;

-- The old references come back; one that newer rows break guards new rows only.
DO $$
DECLARE
    replaced RECORD;
BEGIN
    FOR replaced IN SELECT id, restore_sql FROM alerts_engine_replaced WHERE migration = 'references' ORDER BY id
    LOOP
        BEGIN
            EXECUTE replaced.restore_sql;
        EXCEPTION WHEN foreign_key_violation THEN
            RAISE NOTICE 'newer rows break it: %', replaced.restore_sql;
        END;
        DELETE FROM alerts_engine_replaced WHERE id = replaced.id;
        COMMIT;
    END LOOP;
END
$$;
