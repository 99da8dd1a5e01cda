-- Holds the old rows against the new CHECKs and references: a scan that readers and writers do not notice.
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
        BEGIN
            EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', fresh.on_table, fresh.name);
        EXCEPTION WHEN check_violation OR foreign_key_violation THEN
            RAISE NOTICE '%: old rows of % break it', fresh.name, fresh.on_table;
        END;
    END LOOP;
END
$$;
