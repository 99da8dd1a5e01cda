-- Phase D: queued digest deliveries become items of digests, one a user, channel, period and window (SPEC section 7);
-- before that, instant ones that crowd upon one user become bundles (D-7).

-- name: begin_batch
-- What holds for the batch's transaction alone; a pooler may not take it at connecting.
--   $1 lock_patience text         such as 20s
--   $2 patience      text         such as 60s; longer than the other
-- returns: nothing
SELECT set_config('lock_timeout', $1, TRUE),
       set_config('statement_timeout', $2, TRUE),
       -- JIT compilation would cost more than a batch takes to run.
       set_config('jit', 'off', TRUE);

-- name: end_batches
-- Give a dry run's transaction, which goes on with other phases, its settings back.
-- returns: nothing
SELECT set_config(s.name, s.reset_val, TRUE)
  FROM pg_settings AS s
 WHERE s.name IN ('lock_timeout', 'statement_timeout', 'jit');

-- name: crowded_deliveries
-- The users and channels for whom more instant deliveries are due than may go one by one, and which of these go
-- together. Not what was ever tried: that must not change (C-12). What this costs follows what is due.
--   $1 now           timestamptz
--   $2 bundle_from   int8         more than this many make a bundle
--   $3 keep_severity int4         from here on alerts stay messages of their own
--   $4 channels      text[]       those that have digests and are not paused
--   $5 allowlist     int8[]       NULL: everybody
--   $6 most          int8         about this many deliveries
-- returns: Crowd, many
-- again: safe; reads only
WITH waiting AS (
    SELECT d.id, d.user_id, d.channel, d.alert_event_id
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($4)
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NULL
       AND d.attempts = 0
       AND d.key_used_at IS NULL
       AND d.uncertain_since IS NULL
       AND ($5::int8[] IS NULL OR d.user_id = ANY ($5))
     UNION ALL
    SELECT d.id, d.user_id, d.channel, d.alert_event_id
      FROM user_alert_deliveries AS d
     WHERE d.channel = ANY ($4)
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.next_retry_at IS NOT NULL
       AND d.next_retry_at <= $1::timestamptz
       AND d.attempts = 0
       AND d.key_used_at IS NULL
       AND d.uncertain_since IS NULL
       AND ($5::int8[] IS NULL OR d.user_id = ANY ($5))
),
crowds AS MATERIALIZED (
    SELECT w.user_id, w.channel, array_agg(w.id) AS ids, array_agg(w.alert_event_id) AS event_ids
      FROM waiting AS w
     GROUP BY w.user_id, w.channel
    HAVING count(*) > $2
),
milder AS (
    SELECT c.user_id, c.channel, array_agg(one.id::int8 ORDER BY one.id) AS ids
      FROM crowds AS c
     CROSS JOIN LATERAL unnest(c.ids, c.event_ids) AS one(id, event_id)
      JOIN alert_events AS e ON e.id = one.event_id
     WHERE e.severity < $3
       AND NOT EXISTS (SELECT FROM user_alert_digest_items AS i WHERE i.delivery_id = one.id)
     GROUP BY c.user_id, c.channel
    HAVING count(*) > 1
),
in_turn AS (
    SELECT m.ids, sum(cardinality(m.ids)) OVER (ORDER BY m.ids[1]) - cardinality(m.ids) AS before
      FROM milder AS m
)
SELECT t.ids FROM in_turn AS t WHERE t.before < $6 ORDER BY t.ids[1];

-- name: build_bundles
-- Make one message of each user's and channel's deliveries among these. Who claims some of them at the same time keeps
-- those; two that are left are still a bundle, and one that is left goes alone.
--   $1 now  timestamptz
--   $2 ids  int8[]       whole crowds
-- returns: BundleBatch, one
-- plan: fresh, for the tables grow from batch to batch
-- locks: the deliveries taken (skip locked), key share on their users (skip locked)
-- again: safe; what is in a bundle is not queued any more
WITH taken AS MATERIALIZED (
    SELECT d.id, d.user_id, d.alert_event_id, d.channel
      FROM user_alert_deliveries AS d
      -- Who is being deleted is passed over: that transaction goes on to wait for the deliveries, and this one for it.
     CROSS JOIN LATERAL (
           SELECT FROM users AS u WHERE u.id = d.user_id FOR KEY SHARE SKIP LOCKED
           ) AS held
     WHERE d.id = ANY ($2)
       AND d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.attempts = 0
       AND d.key_used_at IS NULL
       AND d.uncertain_since IS NULL
     ORDER BY d.id
       FOR NO KEY UPDATE OF d SKIP LOCKED
),
-- Moments that no calendar has, such as infinity, would keep everybody's bundles from being built.
their_events AS MATERIALIZED (
    SELECT e.id, least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS happened_at
      FROM alert_events AS e
     WHERE e.id = ANY (ARRAY(SELECT DISTINCT t.alert_event_id FROM taken AS t))
),
bundles AS MATERIALIZED (
    SELECT t.user_id, t.channel, concat_ws(':', t.user_id, t.channel, 'burst', min(t.id)) AS digest_key,
           min(e.happened_at) AS starts,
           greatest(max(e.happened_at), min(e.happened_at) + make_interval(secs => 1)) AS ends
      FROM taken AS t
      JOIN their_events AS e ON e.id = t.alert_event_id
     GROUP BY t.user_id, t.channel
    HAVING count(*) > 1
),
made AS (
    INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end, digest_key, created_at)
    SELECT b.user_id, b.channel, 'burst', b.starts, b.ends, b.digest_key, $1::timestamptz
      FROM bundles AS b
        ON CONFLICT (digest_key) DO NOTHING
    RETURNING id, user_id, channel
),
attached AS (
    INSERT INTO user_alert_digest_items (digest_id, delivery_id)
    SELECT m.id, t.id
      FROM made AS m
      JOIN taken AS t ON t.user_id = m.user_id AND t.channel = m.channel
    RETURNING delivery_id
),
marked AS (
    UPDATE user_alert_deliveries AS d
       SET status = 'skipped',
           last_error = 'batched_into_digest',
           next_retry_at = NULL,
           ended_at = $1::timestamptz
      FROM attached AS a
     WHERE d.id = a.delivery_id
    RETURNING d.id, d.channel, d.delivery_kind, d.attempts
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
    SELECT date_trunc('hour', $1::timestamptz, 'UTC'), 'deliveries', m.channel, m.delivery_kind, 'skipped', m.attempts > 1,
           count(*)
      FROM marked AS m
     GROUP BY m.channel, m.delivery_kind, m.attempts > 1
)
SELECT (SELECT count(*) FROM made) AS bundles_created,
       (SELECT count(*) FROM marked) AS deliveries_bundled;

-- name: first_undigested
-- The delivery that a batch of one would take.
--   $1 channels    text[]
--   $2 passed_over int8[]
-- returns: UndigestedDelivery, many
-- again: safe; reads only
SELECT d.id::int8 AS id
  FROM user_alert_deliveries AS d
 WHERE d.status = 'queued'
   AND d.delivery_kind = 'digest'
   AND d.channel = ANY ($1)
   AND d.id <> ALL ($2)
 ORDER BY d.id
 LIMIT 1;

-- name: build_digests
-- Take a batch of digest deliveries that are in no digest yet, and put each into its window's digest.
--   $1 now         timestamptz
--   $2 time_zone   text
--   $3 period      text         for users who chose none
--   $4 grace       interval     from the end of the window until the digest is due
--   $5 plans       json_text    what resolve_plans returned
--   $6 batch       int8         most deliveries to take
--   $7 horizon     interval     how far beyond an event's day a window is looked for: whole days, at least 3
--   $8 channels    text[]       those that have digests
--   $9 passed_over int8[]       deliveries to leave alone
-- returns: DigestBatch, one
-- plan: fresh, for the tables grow from batch to batch
-- locks: the deliveries taken (skip locked), key share on their users (skip locked), and the digests they join
-- again: safe; what is in a digest is not queued any more
WITH RECURSIVE taken AS MATERIALIZED (
    SELECT d.id, d.user_id, d.alert_event_id, d.channel
      FROM user_alert_deliveries AS d
      -- Who is being deleted is passed over: that transaction goes on to wait for the deliveries, and this one for it.
     CROSS JOIN LATERAL (
           SELECT FROM users AS u WHERE u.id = d.user_id FOR KEY SHARE SKIP LOCKED
           ) AS held
     WHERE d.status = 'queued'
       AND d.delivery_kind = 'digest'
       AND d.channel = ANY ($8)
       AND d.id <> ALL ($9)
     ORDER BY d.id
     LIMIT $6
       FOR NO KEY UPDATE OF d SKIP LOCKED
),
plans AS MATERIALIZED (
    SELECT p.plan, p.digests >= 24 AS hourly_allowed
      FROM jsonb_to_recordset($5::text::jsonb) AS p(plan text, digests int4)
),
-- What the batch needs of tables that grow, looked up by arrays of ids: a join of unknown size would read all of them.
their_events AS MATERIALIZED (
    SELECT e.id, e.created_at
      FROM alert_events AS e
     WHERE e.id = ANY (ARRAY(SELECT DISTINCT t.alert_event_id FROM taken AS t))
),
their_users AS MATERIALIZED (
    SELECT ARRAY(SELECT DISTINCT t.user_id FROM taken AS t) AS ids
),
their_plans AS MATERIALIZED (
    SELECT up.user_id, p.hourly_allowed
      FROM user_plans AS up
      JOIN plans AS p ON p.plan = up.plan
     WHERE up.user_id = ANY ((SELECT ids FROM their_users)::int8[])
),
their_settings AS MATERIALIZED (
    SELECT s.user_id, s.digest_period
      FROM user_notification_settings AS s
     WHERE s.digest_period IS NOT NULL
       AND s.user_id = ANY ((SELECT ids FROM their_users)::int8[])
),
pending AS MATERIALIZED (
    -- A moment that no calendar has, such as infinity, would keep everybody's digests from being built.
    SELECT t.id, t.user_id, t.channel,
           least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS happened_at,
           CASE WHEN coalesce(s.digest_period, $3) = 'hourly' AND coalesce(p.hourly_allowed, free.hourly_allowed)
                THEN 'hourly' ELSE 'daily' END AS period
      FROM taken AS t
      JOIN their_events AS e ON e.id = t.alert_event_id
      JOIN plans AS free ON free.plan = 'free'
      LEFT JOIN their_plans AS p ON p.user_id = t.user_id
      LEFT JOIN their_settings AS s ON s.user_id = t.user_id
),
-- Digests that take no more items (D-5); one that an operator lets try afresh still has its error. They are looked up
-- by their key, however long the history is.
begun AS NOT MATERIALIZED (
    SELECT g.digest_key
      FROM user_alert_digests AS g
     WHERE g.status <> 'queued' OR g.attempts > 0 OR g.last_error IS NOT NULL
),
-- The moments of the events, and the quarters of an hour around each of their days: however far apart those are, nothing
-- is made for the time between them. Every offset, and since 2012 every moment at which one changed, is a multiple of a
-- quarter of an hour.
moments AS (
    SELECT DISTINCT happened_at AS moment, FALSE AS is_quarter
      FROM pending
     UNION ALL
    SELECT DISTINCT quarter, TRUE
      FROM (SELECT DISTINCT date_trunc('day', happened_at) AS day FROM pending) AS days
     CROSS JOIN LATERAL generate_series(
           days.day - make_interval(days => 2), days.day + $7::interval, make_interval(mins => 15)) AS quarter
),
-- Moments with one label are in one window: those of a local day, or of a local hour and offset. That holds also where
-- a day has 23 or 25 hours, an hour comes twice, or a change is half an hour.
labels AS MATERIALIZED (
    SELECT m.moment, m.is_quarter, p.period,
           CASE p.period
                WHEN 'daily' THEN to_char(local, 'YYYY-MM-DD')
                ELSE to_char(local, 'YYYY-MM-DD"T"HH24')
                     || CASE WHEN utc_offset < interval '0' THEN '-' ELSE '+' END
                     || to_char(greatest(utc_offset, -utc_offset), 'HH24:MI')
           END AS label
      FROM moments AS m
     CROSS JOIN LATERAL (
           SELECT m.moment AT TIME ZONE $2 AS local,
                  (m.moment AT TIME ZONE $2) - (m.moment AT TIME ZONE 'UTC') AS utc_offset
           ) AS clock
     CROSS JOIN (VALUES ('daily'), ('hourly')) AS p(period)
),
windows AS MATERIALIZED (
    SELECT w.period, w.label, w.starts, w.ends,
           -- Where the quarters end, and where they have a gap, no window follows.
           CASE WHEN lead(w.starts) OVER following = w.ends THEN lead(w.label) OVER following END AS next_label
      FROM (SELECT period, label, min(moment) AS starts, max(moment) + make_interval(mins => 15) AS ends
              FROM labels
             WHERE is_quarter
             GROUP BY period, label) AS w
    WINDOW following AS (PARTITION BY w.period ORDER BY w.starts)
),
-- From here on one text says which digest is meant: joins on one column are what the planner can estimate.
items AS MATERIALIZED (
    SELECT p.id, p.user_id, p.channel, l.label, concat_ws(':', p.user_id, p.channel, p.period, l.label) AS own_key
      FROM pending AS p
      JOIN labels AS l ON l.moment = p.happened_at AND l.period = p.period AND NOT l.is_quarter
),
wanted AS (
    SELECT DISTINCT own_key, user_id, channel, label FROM items
),
-- From its own window on to the first whose digest has not begun (D-5); nearly always its own.
steps AS (
    SELECT w.own_key, w.user_id, w.channel, o.period, o.starts, o.ends, o.next_label, w.own_key AS digest_key,
           b.digest_key IS NOT NULL AS has_begun
      FROM wanted AS w
      JOIN windows AS o USING (label)
      LEFT JOIN begun AS b ON b.digest_key = w.own_key
     UNION ALL
    SELECT s.own_key, s.user_id, s.channel, n.period, n.starts, n.ends, n.next_label, k.digest_key,
           b.digest_key IS NOT NULL
      FROM steps AS s
      JOIN windows AS n ON n.label = s.next_label
     CROSS JOIN LATERAL (SELECT concat_ws(':', s.user_id, s.channel, n.period, n.label) AS digest_key) AS k
      LEFT JOIN begun AS b ON b.digest_key = k.digest_key
     WHERE s.has_begun
),
-- The last window is cut off where the quarters end, so it is none.
targets AS MATERIALIZED (
    SELECT s.own_key, s.digest_key, s.user_id, s.channel, s.period, s.starts, s.ends
      FROM steps AS s
     WHERE NOT s.has_begun
       AND s.next_label IS NOT NULL
),
-- The update that changes nothing locks an existing digest and looks at it again: when a sender has just begun it, the
-- row does not come back, its items stay queued, and the next round puts them into the next window.
digests AS (
    INSERT INTO user_alert_digests AS g
           (user_id, channel, period, window_start, window_end, digest_key, next_retry_at, created_at)
    SELECT DISTINCT ON (t.digest_key)
           t.user_id, t.channel, t.period, t.starts, t.ends, t.digest_key, t.ends + $4::interval, $1::timestamptz
      FROM targets AS t
     ORDER BY t.digest_key
        ON CONFLICT (digest_key) DO UPDATE
       SET digest_key = g.digest_key
     WHERE g.status = 'queued' AND g.attempts = 0 AND g.last_error IS NULL
    RETURNING g.id, g.digest_key, g.xmax = 0 AS created
),
attached AS (
    INSERT INTO user_alert_digest_items (digest_id, delivery_id)
    SELECT g.id, i.id
      FROM items AS i
      JOIN targets AS t USING (own_key)
      JOIN digests AS g USING (digest_key)
        ON CONFLICT (delivery_id) DO NOTHING
    RETURNING delivery_id
),
-- A delivery that was in a digest already is only marked.
batched AS (
    SELECT delivery_id FROM attached
     UNION ALL
    SELECT i.delivery_id
      FROM user_alert_digest_items AS i
      JOIN taken AS t ON t.id = i.delivery_id
),
marked AS (
    UPDATE user_alert_deliveries AS d
       SET status = 'skipped',
           last_error = 'batched_into_digest',
           ended_at = $1::timestamptz
      FROM batched AS b
     WHERE d.id = b.delivery_id
    RETURNING d.id, d.channel, d.delivery_kind, d.attempts
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
    SELECT date_trunc('hour', $1::timestamptz, 'UTC'), 'deliveries', m.channel, m.delivery_kind, 'skipped', m.attempts > 1,
           count(*)
      FROM marked AS m
     GROUP BY m.channel, m.delivery_kind, m.attempts > 1
)
SELECT (SELECT count(*) FROM taken) AS taken,
       (SELECT count(*) FROM digests WHERE created) AS digests_created,
       (SELECT count(*) FROM attached) AS digest_items_attached,
       (SELECT count(*) FROM marked) AS deliveries_marked_batched;
