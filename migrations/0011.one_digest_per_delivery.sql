-- A delivery is an item of one digest (SPEC DB-6). Where the UNIQUE was on the pair, it may stand in several: the item
-- in a digest that was sent is the true one, else the one in the oldest digest. The others go to
-- alerts_engine_replaced, as the SQL that a rollback puts them back with: nothing is lost.

WITH ranked AS (
    SELECT
        item.ctid AS place,
        to_jsonb(item) AS content,
        row_number() OVER (PARTITION BY item.delivery_id ORDER BY digest.status = 'sent' DESC, item.digest_id) AS nth
    FROM user_alert_digest_items AS item
    JOIN user_alert_digests AS digest ON digest.id = item.digest_id
),
surplus AS (
    DELETE FROM user_alert_digest_items AS item
    USING ranked
    WHERE item.ctid = ranked.place AND ranked.nth > 1
    RETURNING ranked.content
)
INSERT INTO alerts_engine_replaced (migration, restore_sql)
SELECT
    '0011',
    format(
        'INSERT INTO user_alert_digest_items OVERRIDING SYSTEM VALUE '
        'SELECT * FROM jsonb_populate_record(NULL::user_alert_digest_items, %L) ON CONFLICT DO NOTHING',
        content
    )
FROM surplus
ON CONFLICT DO NOTHING;
