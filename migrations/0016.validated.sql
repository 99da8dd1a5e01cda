-- transactional: false
--
-- Holds the old rows against the new CHECKs and references: a scan that readers and writers do not notice. Its lock
-- keeps only vacuum and other migrations away, so waiting for it may take long.
-- A hand-made row that breaks one stays, and the constraint then guards new and changed rows only.
DO $$
DECLARE
    fresh RECORD;
BEGIN
    FOR fresh IN
        SELECT conrelid::regclass AS on_table, conname AS name
        FROM pg_constraint
        WHERE NOT convalidated AND obj_description(oid, 'pg_constraint') = 'created by alerts-engine'
        ORDER BY conrelid, conname
    LOOP
        SET LOCAL lock_timeout = '15min';
        BEGIN
            EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', fresh.on_table, fresh.name);
        EXCEPTION WHEN check_violation OR foreign_key_violation THEN
            RAISE NOTICE '%: old rows of % break it', fresh.name, fresh.on_table;
        END;
        COMMIT;
    END LOOP;
END
$$;

-- NOT NULL without a scan under a lock: PostgreSQL takes a validated CHECK as the proof, then it goes.
DO $$
DECLARE
    proof RECORD;
BEGIN
    FOR proof IN
        SELECT con.conrelid::regclass AS on_table, con.conname AS name, col.attname AS column_name
        FROM pg_constraint AS con
        JOIN pg_attribute AS col ON col.attrelid = con.conrelid AND ARRAY[col.attnum] = con.conkey
        WHERE con.contype = 'c'
          AND con.convalidated
          AND con.conname LIKE '%\_present'
          AND obj_description(con.oid, 'pg_constraint') = 'created by alerts-engine'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', proof.on_table, proof.column_name);
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', proof.on_table, proof.name);
        COMMIT;
    END LOOP;
END
$$;
