-- Tables that were made by hand stay, without the columns, defaults and indexes that we gave them.
-- squawk-ignore-file require-concurrent-index-deletion

DROP INDEX IF EXISTS alerts_engine_run_items_phase_idx;
DROP INDEX IF EXISTS alerts_engine_run_items_status_idx;
DROP INDEX IF EXISTS alerts_engine_run_items_started_at_idx;
DROP INDEX IF EXISTS alerts_engine_run_items_run_id_idx;
DROP INDEX IF EXISTS alerts_engine_runs_phase_idx;
DROP INDEX IF EXISTS alerts_engine_runs_status_idx;
DROP INDEX IF EXISTS alerts_engine_runs_started_at_idx;

DO $$
DECLARE
    added RECORD;
    replaced RECORD;
BEGIN
    FOR added IN
        SELECT attrelid::regclass AS in_table, attname AS name
        FROM pg_attribute
        WHERE attrelid IN (to_regclass('alerts_engine_runs'), to_regclass('alerts_engine_run_items'))
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', added.in_table, added.name);
    END LOOP;
    FOR replaced IN DELETE FROM alerts_engine_replaced WHERE migration = 'run_history' RETURNING restore_sql
    LOOP
        EXECUTE replaced.restore_sql;
    END LOOP;
    IF obj_description(to_regclass('alerts_engine_run_items'), 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE alerts_engine_run_items;
    END IF;
    IF obj_description(to_regclass('alerts_engine_runs'), 'pg_class') = 'created by alerts-engine' THEN
        -- With it goes the reference of an items table that was made by hand.
        DROP TABLE alerts_engine_runs CASCADE;
    END IF;
END
$$;
