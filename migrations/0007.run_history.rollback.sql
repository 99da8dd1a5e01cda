-- Tables that were made by hand stay, without the columns and indexes that we added.

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
BEGIN
    IF obj_description('alerts_engine_run_items'::regclass, 'pg_class') = 'created by alerts-engine' THEN
        DROP TABLE alerts_engine_run_items;
    END IF;
    IF obj_description('alerts_engine_runs'::regclass, 'pg_class') = 'created by alerts-engine' THEN
        -- With it goes the reference of an items table that was made by hand.
        DROP TABLE alerts_engine_runs CASCADE;
    END IF;
    FOR added IN
        SELECT attrelid::regclass AS in_table, attname AS name
        FROM pg_attribute
        WHERE attrelid IN (to_regclass('alerts_engine_runs'), to_regclass('alerts_engine_run_items'))
          AND NOT attisdropped
          AND col_description(attrelid, attnum) LIKE 'alerts-engine: %'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', added.in_table, added.name);
    END LOOP;
END
$$;
