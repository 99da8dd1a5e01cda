-- NOT NULL without a scan under a lock: PostgreSQL takes the validated CHECKs of 0010 as the proof, then they go.

DO $$
DECLARE
    proof RECORD;
BEGIN
    FOR proof IN
        SELECT con.conrelid::regclass AS on_table, con.conname AS name, col.attname AS column_name
        FROM pg_constraint AS con
        JOIN pg_attribute AS col ON col.attrelid = con.conrelid AND ARRAY[col.attnum] = con.conkey
        WHERE con.contype = 'c'
          AND con.conname LIKE '%\_present'
          AND obj_description(con.oid, 'pg_constraint') = 'created by alerts-engine'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', proof.on_table, proof.column_name);
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', proof.on_table, proof.name);
    END LOOP;
END
$$;
