-- The legacy UNIQUE over user, event and channel forbids an instant and a digest delivery side by side; another one
-- over the same columns and the kind repeats ours; a hand-made one over digest and delivery says less than ours.
-- All go, whatever their names, now that 0012 guards better. They are remembered for the rollback.

DO $$
DECLARE
    old RECORD;
BEGIN
    FOR old IN
        SELECT
            idx.indrelid::regclass AS on_table,
            idx.indexrelid::regclass AS index_name,
            pg_get_indexdef(idx.indexrelid) AS index_definition,
            con.conname AS constraint_name,
            pg_get_constraintdef(con.oid) AS constraint_definition
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
        VALUES (
            '0013',
            CASE
                WHEN old.constraint_name IS NULL THEN old.index_definition
                ELSE format(
                    'ALTER TABLE %s ADD CONSTRAINT %I %s', old.on_table, old.constraint_name, old.constraint_definition
                )
            END
        )
        ON CONFLICT DO NOTHING;
        IF old.constraint_name IS NULL THEN
            EXECUTE format('DROP INDEX %s', old.index_name);
        ELSE
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', old.on_table, old.constraint_name);
        END IF;
    END LOOP;
END
$$;
