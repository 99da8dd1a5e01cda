-- transactional: false
--
-- The legacy UNIQUE over user, event and channel forbids an instant and a digest delivery side by side; another one
-- over the same columns and the kind repeats ours; a hand-made one over digest and delivery says less than ours. All
-- go, whatever their names, now that ours guard better and answer the questions that these answered. They are
-- remembered for the rollback: the index as a statement that builds it while the application writes, and the constraint
-- that it may have carried. Each has a transaction of its own.

DO $$
DECLARE
    old RECORD;
BEGIN
    FOR old IN
        SELECT
            idx.indrelid::regclass AS on_table,
            idx.indexrelid::regclass AS index_name,
            replace(
                pg_get_indexdef(idx.indexrelid),
                'CREATE UNIQUE INDEX ', 'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS '
            ) AS build_index,
            con.conname AS constraint_name,
            CASE
                WHEN con.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED'
                WHEN con.condeferrable THEN ' DEFERRABLE'
                ELSE ''
            END AS deferrable
        FROM pg_index AS idx
        CROSS JOIN LATERAL (
            SELECT array_agg(attname::TEXT ORDER BY attname) AS columns
            FROM pg_attribute
            WHERE attrelid = idx.indrelid AND attnum = ANY (idx.indkey)
        ) AS keys
        LEFT JOIN pg_constraint AS con ON con.conindid = idx.indexrelid AND con.contype = 'u'
        WHERE idx.indisunique
          AND NOT idx.indisprimary
          AND idx.indexrelid <> 'user_alert_deliveries_once_key'::regclass
          AND (idx.indrelid, keys.columns) IN (
            ('user_alert_deliveries'::regclass, ARRAY['alert_event_id', 'channel', 'user_id']),
            ('user_alert_deliveries'::regclass, ARRAY['alert_event_id', 'channel', 'delivery_kind', 'user_id']),
            ('user_alert_digest_items'::regclass, ARRAY['delivery_id', 'digest_id'])
        )
    LOOP
        INSERT INTO alerts_engine_replaced (migration, restore_sql)
        VALUES ('replaced_keys', old.build_index)
        ON CONFLICT DO NOTHING;
        IF old.constraint_name IS NULL THEN
            EXECUTE format('DROP INDEX %s', old.index_name);
        ELSE
            INSERT INTO alerts_engine_replaced (migration, restore_sql)
            VALUES ('replaced_keys', format(
                'ALTER TABLE %s ADD CONSTRAINT %I UNIQUE USING INDEX %I%s',
                old.on_table, old.constraint_name, old.constraint_name, old.deferrable
            ))
            ON CONFLICT DO NOTHING;
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', old.on_table, old.constraint_name);
        END IF;
        COMMIT;
    END LOOP;
END
$$;
