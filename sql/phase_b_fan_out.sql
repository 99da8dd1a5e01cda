-- Phase B: every pending event becomes deliveries for the users whose plan, preferences and quota say so (SPEC, section
-- 6).
--
-- The audience is taken in pages of users, each in a transaction of its own: begin_page, next_pages, fan_out_page,
-- advance_fan_out. A kill between two pages leaves fanout_position at the last committed one, and the next run goes on
-- from there (B-2). Two neighbouring pages are decided side by side, and committed in their order.
--
-- What makes a page cheap: users who are alike are judged together, by their profile; a user costs one row in pairs, a
-- refusal of a profile costs none; and what is nearly always empty (rows that others wrote, deliveries that failed) is
-- asked once for the page before it is asked for a user.

-- name: pending_events
-- The oldest events that wait for their fan-out.
--   $1 now        timestamptz
--   $2 since      interval     NULL: no limit
--   $3 most       int8
-- returns: PendingEvent, many
-- again: safe; reads only
SELECT e.id::int8 AS id, e.severity, e.fanout_position
  FROM alert_events AS e
 WHERE e.fanout_completed_at IS NULL
   AND ($2::interval IS NULL OR e.created_at >= $1::timestamptz - $2::interval)
 ORDER BY e.created_at, e.id
 LIMIT $3;

-- name: events_outside_window
-- How many events were never fanned out and are too old to be now (B-1).
--   $1 now        timestamptz
--   $2 since      interval     NULL: no limit, so none
-- returns: Count, one
-- again: safe; reads only
SELECT count(*) AS count
  FROM alert_events AS e
 WHERE e.fanout_completed_at IS NULL
   AND e.created_at < $1::timestamptz - $2::interval;

-- name: audience_size
-- About how many users there are, for the progress bar.
-- returns: Count, one
-- again: safe; reads only
SELECT greatest(c.reltuples, 0)::int8 AS count
  FROM pg_class AS c
 WHERE c.oid = 'users'::regclass;

-- name: begin_page
-- One pair of pages at a time in the whole database, whatever happens to the phase lock: reading a quota and using it up
-- is exclusive until the commit (B-7). A pair has two of these locks, taken in one order, the second by whichever of its
-- transactions decides on the lower page; nothing is decided before both are held. So a transaction that outlives its
-- neighbour still keeps others out. The locks are the transactions' own, so they also hold behind a pooler.
--   $1 key           int8
--   $2 lock_patience text         such as 20s: for this lock, and for any that the page waits for
--   $3 patience      text         such as 60s: for each statement of the page; longer than the other
-- returns: nothing
-- locks: the fan-out, until the end of the transaction
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', $2, TRUE) AS of_locks, set_config('statement_timeout', $3, TRUE) AS of_statements
)
SELECT pg_advisory_xact_lock($1),
       -- The page's joins are between sets that the planner cannot estimate: they should be hashed.
       set_config('enable_nestloop', 'off', TRUE),
       set_config('enable_mergejoin', 'off', TRUE),
       set_config('enable_seqscan', 'off', TRUE),
       set_config('work_mem', '64MB', TRUE),
       -- JIT compilation would cost more than a page takes to run.
       set_config('jit', 'off', TRUE)
  FROM patience;

-- name: end_pages
-- Give a dry run's transaction, which goes on with other phases, its settings back.
-- returns: nothing
SELECT set_config(s.name, s.reset_val, TRUE)
  FROM pg_settings AS s
 WHERE s.name IN ('lock_timeout', 'statement_timeout', 'enable_nestloop', 'enable_mergejoin', 'enable_seqscan',
                  'work_mem', 'jit');

-- name: next_pages
-- Where the next two pages end that begin behind a user, how many users they hold, and whether users remain behind them.
-- A few users are one page: then middle_user is NULL.
--   $1 after_user int8
--   $2 page_size  int8
--   $3 worth_two  int8         from this many users on, two pages are worth their while, even if they would fit into one
-- returns: Pages, one
-- again: safe; reads only
WITH numbered AS (
    SELECT u.id, row_number() OVER (ORDER BY u.id) AS number
      FROM users AS u
     WHERE u.id > $1::int8
     ORDER BY u.id
     LIMIT $2::int8 * 2
),
both_pages AS (
    SELECT coalesce(max(id), $1)::int8 AS last_user, count(*) AS users FROM numbered
)
SELECT CASE WHEN b.users >= least($3::int8, $2::int8 + 1)
            THEN (SELECT n.id::int8 FROM numbered AS n WHERE n.number = (b.users + 1) / 2) END AS middle_user,
       b.last_user, b.users, b.users = $2::int8 * 2 AS more
  FROM both_pages AS b;

-- name: hold_user
-- Wait for whoever is deleting this user, and keep the user until the end of the transaction.
--   $1 user_id int8
-- returns: nothing
-- locks: key share on the user
SELECT FROM users AS u WHERE u.id = $1::int8 FOR KEY SHARE;

-- name: still_there
-- Those of these users who are not gone; one whose deletion is not committed is still there.
--   $1 user_ids int8[]
-- returns: UserId, many
-- again: safe; reads only
SELECT u.id::int8 AS id FROM users AS u WHERE u.id = ANY ($1::int8[]) ORDER BY u.id;

-- name: fan_out_page
-- Decide for each of the events and each user of one page, per channel, and make the deliveries.
-- explain runs it with record = false: then nothing is written and the decisions come back, with their facts.
--
--   1  what is decided on     day, plans, events, others
--   2  what plans allow       allowances
--   3  who is asked           switched_off, stopped, people, members
--   4  what they want         preferences, distinctions, reduced_preferences, distinct_preferences,
--                             checked_preferences, wishes, last_heard, wanting
--   5  alike users, together  pairs, groups, judged, verdicts      refusals by plan, wish and destination
--   6  one by one             existing, considered, first_heard, second, screened      cooldowns within the run
--   7  quotas                 ranked, irregular, quotas, estimated, counted
--   8  the answer             decided      refusals by quota, and what moves to the digest for it
--   9  what is written        recipients, delivered, spent, noted
--  10  what is counted        made, refusals, outside_allowlist
--  11  what explain shows     explained, explained_preferences
--
-- A new reason to refuse is an arm of the CASE in judged, a member of Refusal, and a sentence for explain.
--   $1 event_ids  int8[]
--   $2 after_user int8         the page begins behind this user
--   $3 last_user  int8         and ends with this one
--   $4 now        timestamptz
--   $5 time_zone  text         whose day the quotas count
--   $6 plans      json_text    what resolve_plans returned
--   $7 allowlist  int8[]       NULL: everybody
--   $8 record     bool
--   $9 channels   json_text    [{channel, bit, has_digests}, …]: the registry's, at most eight
--   $10 overflow  bool         what a quota refuses goes into the digest, where plan and channel have digests
-- returns: FanOutPage, one
-- plan: fresh, for these values (a setting to that end would also have every foreign key check planned again)
-- locks: key share on the recipients (skip locked) and on the events; it stops the application from deleting them alone
-- again: safe; users up to an event's fanout_position are passed over, and so is every delivery that exists

-- == 1 == What is decided on ==========================================================================================
WITH day AS (
    -- Looked for by the quarter of an hour: where clocks go back over midnight, the day begins at the first of the two.
    SELECT today,
           min(q.instant) FILTER (WHERE q.local_date >= today) AS starts,
           min(q.instant) FILTER (WHERE q.local_date > today) AS ends
      FROM (SELECT ($4::timestamptz AT TIME ZONE $5)::date AS today) AS local
     CROSS JOIN LATERAL (
           SELECT i AS instant, (i AT TIME ZONE $5)::date AS local_date
             FROM generate_series(today::timestamp AT TIME ZONE 'UTC' - make_interval(hours => 16),
                                  today::timestamp AT TIME ZONE 'UTC' + make_interval(hours => 44),
                                  make_interval(mins => 15)) AS i
           ) AS q
     GROUP BY today
),
plans AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY p.plan)::int4 AS number, p.*
      FROM jsonb_to_recordset($6::text::jsonb)
           AS p(plan text, per_day jsonb, digests int4, alert_types text[])
),
channels AS MATERIALIZED (
    SELECT c.* FROM jsonb_to_recordset($9::text::jsonb) AS c(channel text, bit int4, has_digests bool)
),
events AS MATERIALIZED (
    SELECT e.id, e.alert_type, e.fanout_position, e.cooldown_key, e.created_at,
           scope.region,
           lower(e.scope_assets::text)::text[] AS assets,
           CASE WHEN jsonb_typeof(e.payload -> 'value') = 'number'
                THEN round(least(greatest((e.payload -> 'value')::numeric, -1e300), 1e300), 100)::float8 END AS value,
           e.alert_type = 'HIGH_IMPACT_EVENT' AND coalesce(scope.region, 'europe') = 'europe' AS by_default,
           row_number() OVER (ORDER BY e.severity DESC, e.created_at, e.id) AS quota_rank,
           row_number() OVER (ORDER BY e.created_at, e.id) AS age_rank,
           count(*) OVER (PARTITION BY e.cooldown_key) > 1 AS has_twin
      FROM alert_events AS e
     CROSS JOIN LATERAL (SELECT nullif(lower(btrim(e.scope_region)), '') AS region) AS scope
     WHERE e.id = ANY ($1)
       AND (NOT $8 OR e.fanout_completed_at IS NULL)
),
-- The other events with the same cooldown key. As an array they lead into the index of their deliveries, however long a
-- user's history is.
others AS MATERIALIZED (
    SELECT e.id AS event_id, other.id, (other.created_at, other.id) < (e.created_at, e.id) AS is_older
      FROM events AS e
      JOIN alert_events AS other ON other.cooldown_key = e.cooldown_key AND other.id <> e.id
),

-- == 2 == What plans allow ============================================================================================
-- For an event, per channel: a handful of rows. A user's class is the plan, and whether all should come in digests; sets
-- of channels are bits.
allowances AS MATERIALIZED (
    SELECT e.id AS event_id, e.quota_rank, e.age_rank, e.cooldown_key, e.has_twin,
           p.number * 2 + s.digest_only AS class, p.plan, c.channel, c.bit, a.per_day, k.kind,
           t.allowed AS type_allowed,
           t.allowed
           AND a.per_day IS NOT NULL
           AND (k.kind = 'instant' OR d.takes_digests) AS allowed,
           $10 AND d.takes_digests AS may_move
      FROM events AS e
     CROSS JOIN plans AS p
     CROSS JOIN (VALUES (0), (1)) AS s(digest_only)
     CROSS JOIN channels AS c
     CROSS JOIN LATERAL (SELECT (p.per_day ->> c.channel)::int4 AS per_day) AS a
     CROSS JOIN LATERAL (SELECT c.has_digests AND p.digests > 0 AS takes_digests) AS d
     CROSS JOIN LATERAL (
           SELECT CASE WHEN p.plan = 'free' OR s.digest_only = 1 OR a.per_day = 0
                       THEN 'digest' ELSE 'instant' END AS kind
           ) AS k
     CROSS JOIN LATERAL (
           SELECT coalesce(e.alert_type = ANY (p.alert_types) OR 'ALL' = ANY (p.alert_types), FALSE) AS allowed
           ) AS t
),

-- == 3 == Who is asked ================================================================================================
switched_off AS (
    SELECT c.user_id, bit_or(k.bit) AS bits
      FROM user_channel_preferences AS c
      JOIN channels AS k USING (channel)
     WHERE c.enabled IS FALSE
       AND c.user_id > $2::int8
       AND c.user_id <= $3::int8
     GROUP BY c.user_id
),
-- What readers stopped by the link in an email, per alert type (U-3); nearly always nothing.
stopped AS MATERIALIZED (
    SELECT s.user_id, e.id AS event_id, bit_or(k.bit) AS bits
      FROM user_alert_stops AS s
      JOIN channels AS k ON k.channel = s.channel
      JOIN events AS e ON e.alert_type = s.alert_type
     WHERE s.user_id > $2::int8
       AND s.user_id <= $3::int8
     GROUP BY s.user_id, e.id
),
people AS NOT MATERIALIZED (
    SELECT u.id, alert_missing_destinations(u, $9::text::jsonb) AS missing
      FROM users AS u
     WHERE u.id > $2::int8
       AND u.id <= $3::int8
       AND u.email_verified IS NOT FALSE
       AND ($7::int8[] IS NULL OR u.id = ANY ($7))
    OFFSET 0  -- the joins carry the bits, not the addresses
),
-- Custom channels have their addresses in a table of their own; nearly always there are none.
custom_destinations AS (
    SELECT d.user_id, bit_or(k.bit) AS bits
      FROM user_alert_destinations AS d
      JOIN channels AS k USING (channel)
     WHERE alert_destination(d.destination) IS NOT NULL
       AND d.user_id > $2::int8
       AND d.user_id <= $3::int8
     GROUP BY d.user_id
),
members AS NOT MATERIALIZED (
    SELECT u.id AS user_id,
           coalesce(p.number, free.number) * 2 + coalesce(s.digest_only, FALSE)::int4 AS class,
           coalesce(off.bits, 0) AS switched_off,
           u.missing | ((SELECT coalesce(bit_or(bit), 0) FROM channels WHERE channel LIKE '%.%')
                        & ~coalesce(custom.bits, 0)) AS missing
      FROM people AS u
      JOIN plans AS free ON free.plan = 'free'
      LEFT JOIN user_plans AS up ON up.user_id = u.id AND up.user_id > $2::int8 AND up.user_id <= $3::int8
      LEFT JOIN plans AS p ON p.plan = up.plan
      LEFT JOIN user_notification_settings AS s ON s.user_id = u.id AND s.user_id > $2 AND s.user_id <= $3
      LEFT JOIN switched_off AS off ON off.user_id = u.id
      LEFT JOIN custom_destinations AS custom ON custom.user_id = u.id
),

-- == 4 == What they want ==============================================================================================
preferences AS NOT MATERIALIZED (
    SELECT f.id::int8 AS id, f.user_id, f.enabled IS TRUE AS enabled, f.alert_type,
           coalesce(lower(btrim(f.region)), '') AS region, lower(f.asset) AS asset, f.threshold,
           greatest(coalesce(f.cooldown_minutes, 0), 0) AS cooldown_minutes
      FROM user_alert_prefs AS f
     WHERE f.user_id > $2::int8
       AND f.user_id <= $3::int8
),
-- What several events can tell apart in a row. Between two neighbouring values of events, every threshold is the same.
distinctions AS MATERIALIZED (
    SELECT array_agg(DISTINCT e.alert_type) AS types,
           array_agg(DISTINCT coalesce(e.region, 'global')) AS regions,
           bool_or(e.region IS NULL) AS any_region,
           (SELECT array_agg(DISTINCT asset) FROM events AS a CROSS JOIN unnest(a.assets) AS asset) AS assets,
           coalesce(array_agg(DISTINCT e.value ORDER BY e.value) FILTER (WHERE e.value IS NOT NULL), '{}') AS values
      FROM events AS e
    HAVING count(*) > 1
),
-- So a user with a million rows has as many as there are differences, whatever the number of events they are held
-- against. Rows that match none of the events are one, which says that the defaults do not apply.
reduced_preferences AS MATERIALIZED (
    SELECT p.user_id, m.matters AS enabled,
           CASE WHEN m.matters THEN p.alert_type END AS alert_type,
           CASE WHEN m.matters THEN CASE WHEN p.region = 'global' OR p.region = ANY (d.regions) THEN p.region
                                         ELSE '' END END AS region,
           CASE WHEN m.matters AND p.alert_type = 'ASSET_RISK_SPIKE' THEN p.asset END AS asset,
           CASE WHEN m.matters THEN CASE WHEN p.threshold = d.values[n.reached] THEN p.threshold
                                         WHEN p.threshold IS NOT NULL
                                         THEN coalesce(d.values[n.reached + 1], 'infinity') END END AS threshold,
           min(p.cooldown_minutes) AS cooldown_minutes
      FROM preferences AS p
     CROSS JOIN distinctions AS d
     CROSS JOIN LATERAL (
           SELECT p.enabled
                  AND p.alert_type = ANY (d.types)
                  AND (d.any_region OR p.region = 'global' OR p.region = ANY (d.regions))
                  AND (p.alert_type <> 'ASSET_RISK_SPIKE' OR p.asset IS NULL
                       OR coalesce(p.asset = ANY (d.assets), FALSE)) AS matters
           ) AS m
     CROSS JOIN LATERAL (SELECT width_bucket(p.threshold, d.values) AS reached) AS n
     WHERE EXISTS (SELECT FROM distinctions)
     GROUP BY 1, 2, 3, 4, 5, 6
),
-- A single event is held against the rows as they are: that costs no more.
distinct_preferences AS NOT MATERIALIZED (
    SELECT p.id, p.user_id, p.enabled, p.alert_type, p.region, p.asset, p.threshold, p.cooldown_minutes
      FROM preferences AS p
     WHERE NOT EXISTS (SELECT FROM distinctions)
     UNION ALL
    SELECT NULL, r.user_id, r.enabled, r.alert_type, r.region, r.asset, r.threshold, r.cooldown_minutes
      FROM reduced_preferences AS r
),
checked_preferences AS NOT MATERIALIZED (
    SELECT p.id, p.user_id, e.id AS event_id, p.cooldown_minutes, p.enabled,
           p.alert_type = e.alert_type AS type_matches,
           e.region IS NULL OR p.region IN ('global', e.region) AS region_matches,
           e.alert_type <> 'ASSET_RISK_SPIKE' OR p.asset IS NULL OR p.asset = ANY (e.assets) AS asset_matches,
           p.threshold IS NULL OR e.value IS NULL OR p.threshold <= e.value AS threshold_matches
      FROM distinct_preferences AS p
     CROSS JOIN events AS e
),
-- Rows that match differ in their cooldown alone, so the one with the shortest decides; NULL: the user has rows, but
-- none that matches.
wishes AS (
    SELECT c.user_id, c.event_id,
           min(c.cooldown_minutes) FILTER (
               WHERE c.enabled AND c.type_matches AND c.region_matches AND c.asset_matches AND c.threshold_matches
           ) AS cooldown_minutes
      FROM checked_preferences AS c
     GROUP BY c.user_id, c.event_id
),
-- When the user last heard of another event with the same cooldown key.
last_heard AS NOT MATERIALIZED (
    SELECT o.event_id, d.user_id, max(d.created_at) AS heard_at
      FROM user_alert_deliveries AS d
      JOIN others AS o ON o.id = d.alert_event_id
     WHERE d.alert_event_id = ANY (ARRAY(SELECT id FROM others))
       AND d.user_id > $2
       AND d.user_id <= $3
       AND d.channel <> 'account'
       AND ($8 OR d.created_at < $4::timestamptz OR (d.created_at = $4::timestamptz AND o.is_older))
     GROUP BY o.event_id, d.user_id
),
-- Where a user has no preference rows at all, the defaults of B-4 stand for them.
wanting AS NOT MATERIALIZED (
    SELECT m.user_id, m.class, m.switched_off | coalesce(st.bits, 0) AS switched_off, m.missing, e.id AS event_id,
           w.cooldown_minutes,
           CASE WHEN w.user_id IS NOT NULL
                THEN w.cooldown_minutes IS NOT NULL
                     AND (w.cooldown_minutes > 0
                          AND h.heard_at > $4::timestamptz - make_interval(mins => w.cooldown_minutes)) IS NOT TRUE
                ELSE e.by_default
           END AS wanted
      FROM members AS m
      -- Said in this way, the planner expects most users to lie beyond the position, and hashes the smaller sets.
      JOIN events AS e ON (m.user_id <= e.fanout_position) IS NOT TRUE OR NOT $8
      LEFT JOIN wishes AS w ON w.user_id = m.user_id AND w.event_id = e.id
      LEFT JOIN last_heard AS h ON h.user_id = m.user_id AND h.event_id = e.id
      LEFT JOIN stopped AS st ON st.user_id = m.user_id AND st.event_id = e.id
),

-- == 5 == Alike users, together =======================================================================================
-- Users with the same profile are decided on together, up to their quotas: its bits are, from the lowest, the channels
-- without destination (8), those that are switched off (8), whether the event is wanted, and the class.
pairs AS MATERIALIZED (
    SELECT w.user_id, w.event_id, w.cooldown_minutes,
           ((w.class << 17) + (w.wanted::int4 << 16) + (w.switched_off << 8) + w.missing)::int4 AS profile
      FROM wanting AS w
),
groups AS MATERIALIZED (
    SELECT p.event_id, p.profile, count(*) AS users FROM pairs AS p GROUP BY p.event_id, p.profile
),
judged AS NOT MATERIALIZED (
    SELECT g.event_id, g.profile, g.users, l.quota_rank, l.age_rank, l.cooldown_key, l.has_twin, l.channel, l.kind,
           l.per_day, l.may_move,
           CASE WHEN NOT l.allowed THEN 'plan'
                WHEN (g.profile >> 16) & 1 = 0 OR (g.profile >> 8) & l.bit <> 0 THEN 'prefs'
                WHEN g.profile & l.bit <> 0 THEN 'missing_destination'
           END AS refusal
      FROM groups AS g
      JOIN allowances AS l ON l.event_id = g.event_id AND l.class = g.profile >> 17
),
-- What ends here is counted by group, never user by user. A cooldown within the run counts as 'prefs', so it comes
-- before whatever reason stands behind that one.
verdicts AS MATERIALIZED (
    SELECT j.*, j.refusal IS NULL OR (j.refusal NOT IN ('plan', 'prefs') AND j.has_twin) OR NOT $8 AS goes_on
      FROM judged AS j
),

-- == 6 == One by one ==================================================================================================
existing AS MATERIALIZED (
    SELECT DISTINCT d.alert_event_id, d.user_id, d.channel
      FROM user_alert_deliveries AS d
     WHERE $8
       AND d.alert_event_id = ANY ($1)
       AND d.user_id > $2
       AND d.user_id <= $3
),
considered AS NOT MATERIALIZED (
    SELECT p.user_id, p.event_id, p.cooldown_minutes, v.channel, v.kind, v.per_day, v.may_move, v.quota_rank,
           v.age_rank, v.cooldown_key, v.refusal
      FROM pairs AS p
      JOIN verdicts AS v ON v.event_id = p.event_id AND v.profile = p.profile AND v.goes_on
     WHERE NOT EXISTS (
           SELECT FROM existing AS x
            WHERE x.user_id = p.user_id AND x.alert_event_id = p.event_id AND x.channel = v.channel
           )
),
-- Within one run the older of two events with one cooldown key goes first (B-4).
first_heard AS MATERIALIZED (
    SELECT c.user_id, c.cooldown_key, min(c.age_rank) AS age_rank
      FROM considered AS c
     WHERE (SELECT bool_or(has_twin) FROM events)
       AND c.refusal IS NULL
     GROUP BY c.user_id, c.cooldown_key
),
second AS (
    SELECT f.user_id, e.id AS event_id
      FROM first_heard AS f
      JOIN events AS e ON e.cooldown_key = f.cooldown_key AND e.age_rank > f.age_rank
),
screened AS NOT MATERIALIZED (
    SELECT c.user_id, c.event_id, c.channel, c.kind, c.per_day, c.may_move, c.quota_rank,
           CASE WHEN c.refusal IS DISTINCT FROM 'plan' AND c.cooldown_minutes > 0 AND s.user_id IS NOT NULL
                THEN 'prefs' ELSE c.refusal END AS refusal
      FROM considered AS c
      LEFT JOIN second AS s ON s.user_id = c.user_id AND s.event_id = c.event_id
),

-- == 7 == Quotas ======================================================================================================
-- What is used of a day's quota costs one row of user_alert_quotas, not a count of the day:
--
--     used = made  what the fan-out made today, whatever became of it
--          + what others wrote today    (instant rows without quota_day; mostly there are none)
--          - what failed or was skipped of that which was made    (mostly none; what went out in a bundle counts)
--
-- An example: 8 emails a day. The fan-out made 6 for the user, of which 1 failed; the application wrote 2. So 6 + 2 - 1
-- = 7 are used. Of two events on this page the more severe has place 1, and 7 + 1 <= 8: it is delivered. The other has
-- place 2, and 7 + 2 > 8: 'quota'. Then noted writes made = 7.
--
-- Rows that somebody deleted leave made too high, never too low: so before a refusal there is a look at the index. If it
-- has 6 rows of today, made is right. If it has 4, the day is counted (really_used = 4 + 2 - 1 = 5), the second event
-- goes out, too, and noted writes what explains that count: made = 4 + 2.
--
-- Whose turn it is for what is left of the quota; with one event there is nothing to sort.
ranked AS NOT MATERIALIZED (
    SELECT s.*, 1::int8 AS place
      FROM screened AS s
     WHERE (SELECT count(*) FROM events) = 1
     UNION ALL
    SELECT s.*, row_number() OVER (PARTITION BY s.user_id, s.channel, s.kind, s.refusal IS NULL ORDER BY s.quota_rank)
      FROM screened AS s
     WHERE (SELECT count(*) FROM events) > 1
),
-- Whether the page has any rows at all that others wrote, or that failed: asked once, before it is asked for a user.
irregular AS (
    SELECT EXISTS (SELECT FROM user_alert_deliveries AS d
                    WHERE d.delivery_kind = 'instant'
                      AND d.quota_day IS NULL
                      AND d.user_id > $2
                      AND d.user_id <= $3) AS uncounted,
           EXISTS (SELECT FROM user_alert_deliveries AS d
                    WHERE d.quota_day = (SELECT today FROM day)
                      AND d.status IN ('failed', 'skipped')
                      AND d.last_error IS DISTINCT FROM 'batched_into_digest'
                      AND d.user_id > $2
                      AND d.user_id <= $3) AS freed
),
-- Where a row speaks of another day although something was made today, the time zone has changed, or somebody replayed
-- an old moment: that leaves one unsure, as having no row does. Then the day is counted.
quotas AS NOT MATERIALIZED (
    SELECT q.user_id, q.channel,
           CASE WHEN q.quota_day = day.today THEN q.made ELSE 0 END AS made,
           q.quota_day <> day.today AND q.counted_at >= day.starts AS is_unsure
      FROM user_alert_quotas AS q
     CROSS JOIN day
     WHERE q.user_id > $2
       AND q.user_id <= $3
),
estimated AS NOT MATERIALIZED (
    SELECT r.*, coalesce(q.made, 0) AS made, coalesce(q.is_unsure, TRUE) AS is_unsure,
           coalesce(q.made, 0)
           + CASE WHEN (SELECT uncounted FROM irregular) THEN (
               SELECT count(*)
                 FROM user_alert_deliveries AS d
                WHERE d.user_id = r.user_id
                  AND d.channel = r.channel
                  AND d.delivery_kind = 'instant'
                  AND d.quota_day IS NULL
                  AND (d.status IN ('queued', 'sending', 'sent') OR d.last_error = 'batched_into_digest')
                  AND d.created_at >= (SELECT starts FROM day)
                  AND d.created_at < (SELECT ends FROM day))
             ELSE 0 END
           - CASE WHEN (SELECT freed FROM irregular) THEN (
               SELECT count(*)
                 FROM user_alert_deliveries AS d
                WHERE d.user_id = r.user_id
                  AND d.channel = r.channel
                  AND d.quota_day = (SELECT today FROM day)
                  AND d.status IN ('failed', 'skipped')
                  AND d.last_error IS DISTINCT FROM 'batched_into_digest')
             ELSE 0 END AS used
      FROM ranked AS r
      LEFT JOIN quotas AS q
             ON q.user_id = r.user_id AND q.channel = r.channel AND r.kind = 'instant' AND r.refusal IS NULL
    OFFSET 0  -- worked out once, although it is used twice
),
counted AS NOT MATERIALIZED (
    SELECT e.*,
           CASE WHEN e.kind = 'digest' OR e.refusal IS NOT NULL THEN NULL
                WHEN $8 AND NOT e.is_unsure AND e.used + e.place <= e.per_day THEN e.used
                -- Nothing was deleted: what the index has of today is what was made.
                WHEN $8 AND NOT e.is_unsure AND e.made = (
                     SELECT count(*)
                       FROM user_alert_deliveries AS d
                      WHERE d.user_id = e.user_id
                        AND d.channel = e.channel
                        AND d.quota_day = (SELECT today FROM day)) THEN e.used
                ELSE (SELECT count(*)
                        FROM user_alert_deliveries AS d
                       WHERE d.user_id = e.user_id
                         AND d.channel = e.channel
                         AND d.delivery_kind = 'instant'
                         AND (d.status IN ('queued', 'sending', 'sent') OR d.last_error = 'batched_into_digest')
                         AND d.created_at >= (SELECT starts FROM day)
                         AND d.created_at < (SELECT ends FROM day)
                         AND ($8 OR (d.created_at <= $4::timestamptz AND d.alert_event_id <> e.event_id))
                         AND (d.quota_day IS NULL
                              OR d.quota_day BETWEEN (SELECT today - 1 FROM day) AND (SELECT today + 1 FROM day)))
           END AS really_used
      FROM estimated AS e
),

-- == 8 == The answer ==================================================================================================
-- 'moved' is no refusal: it becomes a digest delivery, which counts in no quota.
decided AS MATERIALIZED (
    SELECT c.user_id, c.event_id, c.channel, c.kind,
           -- If rows were counted after all, what was made is what explains that count.
           c.made + c.really_used - c.used AS made,
           coalesce(c.refusal, CASE WHEN c.really_used + c.place > c.per_day
                                    THEN CASE WHEN c.may_move THEN 'moved' ELSE 'quota' END END) AS reason,
           CASE WHEN NOT $8 THEN c.really_used END AS used
      FROM counted AS c
),

-- == 9 == What is written =============================================================================================
-- Whoever gets something is kept from being deleted until the commit, as the foreign key would do it; but no one is
-- waited for who is being deleted already, since that transaction may go on to wait for a recipient.
recipients AS MATERIALIZED (
    SELECT u.id
      FROM users AS u
     WHERE u.id > $2::int8
       AND u.id <= $3::int8
       AND u.id IN (SELECT d.user_id FROM decided AS d WHERE $8 AND coalesce(d.reason, 'moved') = 'moved')
       FOR KEY SHARE OF u SKIP LOCKED
),
delivered AS (
    INSERT INTO user_alert_deliveries
           (user_id, alert_event_id, channel, delivery_kind, created_at, quota_day, over_quota)
    SELECT d.user_id, d.event_id, d.channel,
           CASE WHEN d.reason IS NULL THEN d.kind ELSE 'digest' END, $4,
           CASE WHEN d.reason IS NULL AND d.kind = 'instant' THEN (SELECT today FROM day) END,
           CASE WHEN d.reason IS NOT NULL THEN TRUE END
      FROM decided AS d
      JOIN recipients AS r ON r.id = d.user_id
     WHERE $8
       AND coalesce(d.reason, 'moved') = 'moved'
        ON CONFLICT (alert_event_id, user_id, channel, delivery_kind) DO NOTHING
    RETURNING delivery_kind, over_quota
),
-- What is noted may be too high by a delivery that somebody else has just written, which refuses nobody.
spent AS NOT MATERIALIZED (
    SELECT d.user_id, d.channel, max(d.made) + count(*) AS made
      FROM decided AS d
      JOIN recipients AS r ON r.id = d.user_id
     WHERE $8
       AND d.reason IS NULL
       AND d.kind = 'instant'
     GROUP BY d.user_id, d.channel
),
noted AS (
    INSERT INTO user_alert_quotas AS q (user_id, channel, quota_day, made, counted_at)
    SELECT s.user_id, s.channel, (SELECT today FROM day), s.made, $4
      FROM spent AS s
        ON CONFLICT (user_id, channel) DO UPDATE
       SET quota_day = excluded.quota_day,
           made = excluded.made,
           counted_at = greatest(q.counted_at, excluded.counted_at)
),

-- == 10 == What is counted ============================================================================================
made AS (
    SELECT count(*) AS deliveries, count(*) FILTER (WHERE delivery_kind = 'digest') AS digests,
           count(*) FILTER (WHERE over_quota) AS moved
      FROM delivered
),
refusals AS (
    SELECT v.refusal AS reason, sum(v.users) AS count FROM verdicts AS v WHERE NOT v.goes_on GROUP BY v.refusal
     UNION ALL
    -- A delivery that exists was decided on earlier, whatever would be decided now.
    SELECT v.refusal, -count(*)
      FROM existing AS x
      JOIN pairs AS p ON p.user_id = x.user_id AND p.event_id = x.alert_event_id
      JOIN verdicts AS v ON v.event_id = p.event_id AND v.profile = p.profile AND v.channel = x.channel
     WHERE NOT v.goes_on
     GROUP BY v.refusal
     UNION ALL
    SELECT d.reason, count(*) FROM decided AS d WHERE coalesce(d.reason, 'moved') <> 'moved' GROUP BY d.reason
),
outside_allowlist AS (
    SELECT count(*) AS pairs
      FROM users AS u
      JOIN events AS e ON u.id > e.fanout_position
     WHERE $7::int8[] IS NOT NULL
       AND u.id > $2::int8
       AND u.id <= $3::int8
       AND u.email_verified IS NOT FALSE
       AND u.id <> ALL ($7::int8[])
),

-- == 11 == What explain shows =========================================================================================
explained AS (
    SELECT jsonb_agg(jsonb_build_object(
               'event_id', d.event_id, 'user_id', d.user_id, 'channel', d.channel,
               'kind', CASE WHEN d.reason = 'moved' THEN 'digest' ELSE d.kind END,
               'reason', nullif(d.reason, 'moved'), 'over_quota', coalesce(d.reason = 'moved', FALSE),
               'plan', l.plan, 'type_allowed', l.type_allowed, 'per_day', l.per_day, 'used', d.used,
               'wanted', (p.profile >> 16) & 1 = 1, 'cooldown_minutes', p.cooldown_minutes,
               'heard_at', h.heard_at::timestamptz, 'switched_off', (p.profile >> 8) & l.bit <> 0,
               'stopped', coalesce(st.bits & l.bit <> 0, FALSE),
               'destination_present', p.profile & l.bit = 0) ORDER BY d.event_id, d.channel) AS decisions
      FROM decided AS d
      JOIN pairs AS p ON p.user_id = d.user_id AND p.event_id = d.event_id
      JOIN allowances AS l ON l.event_id = p.event_id AND l.class = p.profile >> 17 AND l.channel = d.channel
      LEFT JOIN last_heard AS h ON h.user_id = d.user_id AND h.event_id = d.event_id
      LEFT JOIN stopped AS st ON st.user_id = d.user_id AND st.event_id = d.event_id
     WHERE NOT $8
),
-- Those that match first, and of these the one that decides.
explained_preferences AS (
    SELECT jsonb_agg(to_jsonb(first) ORDER BY first.id) AS preferences
      FROM (SELECT c.*, count(*) OVER () AS in_all
              FROM checked_preferences AS c
             WHERE NOT $8
             ORDER BY (c.enabled AND c.type_matches AND c.region_matches AND c.asset_matches AND c.threshold_matches)
                      IS TRUE DESC, c.cooldown_minutes, c.id
             LIMIT 100) AS first
)
SELECT (SELECT coalesce(sum(users), 0)::int8 FROM groups) + outside.pairs AS users_considered,
       made.deliveries - made.digests AS created_instant,
       made.digests AS created_digest,
       made.moved AS moved_to_digest,
       (SELECT coalesce(jsonb_object_agg(r.reason, r.count), '{}')::text
          FROM (SELECT reason, sum(count)::int8 AS count FROM refusals GROUP BY reason) AS r) AS refusals,
       outside.pairs AS users_skipped_allowlist,
       ARRAY(SELECT d.user_id::int8
               FROM decided AS d
              WHERE $8
                AND coalesce(d.reason, 'moved') = 'moved'
                AND NOT EXISTS (SELECT FROM recipients AS r WHERE r.id = d.user_id)) AS held_by_others,
       explained.decisions::text,
       explained_preferences.preferences::text
  FROM made, outside_allowlist AS outside, explained, explained_preferences;

-- name: advance_fan_out
-- Note how far the fan-out of these events has come; at the end of the audience, mark them completed.
--   $1 event_ids int8[]
--   $2 last_user int8
--   $3 completed bool
--   $4 now       timestamptz
-- returns: Count, one
-- locks: the events' rows
-- again: safe; it never goes back, and a completed event stays as it is
WITH advanced AS (
    UPDATE alert_events AS e
       SET fanout_position = greatest(e.fanout_position, $2),
           fanout_completed_at = CASE WHEN $3 THEN $4::timestamptz END
     WHERE e.id = ANY ($1)
       AND e.fanout_completed_at IS NULL
    RETURNING e.id
)
SELECT count(*) AS count FROM advanced;
