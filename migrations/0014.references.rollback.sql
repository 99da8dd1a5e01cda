DO $$
DECLARE
    ours RECORD;
    replaced RECORD;
BEGIN
    FOR ours IN
        SELECT conrelid::regclass AS on_table, conname AS name
        FROM pg_constraint
        WHERE contype = 'f' AND obj_description(oid, 'pg_constraint') = 'created by alerts-engine'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', ours.on_table, ours.name);
    END LOOP;

    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = '0014' RETURNING restore_sql
    LOOP
        EXECUTE replaced.restore_sql;
    END LOOP;
END
$$;
