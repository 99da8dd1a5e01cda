-- Phase D: queued digest deliveries become items of digests, one digest a user, channel, period and window (SPEC section 7).

-- name: build_digests
-- Take a batch of digest deliveries that are in no digest yet, and put each into its window's digest.
--   $1 now        timestamptz
--   $2 time_zone  text
--   $3 period     text         for users who chose none
--   $4 grace      interval     from the end of the window until the digest is due
--   $5 plans      jsonb        what resolve_plans returned
--   $6 batch      int8         most deliveries to take
-- returns: DigestBatch, one
-- locks: the deliveries taken (skip locked), and the digests they join
-- again: safe; what is in a digest is not queued any more
WITH taken AS MATERIALIZED (
    SELECT d.id, d.user_id, d.alert_event_id, d.channel
      FROM user_alert_deliveries AS d
     WHERE d.status = 'queued'
       AND d.delivery_kind = 'digest'
       AND d.channel IN ('email', 'telegram')
     ORDER BY d.id
     LIMIT $6
       FOR NO KEY UPDATE SKIP LOCKED
),
plans AS MATERIALIZED (
    SELECT p.plan, p.digests >= 24 AS hourly_allowed
      FROM jsonb_to_recordset($5) AS p(plan text, digests int4)
),
pending AS MATERIALIZED (
    SELECT t.id, t.user_id, t.channel, e.created_at::timestamptz AS happened_at,
           CASE WHEN coalesce(s.digest_period, $3) = 'hourly' AND coalesce(p.hourly_allowed, free.hourly_allowed)
                THEN 'hourly' ELSE 'daily' END AS period
      FROM taken AS t
      JOIN alert_events AS e ON e.id = t.alert_event_id
      JOIN plans AS free ON free.plan = 'free'
      LEFT JOIN user_plans AS up ON up.user_id = t.user_id
      LEFT JOIN plans AS p ON p.plan = up.plan
      LEFT JOIN user_notification_settings AS s ON s.user_id = t.user_id
),
-- Digests that take no more items (D-5). A key may have been made under another time zone: its window is less than three
-- days away.
begun AS MATERIALIZED (
    SELECT g.digest_key, g.window_end
      FROM user_alert_digests AS g
     WHERE g.user_id IN (SELECT user_id FROM pending)
       AND g.window_start >= (SELECT min(happened_at) FROM pending) - make_interval(days => 3)
       AND (g.status <> 'queued' OR g.attempts > 0)
),
-- All windows from the oldest pending event to beyond now and beyond every digest that has begun. Every offset, and since
-- 2012 every moment at which one changed, is a multiple of a quarter of an hour, so quarters grouped by their local day,
-- or by local hour and offset, are the windows, also where a day has 23 or 25 hours, an hour comes twice, or a change is
-- half an hour.
quarters AS (
    SELECT q.starts, q.starts AT TIME ZONE $2 AS local,
           (q.starts AT TIME ZONE $2) - (q.starts AT TIME ZONE 'UTC') AS utc_offset
      FROM (SELECT date_trunc('day', min(happened_at)) - make_interval(days => 2) AS first,
                   date_trunc('day', greatest($1::timestamptz, max(happened_at),
                                              (SELECT max(window_end)::timestamptz FROM begun)))
                     + make_interval(days => 3) AS last
              FROM pending) AS span
     CROSS JOIN LATERAL generate_series(span.first, span.last, make_interval(mins => 15)) AS q(starts)
     WHERE EXISTS (SELECT FROM pending)
),
windows AS MATERIALIZED (
    SELECT 'daily' AS period, min(starts) AS starts, max(starts) + make_interval(mins => 15) AS ends,
           to_char(local::date, 'YYYY-MM-DD') AS label
      FROM quarters
     GROUP BY local::date
     UNION ALL
    SELECT 'hourly', min(starts), max(starts) + make_interval(mins => 15),
           to_char(date_trunc('hour', local), 'YYYY-MM-DD"T"HH24')
             || CASE WHEN utc_offset < interval '0' THEN '-' ELSE '+' END
             || to_char(CASE WHEN utc_offset < interval '0' THEN -utc_offset ELSE utc_offset END, 'HH24:MI')
      FROM quarters
     WHERE EXISTS (SELECT FROM pending WHERE period = 'hourly')
     GROUP BY date_trunc('hour', local), utc_offset
),
moments AS (
    SELECT m.period, m.happened_at, w.starts
      FROM (SELECT DISTINCT period, happened_at FROM pending) AS m
      JOIN windows AS w ON w.period = m.period AND w.starts <= m.happened_at AND w.ends > m.happened_at
),
wanted AS MATERIALIZED (
    SELECT p.user_id, p.channel, p.period, m.starts
      FROM pending AS p
      JOIN moments AS m USING (period, happened_at)
     GROUP BY p.user_id, p.channel, p.period, m.starts
),
-- The first window from its own on whose digest has not begun (D-5); nearly always its own.
own AS (
    SELECT w.user_id, w.channel, w.period, w.starts, o.starts AS open_starts, o.ends,
           concat_ws(':', w.user_id, w.channel, w.period, o.label) AS digest_key
      FROM wanted AS w
      JOIN windows AS o ON o.period = w.period AND o.starts = w.starts
),
open_windows AS MATERIALIZED (
    SELECT user_id, channel, period, starts, open_starts, ends, digest_key
      FROM own
     WHERE digest_key NOT IN (SELECT digest_key FROM begun)
     UNION ALL
    SELECT w.user_id, w.channel, w.period, w.starts, next.starts, next.ends, next.digest_key
      FROM own AS w
     CROSS JOIN LATERAL (
           SELECT o.starts, o.ends, concat_ws(':', w.user_id, w.channel, w.period, o.label) AS digest_key
             FROM windows AS o
            WHERE o.period = w.period
              AND o.starts > w.starts
              AND concat_ws(':', w.user_id, w.channel, w.period, o.label) NOT IN (SELECT digest_key FROM begun)
            ORDER BY o.starts
            LIMIT 1
           ) AS next
     WHERE w.digest_key IN (SELECT digest_key FROM begun)
),
-- The update that changes nothing locks an existing digest and looks at it again: when a sender has just begun it, the
-- row does not come back, its items stay queued, and the next round puts them into the next window.
digests AS (
    INSERT INTO user_alert_digests AS g
           (user_id, channel, period, window_start, window_end, digest_key, next_retry_at, created_at)
    SELECT DISTINCT ON (o.digest_key)
           o.user_id, o.channel, o.period, o.open_starts, o.ends, o.digest_key, o.ends + $4::interval, $1::timestamptz
      FROM open_windows AS o
     ORDER BY o.digest_key
        ON CONFLICT (digest_key) DO UPDATE
       SET digest_key = g.digest_key
     WHERE g.status = 'queued' AND g.attempts = 0
    RETURNING g.id, g.digest_key, g.xmax = 0 AS created
),
attached AS (
    INSERT INTO user_alert_digest_items (digest_id, delivery_id)
    SELECT g.id, p.id
      FROM pending AS p
      JOIN moments AS m USING (period, happened_at)
      JOIN open_windows AS o
           ON o.user_id = p.user_id AND o.channel = p.channel AND o.period = p.period AND o.starts = m.starts
      JOIN digests AS g USING (digest_key)
        ON CONFLICT (delivery_id) DO NOTHING
    RETURNING delivery_id
),
marked AS (
    UPDATE user_alert_deliveries AS d
       SET status = 'skipped',
           last_error = 'batched_into_digest'
      FROM taken AS t
     WHERE d.id = t.id
       AND (d.id IN (SELECT delivery_id FROM attached)
            OR EXISTS (SELECT FROM user_alert_digest_items AS i WHERE i.delivery_id = d.id))
    RETURNING d.id
)
SELECT (SELECT count(*) FROM taken) AS taken,
       (SELECT count(*) FROM digests WHERE created) AS digests_created,
       (SELECT count(*) FROM attached) AS digest_items_attached,
       (SELECT count(*) FROM marked) AS deliveries_marked_batched;
