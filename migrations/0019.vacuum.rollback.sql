DO $$
DECLARE
    replaced RECORD;
BEGIN
    FOR replaced IN SELECT id, restore_sql FROM alerts_engine_replaced WHERE migration = 'vacuum' ORDER BY id
    LOOP
        EXECUTE replaced.restore_sql;
        DELETE FROM alerts_engine_replaced WHERE id = replaced.id;
    END LOOP;
END
$$;
