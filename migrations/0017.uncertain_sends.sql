-- What is known of a send whose answer was lost, until somebody can tell what became of it (SPEC C-17). No default, so no
-- table is rewritten. A column that is there already keeps its type.

DO $$
DECLARE
    wanted RECORD;
BEGIN
    FOR wanted IN
        SELECT *
        FROM (VALUES
            ('user_alert_deliveries'),
            ('user_alert_digests')
        ) AS tables (in_table)
        CROSS JOIN (VALUES
            ('uncertain_since', 'TIMESTAMPTZ',
                'a send began then that may have been accepted; NULL once it is known'),
            ('key_used_at', 'TIMESTAMPTZ', 'the first send under the row''s idempotency key'),
            ('sent_by', 'TEXT', 'the provider of the last send; NULL for an uncertain one that nobody can tell about'),
            ('body_digest', 'BYTEA', 'SHA-256 of the text sent, where the provider can only be asked by it')
        ) AS columns (name, definition, meaning)
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT
            FROM pg_attribute
            WHERE attrelid = wanted.in_table::regclass AND attname = wanted.name AND NOT attisdropped
        );
        EXECUTE format('ALTER TABLE %I ADD COLUMN %I %s', wanted.in_table, wanted.name, wanted.definition);
        EXECUTE format(
            'COMMENT ON COLUMN %I.%I IS %L', wanted.in_table, wanted.name, 'alerts-engine: ' || wanted.meaning
        );
    END LOOP;
END
$$;
