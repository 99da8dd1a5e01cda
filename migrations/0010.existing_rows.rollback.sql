-- Items of digests come back. What else was written stands in columns that go when their migrations are rolled back.

DO $$
DECLARE
    replaced RECORD;
BEGIN
    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = 'existing_rows' RETURNING restore_sql
    LOOP
        BEGIN
            EXECUTE replaced.restore_sql;
        EXCEPTION WHEN foreign_key_violation THEN
            RAISE NOTICE 'a digest or a delivery is gone since, and its item with it';
        END;
    END LOOP;
END
$$;
