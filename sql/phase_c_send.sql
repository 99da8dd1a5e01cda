-- Phase C: what is due is claimed, sent and settled (SPEC section 8). Every settle is guarded by the lease: a late writer
-- changes nothing.
--
-- Deliveries and digests have one life, and one text: where a header says "also", the same statement runs on the other
-- table, with that table for /* TABLE */ and without the lines that are "only here".
--
-- In this phase $n now may be NULL: then the database's clock decides, again in each statement (C-14). A row has a lease
-- exactly while it is 'sending', so a statement that goes by ids asks for the lease: asked for the status, the planner
-- would go through the index of all that is being sent instead of the primary key.
--
-- A statement that ends rows, or learns what became of an attempt, counts that in the same breath: a row of
-- alerts_engine_outcomes for each kind of outcome (O-4a), and a row of alerts_engine_attempts for each attempt that was no
-- plain success. So the counts are right whenever a run is killed, and nobody waits for anybody's.

-- name: reclaim_deliveries
-- also: reclaim_digests for user_alert_digests
-- Give back the rows whose lease expired: their sender is gone (C-11). A send that had begun is uncertain from then on; it
-- ends here only where nobody can ever tell what became of it (C-17).
--   $1 now            timestamptz
--   $2 max_attempts   int4
--   $3 give_up        bool         ALERTS_UNCERTAIN_SEND=fail: what nobody can tell about is not tried again
--   $4 mute           text[]       the providers that recognise no key and cannot be asked
-- returns: Reclaimed, one
-- locks: the expired rows
-- again: safe; a reclaimed row has no lease
WITH expired AS (
    SELECT r.id, r.sent_by, r.claimed_by, r.send_started_at IS NOT NULL AS begun,
           r.sent_by IS NULL OR r.sent_by = ANY ($4) AS is_mute
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.status = 'sending'
       AND r.lease_expires_at <= coalesce($1::timestamptz, now())
       FOR UPDATE SKIP LOCKED
),
reclaimed AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = CASE WHEN x.begun AND x.is_mute AND ($3 OR r.attempts + 1 >= $2) THEN 'failed' ELSE 'queued' END,
           failure_kind = CASE WHEN NOT x.begun THEN r.failure_kind
                               WHEN x.is_mute AND $3 THEN 'permanent'
                               ELSE 'transient' END,
           last_error = CASE WHEN x.begun THEN 'send_uncertain' ELSE r.last_error END,
           attempts = r.attempts + CASE WHEN x.begun THEN 1 ELSE 0 END,
           next_retry_at = CASE WHEN NOT x.begun THEN r.next_retry_at
                                WHEN x.is_mute AND ($3 OR r.attempts + 1 >= $2) THEN NULL
                                ELSE coalesce($1::timestamptz, now()) END,
           uncertain_since = CASE WHEN NOT x.begun THEN r.uncertain_since
                                  WHEN x.is_mute AND ($3 OR r.attempts + 1 >= $2) THEN NULL
                                  ELSE coalesce(r.uncertain_since, r.send_started_at) END,
           sent_by = CASE WHEN x.begun AND x.is_mute THEN NULL ELSE r.sent_by END,
           ended_at = CASE WHEN x.begun AND x.is_mute AND ($3 OR r.attempts + 1 >= $2)
                           THEN coalesce($1::timestamptz, now()) END,
           claimed_by = NULL, lease_expires_at = NULL
      FROM expired AS x
     WHERE r.id = x.id
    RETURNING r.id, r.channel, r.status, r.attempts, r.send_started_at, x.begun, x.sent_by, x.claimed_by
              , r.delivery_kind AS kind  -- there: , 'digest' AS kind
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
    SELECT date_trunc('hour', coalesce($1::timestamptz, now()), 'UTC'),
           'deliveries',  -- there: 'digests',
           c.channel, c.kind, CASE c.status WHEN 'queued' THEN 'uncertain' ELSE c.status END, c.attempts > 1, count(*)
      FROM reclaimed AS c
     WHERE c.begun
     GROUP BY c.channel, c.kind, c.status, c.attempts > 1
),
noted AS (
    INSERT INTO alerts_engine_attempts (
           delivery_id,  -- there: digest_id,
           attempt, begun_at, known_at, outcome, error, provider, run_id)
    SELECT c.id, c.attempts, c.send_started_at, coalesce($1::timestamptz, now()),
           CASE c.status WHEN 'queued' THEN 'uncertain' ELSE c.status END, 'lease_expired', c.sent_by, c.claimed_by
      FROM reclaimed AS c
     WHERE c.begun
)
SELECT count(*) AS reclaimed, count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE begun) AS uncertain
  FROM reclaimed;

-- name: skip_unconfigured_deliveries
-- also: skip_unconfigured_digests for user_alert_digests
-- End the due rows of a channel that has no credentials (C-10), a batch at a time.
--   $1 channel   text
--   $2 now       timestamptz
--   $3 allowlist int8[]        NULL: everybody
--   $4 batch     int8
-- returns: Count, one
-- locks: the rows it ends (skip locked)
-- again: safe; an ended row is not queued any more
WITH due AS (
    SELECT r.id
      FROM /* TABLE */ user_alert_deliveries AS r
     WHERE r.channel = $1
       AND r.status = 'queued'
       AND r.delivery_kind = 'instant'  -- only here
       AND (r.next_retry_at IS NULL OR r.next_retry_at <= coalesce($2::timestamptz, now()))
       AND r.uncertain_since IS NULL
       AND ($3::int8[] IS NULL OR r.user_id = ANY ($3))
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
ended AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = 'skipped', last_error = 'channel_not_configured', next_retry_at = NULL,
           ended_at = coalesce($2::timestamptz, now())
      FROM due
     WHERE r.id = due.id
    RETURNING r.attempts
              , r.delivery_kind AS kind  -- there: , 'digest' AS kind
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
    SELECT date_trunc('hour', coalesce($2::timestamptz, now()), 'UTC'),
           'deliveries',  -- there: 'digests',
           $1, c.kind, 'skipped', c.attempts > 1, count(*)
      FROM ended AS c
     GROUP BY c.kind, c.attempts > 1
)
SELECT count(*) AS count FROM ended;

-- name: channel_work
-- What there is to do on each of these channels. Most runs find nothing, so one question answers for all of them; what
-- is due here may still be left alone by a claim, since it is stricter. The order makes each answer the first entry of
-- an index: for EXISTS alone the planner may read the table, in the hope of a row that comes soon.
--   $1 channels text[]
--   $2 now      timestamptz
-- returns: ChannelWork, many
-- again: safe; reads only
SELECT c.channel,
       coalesce((SELECT TRUE FROM user_alert_deliveries AS d
                  WHERE d.channel = c.channel AND d.status = 'queued' AND d.delivery_kind = 'instant'
                    AND d.next_retry_at IS NULL
                  ORDER BY d.created_at, d.id LIMIT 1),
                (SELECT TRUE FROM user_alert_deliveries AS d
                  WHERE d.channel = c.channel AND d.status = 'queued' AND d.delivery_kind = 'instant'
                    AND d.next_retry_at <= coalesce($2::timestamptz, now())
                  ORDER BY d.next_retry_at, d.id LIMIT 1),
                (SELECT TRUE FROM user_alert_digests AS g
                  WHERE g.channel = c.channel AND g.status = 'queued' AND g.next_retry_at IS NULL
                  ORDER BY g.created_at, g.id LIMIT 1),
                (SELECT TRUE FROM user_alert_digests AS g
                  WHERE g.channel = c.channel AND g.status = 'queued'
                    AND g.next_retry_at <= coalesce($2::timestamptz, now())
                  ORDER BY g.next_retry_at, g.id LIMIT 1), FALSE) AS is_due,
       coalesce((SELECT TRUE FROM user_alert_deliveries AS d
                  WHERE d.channel = c.channel AND d.status = 'queued' AND d.uncertain_since IS NOT NULL
                    AND d.next_retry_at <= coalesce($2::timestamptz, now())
                  ORDER BY d.next_retry_at, d.id LIMIT 1),
                (SELECT TRUE FROM user_alert_digests AS g
                  WHERE g.channel = c.channel AND g.status = 'queued' AND g.uncertain_since IS NOT NULL
                    AND g.next_retry_at <= coalesce($2::timestamptz, now())
                  ORDER BY g.next_retry_at, g.id LIMIT 1), FALSE) AS is_uncertain
  FROM unnest($1::text[]) AS c(channel);

-- name: claim_deliveries
-- also: claim_digests for user_alert_digests, returns ClaimedDigest
-- Lease due rows of one channel to this run, oldest first.
-- What this run claimed before leaves dead entries at the head of the index, as long as anybody's old snapshot keeps
-- them. So a claim begins where the last one ended ($9 … $12); rows given back since lie before that, and are found by a
-- claim that begins at the head again.
-- The limit of 1000 is for the planner, which does not know $2; no more rows are locked than $2 asks for.
-- An uncertain row is claimed where sending it again is safe, because its key lives, or because nobody can tell and it
-- may be sent again: then sent_by is NULL (C-17).
-- Under a key a repeat is safe. So a first send is noted as begun here, which spares its row an update; a crash before
-- the call then spends an attempt. A repeat is begun by begin_deliveries, which keeps the first use of its key.
--   $1 channel      text
--   $2 claim_size   int8        most rows to take
--   $3 run_id       text
--   $4 lease        interval
--   $5 now          timestamptz
--   $6 allowlist    int8[]      NULL: everybody
--   $7 resting      text[]      destinations that may not be written to this very moment
--   $8 set_aside    int8[]      rows whose outcome this run has not been able to write yet
--   $9 new_from     timestamptz where to begin among the rows that were never tried: created_at and id
--   $10 new_from_id int8        NULL: at the head
--   $11 due_from    timestamptz the same among those that wait for their time: next_retry_at and id
--   $12 due_from_id int8
--   $13 provider    text        who carries the channel now
--   $14 key_life    interval    how long it recognises a key; NULL: it has none
--   $15 max_attempts int4
--   $16 says_why    bool        an email says why it came: note that once, for every attempt (M-3b)
--   $17 begins      bool        the provider recognises a key: a first send begins here, without begin_deliveries
-- returns: ClaimedDelivery, many
-- locks: the claimed rows (skip locked)
-- plan: lasting, but fresh when $6 is given: those on a list are found by an index
-- again: safe; a crash leaves a lease that reclaim_deliveries gives back
WITH fresh AS (
    SELECT f.*
      FROM (SELECT r.id, r.created_at, r.user_id, r.reasons,
                   r.key_used_at IS NULL AND r.uncertain_since IS NULL AS is_first
                   , r.alert_event_id  -- only here
              FROM /* TABLE */ user_alert_deliveries AS r
             WHERE r.channel = $1
               AND r.status = 'queued'
               AND r.delivery_kind = 'instant'  -- only here
               AND r.next_retry_at IS NULL
               AND r.uncertain_since IS NULL
               AND (r.created_at, r.id) >= (coalesce($9::timestamptz, '-infinity'), coalesce($10::int8, 0))
               AND CASE WHEN $6::int8[] IS NULL THEN TRUE ELSE r.user_id = ANY ($6) END
               AND CASE WHEN cardinality($7::text[]) = 0 THEN TRUE ELSE NOT EXISTS (
                   SELECT FROM alert_destinations() AS a
                    WHERE a.user_id = r.user_id AND a.channel = $1 AND a.destination = ANY ($7)) END
               AND r.id <> ALL ($8)
             ORDER BY r.created_at, r.id
             LIMIT 1000
               FOR UPDATE OF r SKIP LOCKED) AS f
     LIMIT $2
),
again AS (
    SELECT f.*
      FROM (SELECT r.id, r.created_at, r.user_id, r.reasons,
                   r.key_used_at IS NULL AND r.uncertain_since IS NULL AS is_first
                   , r.alert_event_id  -- only here
              FROM /* TABLE */ user_alert_deliveries AS r
             WHERE r.channel = $1
               AND r.status = 'queued'
               AND r.delivery_kind = 'instant'  -- only here
               AND r.next_retry_at IS NOT NULL
               AND r.next_retry_at <= coalesce($5::timestamptz, now())
               AND (r.next_retry_at, r.id) >= (coalesce($11::timestamptz, '-infinity'), coalesce($12::int8, 0))
               AND (r.uncertain_since IS NULL
                    OR r.attempts < $15
                       AND (r.sent_by IS NULL OR r.sent_by = $13 AND r.key_used_at > now() - $14::interval))
               AND CASE WHEN $6::int8[] IS NULL THEN TRUE ELSE r.user_id = ANY ($6) END
               AND CASE WHEN cardinality($7::text[]) = 0 THEN TRUE ELSE NOT EXISTS (
                   SELECT FROM alert_destinations() AS a
                    WHERE a.user_id = r.user_id AND a.channel = $1 AND a.destination = ANY ($7)) END
               AND r.id <> ALL ($8)
             ORDER BY r.next_retry_at, r.id
             LIMIT 1000
               FOR UPDATE OF r SKIP LOCKED) AS f
     LIMIT $2
),
due AS (
    SELECT b.*
      FROM (SELECT * FROM fresh UNION ALL SELECT * FROM again) AS b
     ORDER BY b.created_at, b.id
     LIMIT $2
),
-- A claim that begins nothing need not wait for the disk: every send waits for the commit of begin_deliveries, which
-- takes it along.
asked AS MATERIALIZED (
    SELECT $16::bool AS says_why, $17::bool AS begins,
           CASE WHEN $17::bool THEN current_setting('synchronous_commit')
                ELSE set_config('synchronous_commit', 'off', TRUE) END AS commit_mode
),
claimed AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = 'sending',
           claimed_by = $3,
           lease_expires_at = coalesce($5::timestamptz, now()) + $4::interval,
           send_started_at = CASE WHEN asked.begins AND due.is_first THEN now() END,
           key_used_at = CASE WHEN asked.begins AND due.is_first THEN now() ELSE r.key_used_at END,
           sent_by = CASE WHEN asked.begins AND due.is_first THEN $13 ELSE r.sent_by END,
           reasons = coalesce(r.reasons, w.reasons)
      FROM due
     CROSS JOIN asked
      LEFT JOIN LATERAL alert_reasons_for(due.user_id::int8, CASE WHEN asked.says_why AND due.reasons IS NULL THEN
                ARRAY[due.alert_event_id::int8]  -- there: ARRAY(SELECT d.alert_event_id::int8 FROM user_alert_digest_items AS i JOIN user_alert_deliveries AS d ON d.id = i.delivery_id WHERE i.digest_id = due.id)
                END) AS w ON TRUE
     WHERE r.id = due.id
       AND asked.commit_mode <> ''
    RETURNING r.id, r.user_id, r.attempts, r.created_at, r.next_retry_at, r.uncertain_since, r.reasons,
              r.send_started_at IS NOT NULL AS is_begun
              , r.alert_event_id  -- only here
)
SELECT c.id::int8 AS id, c.attempts, c.created_at::timestamptz AS created_at,
       c.next_retry_at::timestamptz AS next_retry_at, a.destination,
       coalesce(p.enabled, TRUE)
       -- What the reader stopped since; a digest has lost such items already.
       AND NOT EXISTS (SELECT FROM user_alert_stops AS s JOIN alert_events AS e ON e.alert_type = s.alert_type WHERE s.user_id = c.user_id AND s.channel = $1 AND e.id = c.alert_event_id)  -- only here
       AS channel_enabled,
       c.uncertain_since IS NOT NULL AS is_repeat, c.is_begun, c.user_id::int8 AS user_id, c.reasons::text AS reasons
       , c.alert_event_id::int8 AS event_id  -- only here
  FROM claimed AS c
  LEFT JOIN alert_destinations() AS a ON a.user_id = c.user_id AND a.channel = $1
  LEFT JOIN user_channel_preferences AS p ON p.user_id = c.user_id AND p.channel = $1
 ORDER BY c.created_at, c.id;

-- name: digest_contents
-- What these digests are and what stands in them, the most severe first; one that has no items has one row.
--   $1 digest_ids int8[]
-- returns: DigestRow, many
-- again: safe; reads only
SELECT g.id::int8 AS digest_id, g.digest_key, g.period, g.window_start::timestamptz AS window_start,
       g.window_end::timestamptz AS window_end, e.id::int8 AS event_id, d.over_quota IS TRUE AS over_quota
  FROM user_alert_digests AS g
  LEFT JOIN (user_alert_digest_items AS i
             JOIN user_alert_deliveries AS d ON d.id = i.delivery_id
             JOIN alert_events AS e ON e.id = d.alert_event_id) ON i.digest_id = g.id
 WHERE g.id = ANY ($1)
 ORDER BY g.id, e.severity DESC, e.created_at, e.id;

-- name: event_rows
-- The events that messages are made of. Many rows tell the same few: each is read once, not with every row. Texts are
-- cut here to what a message can use, however long they are.
--   $1 event_ids     int8[]
--   $2 longest_line  int4         characters of a headline, a region, a type, an asset or a name in the payload
--   $3 longest_body  int4
--   $4 most_assets   int4
-- returns: EventRow, many
-- again: safe; reads only
SELECT e.id::int8 AS id, e.event_fingerprint, left(e.alert_type, $2) AS alert_type,
       left(e.scope_region, $2) AS scope_region,
       ARRAY(SELECT left(asset, $2) FROM unnest(e.scope_assets[:$4]) WITH ORDINALITY AS a(asset, place) ORDER BY place)
           AS scope_assets,
       e.severity, left(e.headline, $2) AS headline, left(e.body, $3) AS body,
       -- Moments that only PostgreSQL knows, such as infinity, would break off everybody's messages.
       least(greatest(e.created_at, '0001-01-03'), '9999-12-01')::timestamptz AS created_at,
       CASE WHEN jsonb_typeof(e.payload -> 'value') = 'number'
            THEN round(least(greatest((e.payload -> 'value')::numeric, -1e300), 1e300), 100)::float8 END AS value,
       CASE WHEN jsonb_typeof(e.payload -> 'previous') = 'number'
            THEN round(least(greatest((e.payload -> 'previous')::numeric, -1e300), 1e300), 100)::float8 END AS previous,
       CASE WHEN jsonb_typeof(e.payload -> 'what') = 'string' THEN left(e.payload ->> 'what', $2) END AS what,
       CASE WHEN jsonb_typeof(e.payload -> 'digest_headline') = 'string'
            THEN left(e.payload ->> 'digest_headline', $2) END AS digest_headline,
       CASE WHEN jsonb_typeof(e.payload -> 'source') = 'string' THEN left(e.payload ->> 'source', $2) END AS source
  FROM alert_events AS e
 WHERE e.id = ANY ($1);

-- name: are_deliveries_due
-- also: are_digests_due for user_alert_digests
-- Whether anything of one channel is due, resting destinations included.
--   $1 channel   text
--   $2 now       timestamptz
--   $3 allowlist int8[]
--   $4 set_aside int8[]
--   $5 provider  text
--   $6 key_life  interval
--   $7 max_attempts int4
-- returns: Due, one
-- again: safe; reads only
SELECT EXISTS (
           SELECT FROM /* TABLE */ user_alert_deliveries AS r
            WHERE r.channel = $1
              AND r.status = 'queued'
              AND r.delivery_kind = 'instant'  -- only here
              AND r.next_retry_at IS NULL
              AND r.uncertain_since IS NULL
              AND ($3::int8[] IS NULL OR r.user_id = ANY ($3))
              AND r.id <> ALL ($4))
    OR EXISTS (
           SELECT FROM /* TABLE */ user_alert_deliveries AS r
            WHERE r.channel = $1
              AND r.status = 'queued'
              AND r.delivery_kind = 'instant'  -- only here
              AND r.next_retry_at IS NOT NULL
              AND r.next_retry_at <= coalesce($2::timestamptz, now())
              AND (r.uncertain_since IS NULL
                   OR r.attempts < $7
                      AND (r.sent_by IS NULL OR r.sent_by = $5 AND r.key_used_at > now() - $6::interval))
              AND ($3::int8[] IS NULL OR r.user_id = ANY ($3))
              AND r.id <> ALL ($4)) AS due;

-- name: begin_deliveries
-- also: begin_digests for user_alert_digests
-- Note that these sends begin now, and by whom: from here on a crash leaves them uncertain (C-11). Not returned is what
-- another run took, and what would be sent beyond its lease: this process was asleep.
--   $1 ids          int8[]
--   $2 run_id       text
--   $3 now          timestamptz
--   $4 send_time    interval       how long a send may take
--   $5 provider     text
--   $6 body_digests bytea[]        of the texts, where the provider can only be asked by them
--   $7 key_life     interval       how long it recognises a key; NULL: it has none
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE /* TABLE */ user_alert_deliveries AS r
   SET send_started_at = now(),
       key_used_at = CASE WHEN r.key_used_at > now() - $7::interval THEN r.key_used_at ELSE now() END,
       sent_by = $5,
       body_digest = b.body_digest
  FROM unnest($1::int8[], $6::bytea[]) AS b(id, body_digest)
 WHERE r.id = b.id
   AND r.claimed_by = $2
   AND r.lease_expires_at > coalesce($3::timestamptz, now()) + $4::interval
RETURNING r.id::int8 AS id;

-- name: settle_deliveries
-- also: settle_digests for user_alert_digests
-- Write the outcomes of a batch of sends, each only while this run still holds it (C-5); except that what was reclaimed
-- as uncertain, and that nobody took since, becomes sent when the truth comes late.
-- An uncertain row is repeated while its key lives, whatever the backoff says; then it is asked about (C-17). It stays
-- uncertain when a repeat is refused for now: what the first send came to is as unknown as before.
--   $1 run_id               text
--   $2 now                  timestamptz
--   $3 ids                  int8[]
--   $4 statuses             text[]
--   $5 attempts             int4[]      attempts made, this one included
--   $6 retry_seconds        float8[]    NULL: no retry
--   $7 errors               text[]
--   $8 failure_kinds        text[]
--   $9 provider_message_ids text[]
--   $10 uncertain           bool[]      the row is, or stays, uncertain
--   $11 key_seconds         float8[]    how long the provider recognises a key; NULL: no more, or never
--   $12 can_tell            bool[]      whether the provider recognises a key or can be asked
--   $13 ask_after           interval    from a send's beginning until its provider is asked
--   $14 called              bool[]      FALSE: its provider was never called, so what its claim began is taken back
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease, so the second time changes nothing
WITH settled AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = o.status,
           attempts = o.attempts,
           next_retry_at = CASE
               WHEN NOT o.uncertain OR NOT o.can_tell
               THEN coalesce($2::timestamptz, now()) + make_interval(secs => o.retry_seconds)
               WHEN o.key_seconds IS NOT NULL AND r.key_used_at + make_interval(secs => o.key_seconds) > now()
               THEN least(coalesce($2::timestamptz, now()) + make_interval(secs => o.retry_seconds),
                          r.key_used_at + make_interval(secs => o.key_seconds))
               ELSE greatest(coalesce($2::timestamptz, now()), r.send_started_at + $13::interval) END,
           last_error = o.error,
           failure_kind = o.failure_kind,
           provider_message_id = coalesce(o.provider_message_id, r.provider_message_id),
           sent_at = CASE WHEN o.status = 'sent' THEN coalesce($2::timestamptz, now()) END,
           ended_at = CASE WHEN o.status <> 'queued' THEN coalesce($2::timestamptz, now()) END,
           -- Only what had failed has ended already: it leaves the hour in which it was counted.
           failed_before = r.ended_at,
           claimed_by = CASE WHEN o.status <> 'queued' THEN $1 END,
           lease_expires_at = NULL,
           uncertain_since = CASE WHEN o.uncertain THEN coalesce(r.uncertain_since, r.send_started_at) END,
           send_started_at = CASE WHEN o.called THEN r.send_started_at END,
           sent_by = CASE WHEN o.uncertain AND NOT o.can_tell THEN NULL
                          WHEN NOT o.called AND r.key_used_at = r.send_started_at THEN NULL
                          ELSE r.sent_by END,
           -- A key that proves nothing any more must not be relied on by the next claim.
           key_used_at = CASE WHEN o.uncertain AND o.key_seconds IS NULL THEN '-infinity'
                              WHEN NOT o.called AND r.key_used_at = r.send_started_at THEN NULL
                              ELSE r.key_used_at END
      FROM unnest($3::int8[], $4::text[], $5::int4[], $6::float8[], $7::text[], $8::text[], $9::text[],
                  $10::bool[], $11::float8[], $12::bool[], $14::bool[])
           AS o(id, status, attempts, retry_seconds, error, failure_kind, provider_message_id, uncertain, key_seconds,
                can_tell, called)
     WHERE r.id = o.id
       AND (r.lease_expires_at IS NOT NULL AND r.claimed_by = $1
            OR o.status = 'sent' AND r.status IN ('queued', 'failed')
               AND (r.uncertain_since IS NOT NULL OR r.last_error = 'send_uncertain'))
    RETURNING r.id, r.channel, r.attempts, r.last_error, r.failed_before, r.send_started_at, r.sent_by,
              CASE WHEN r.status <> 'queued' THEN r.status
                   WHEN o.uncertain THEN 'uncertain'
                   ELSE 'retry' END AS outcome
              , r.delivery_kind AS kind  -- there: , 'digest' AS kind
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made, undone)
    SELECT date_trunc('hour', CASE WHEN u.was_undone THEN c.failed_before ELSE coalesce($2::timestamptz, now()) END,
                      'UTC'),
           'deliveries',  -- there: 'digests',
           c.channel, c.kind, CASE WHEN u.was_undone THEN 'failed' ELSE c.outcome END, c.attempts > 1,
           count(*) FILTER (WHERE NOT u.was_undone), count(*) FILTER (WHERE u.was_undone)
      FROM settled AS c
     CROSS JOIN (VALUES (FALSE), (TRUE)) AS u(was_undone)
     WHERE NOT u.was_undone OR c.failed_before IS NOT NULL
     GROUP BY 1, c.channel, c.kind, 5, c.attempts > 1
),
noted AS (
    INSERT INTO alerts_engine_attempts (
           delivery_id,  -- there: digest_id,
           attempt, begun_at, known_at, outcome, error, provider, run_id)
    SELECT c.id, c.attempts, c.send_started_at, coalesce($2::timestamptz, now()), c.outcome, c.last_error, c.sent_by, $1
      FROM settled AS c
     WHERE c.outcome <> 'skipped'
       AND NOT (c.outcome = 'sent' AND c.attempts = 1)
)
SELECT c.id::int8 AS id FROM settled AS c;

-- name: uncertain_deliveries
-- also: uncertain_digests for user_alert_digests
-- What one channel's providers can be asked about now: uncertain rows whose key does not live any more, oldest first.
-- Where a provider can only be asked by number and text, what it gave to the same text to the same number is no answer,
-- and a row waits while such a twin is on its way.
--   $1 channel      text
--   $2 now          timestamptz
--   $3 allowlist    int8[]       NULL: everybody
--   $4 provider     text         who carries the channel now
--   $5 key_life     interval     how long it recognises a key; NULL: it has none
--   $6 max_attempts int4         at the last attempt there is no repeat, but still a question
--   $7 ask_after    interval     from a send's beginning until its provider is asked
--   $8 most         int8
-- returns: UncertainRow, many
-- again: safe; reads only
WITH asked AS MATERIALIZED (
    SELECT r.id::int8 AS id, r.attempts, r.created_at::timestamptz AS created_at, r.uncertain_since, r.sent_by,
           r.body_digest, a.destination, r.next_retry_at,
           (SELECT e.event_fingerprint FROM alert_events AS e WHERE e.id = r.alert_event_id)  -- there: r.digest_key
           AS identity
      FROM /* TABLE */ user_alert_deliveries AS r
      LEFT JOIN alert_destinations() AS a ON a.user_id = r.user_id AND a.channel = $1
     WHERE r.channel = $1
       AND r.status = 'queued'
       AND r.uncertain_since IS NOT NULL
       AND r.sent_by IS NOT NULL
       AND r.next_retry_at <= coalesce($2::timestamptz, now())
       AND coalesce(r.send_started_at, r.uncertain_since) <= now() - $7::interval
       AND (r.sent_by = $4 AND r.key_used_at > now() - $5::interval AND r.attempts < $6) IS NOT TRUE
       AND ($3::int8[] IS NULL OR r.user_id = ANY ($3))
     ORDER BY r.next_retry_at, r.id
     LIMIT $8
)
, twins AS (                                                                      -- only here
    SELECT q.id, array_agg(t.provider_message_id) AS ids,                         -- only here
           bool_or(t.status = 'sending') AS are_on_their_way                      -- only here
      FROM asked AS q                                                             -- only here
      JOIN alert_destinations() AS s                                              -- only here
        ON s.channel = $1 AND s.destination = q.destination                       -- only here
      JOIN user_alert_deliveries AS t                                             -- only here
        ON t.user_id = s.user_id AND t.channel = $1 AND t.body_digest = q.body_digest AND t.id <> q.id  -- only here
     GROUP BY q.id                                                                -- only here
)                                                                                 -- only here
SELECT q.id, q.attempts, q.created_at, q.uncertain_since, q.sent_by, q.body_digest, q.destination, q.identity,
       coalesce(array_remove(t.ids, NULL), '{}')  -- there: '{}'::text[]
       AS taken
  FROM asked AS q
  LEFT JOIN twins AS t ON t.id = q.id        -- only here
 WHERE t.are_on_their_way IS NOT TRUE        -- only here
 ORDER BY q.next_retry_at, q.id;

-- name: resolve_deliveries
-- also: resolve_digests for user_alert_digests
-- Write what the providers said of uncertain sends (C-17): found, not found, or that they cannot tell now. Those are asked
-- again later; after $9 nobody can tell, and the policy decides.
--   $1 now                  timestamptz
--   $2 ids                  int8[]
--   $3 attempts             int4[]        as read: what was sent again meanwhile is left alone
--   $4 found                bool[]        NULL: cannot tell
--   $5 provider_message_ids text[]
--   $6 accepted_at          timestamptz[]
--   $7 max_attempts         int4
--   $8 ask_again            interval      until the next question
--   $9 longest              interval      how long is asked at all
--   $10 give_up             bool          ALERTS_UNCERTAIN_SEND=fail
-- returns: Resolved, many
-- locks: the rows
-- again: safe; guarded by the state
WITH answers AS (
    SELECT a.id, a.attempts, a.provider_message_id, a.accepted_at, r.channel, r.sent_by,
           CASE WHEN a.found THEN 'sent'
                WHEN NOT a.found AND r.attempts < $7 THEN 'again'
                WHEN NOT a.found THEN 'not_sent'
                WHEN r.uncertain_since > now() - $9::interval THEN 'later'
                WHEN $10 THEN 'give_up'
                WHEN r.attempts < $7 THEN 'repeat'
                ELSE 'exhausted' END AS verdict
      FROM unnest($2::int8[], $3::int4[], $4::bool[], $5::text[], $6::timestamptz[])
           AS a(id, attempts, found, provider_message_id, accepted_at)
      JOIN /* TABLE */ user_alert_deliveries AS r ON r.id = a.id
),
resolved AS (
    UPDATE /* TABLE */ user_alert_deliveries AS r
       SET status = CASE WHEN a.verdict = 'sent' THEN 'sent'
                         WHEN a.verdict IN ('not_sent', 'give_up', 'exhausted') THEN 'failed'
                         ELSE 'queued' END,
           sent_at = CASE WHEN a.verdict = 'sent' THEN coalesce(a.accepted_at, $1::timestamptz, now()) END,
           provider_message_id = coalesce(a.provider_message_id, r.provider_message_id),
           last_error = CASE WHEN a.verdict = 'sent' THEN NULL
                             WHEN a.verdict IN ('give_up', 'exhausted') THEN 'send_uncertain'
                             ELSE r.last_error END,
           failure_kind = CASE WHEN a.verdict = 'sent' THEN NULL
                               WHEN a.verdict = 'give_up' THEN 'permanent'
                               ELSE r.failure_kind END,
           next_retry_at = CASE WHEN a.verdict IN ('again', 'repeat') THEN coalesce($1::timestamptz, now())
                                WHEN a.verdict = 'later' THEN coalesce($1::timestamptz, now()) + $8::interval END,
           uncertain_since = CASE WHEN a.verdict IN ('later', 'repeat') THEN r.uncertain_since END,
           ended_at = CASE WHEN a.verdict IN ('sent', 'not_sent', 'give_up', 'exhausted')
                           THEN coalesce($1::timestamptz, now()) END,
           sent_by = CASE WHEN a.verdict = 'repeat' THEN NULL ELSE r.sent_by END
      FROM answers AS a
     WHERE r.id = a.id
       AND r.attempts = a.attempts
       AND r.status = 'queued'
       AND r.uncertain_since IS NOT NULL
    RETURNING r.id, r.channel, r.status, r.attempts, r.last_error, r.send_started_at, a.sent_by, a.verdict
              , r.delivery_kind AS kind  -- there: , 'digest' AS kind
),
counted AS (
    INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
    SELECT date_trunc('hour', coalesce($1::timestamptz, now()), 'UTC'),
           'deliveries',  -- there: 'digests',
           c.channel, c.kind, c.status, c.attempts > 1, count(*)
      FROM resolved AS c
     WHERE c.status <> 'queued'
     GROUP BY c.channel, c.kind, c.status, c.attempts > 1
),
-- That it is asked again later says nothing about the attempt.
noted AS (
    INSERT INTO alerts_engine_attempts (
           delivery_id,  -- there: digest_id,
           attempt, begun_at, known_at, outcome, error, provider)
    SELECT c.id, c.attempts, c.send_started_at, coalesce($1::timestamptz, now()),
           CASE c.verdict WHEN 'sent' THEN 'found'
                          WHEN 'again' THEN 'not_found'
                          WHEN 'not_sent' THEN 'not_found'
                          ELSE 'nobody_can_tell' END, c.last_error, c.sent_by
      FROM resolved AS c
     WHERE c.verdict <> 'later'
)
SELECT c.id::int8 AS id, c.verdict, c.last_error FROM resolved AS c;

-- name: release_deliveries
-- also: release_digests for user_alert_digests
-- Put claimed rows back as they were, with no attempt spent (C-7, CLI-7). One that was uncertain, and that was about to be
-- sent again since nobody can tell, is sent again by the next claim: there is still nobody to ask (C-17).
--   $1 run_id text
--   $2 ids    int8[]
--   $3 mute   text[]       the providers that recognise no key and cannot be asked
--   $4 called bool[]       FALSE: its provider was never called, so its send did not begin
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE /* TABLE */ user_alert_deliveries AS r
   SET status = 'queued', claimed_by = NULL, lease_expires_at = NULL,
       send_started_at = CASE WHEN b.called THEN r.send_started_at END,
       sent_by = CASE WHEN r.uncertain_since IS NOT NULL AND r.sent_by = ANY ($3) THEN NULL
                      WHEN NOT b.called AND r.key_used_at = r.send_started_at THEN NULL
                      ELSE r.sent_by END,
       key_used_at = CASE WHEN NOT b.called AND r.key_used_at = r.send_started_at THEN NULL ELSE r.key_used_at END
  FROM unnest($2::int8[], $4::bool[]) AS b(id, called)
 WHERE r.id = b.id
   AND r.lease_expires_at IS NOT NULL
   AND r.claimed_by = $1
RETURNING r.id::int8 AS id;

-- name: release_unheard_deliveries
-- also: release_unheard_digests for user_alert_digests
-- Put back what this run claimed without knowing it: the claim was committed, and its answer was lost on the way. The
-- provider was never called for such a row, whatever the claim noted of it.
--   $1 run_id text
--   $2 called int8[]       the rows whose provider this run did call, and that it could not settle
-- returns: RowId, many
-- locks: the rows
-- again: safe; guarded by the lease
UPDATE /* TABLE */ user_alert_deliveries AS r
   SET status = 'queued', claimed_by = NULL, lease_expires_at = NULL, send_started_at = NULL,
       sent_by = CASE WHEN r.key_used_at = r.send_started_at THEN NULL ELSE r.sent_by END,
       key_used_at = CASE WHEN r.key_used_at = r.send_started_at THEN NULL ELSE r.key_used_at END
 WHERE r.status = 'sending'
   AND r.claimed_by = $1
   AND r.id <> ALL ($2)
RETURNING r.id::int8 AS id;

-- name: move_telegram_chat
-- A Telegram group has a new id: keep it for everybody who had the old one (C-7).
--   $1 old_chat_id text
--   $2 new_chat_id text
-- returns: nothing
-- locks: the users' rows, like any update of a user
-- again: safe
UPDATE users AS u
   SET telegram_chat_id = $2
 WHERE u.telegram_chat_id = $1;

-- name: sendable_now
-- What a run would send now, and what waits and why, per channel: for the dry run (X-1).
--   $1 now        timestamptz
--   $2 allowlist  int8[]
--   $3 most_ids   int4
-- returns: Sendable, many
-- again: safe; reads only
WITH waiting AS (
    SELECT 'delivery' AS kind, d.id::int8 AS id, d.channel, d.user_id, d.created_at::timestamptz AS created_at,
           d.next_retry_at::timestamptz AS next_retry_at, d.uncertain_since
      FROM user_alert_deliveries AS d
     WHERE d.status = 'queued'
       AND d.delivery_kind = 'instant'
       AND d.channel <> 'account'
     UNION ALL
    SELECT 'digest', g.id::int8, g.channel, g.user_id, g.created_at::timestamptz, g.next_retry_at::timestamptz,
           g.uncertain_since
      FROM user_alert_digests AS g
     WHERE g.status = 'queued'
),
judged AS (
    SELECT w.kind, w.id, w.channel, w.created_at,
           CASE WHEN $2::int8[] IS NOT NULL AND w.user_id <> ALL ($2::int8[]) THEN 'not_in_allowlist'
                WHEN w.next_retry_at = 'infinity' THEN 'held'
                WHEN w.uncertain_since IS NOT NULL THEN 'uncertain'
                WHEN w.next_retry_at > coalesce($1::timestamptz, now()) THEN 'not_due_yet'
                WHEN c.enabled IS FALSE THEN 'channel_disabled'
                WHEN a.destination IS NULL THEN 'missing_destination'
                ELSE 'due' END AS state
      FROM waiting AS w
      LEFT JOIN alert_destinations() AS a ON a.user_id = w.user_id AND a.channel = w.channel
      LEFT JOIN user_channel_preferences AS c ON c.user_id = w.user_id AND c.channel = w.channel
)
SELECT j.kind, j.channel, j.state, count(*) AS count,
       (array_agg(j.id ORDER BY j.created_at, j.id) FILTER (WHERE j.state = 'due'))[1:$3] AS ids
  FROM judged AS j
 GROUP BY j.kind, j.channel, j.state
 ORDER BY j.kind, j.channel, j.state;

-- name: fold_outcomes
-- Add up what was counted since the last time: a row for each hour, after a while for each day. Whoever looks meanwhile
-- sees the same sums before and after.
--   $1 days_from timestamptz    hours before this become days
-- returns: nothing
-- locks: the rows it adds up (skip locked)
-- again: safe; what is folded stays so
WITH loose AS MATERIALIZED (
    SELECT o.id, o.hour
      FROM alerts_engine_outcomes AS o
     WHERE o.span = 'batch'
       FOR UPDATE SKIP LOCKED
),
their_hours AS MATERIALIZED (
    SELECT o.id
      FROM alerts_engine_outcomes AS o
     WHERE o.span = 'hour'
       AND o.hour = ANY (ARRAY(SELECT DISTINCT l.hour FROM loose AS l))
       FOR UPDATE SKIP LOCKED
),
old AS MATERIALIZED (
    SELECT o.id
      FROM alerts_engine_outcomes AS o
     WHERE o.span = 'hour'
       AND o.hour < date_trunc('day', $1::timestamptz, 'UTC')
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM alerts_engine_outcomes AS o
     WHERE o.id = ANY (ARRAY(SELECT id FROM loose UNION SELECT id FROM their_hours UNION SELECT id FROM old))
    RETURNING o.hour < date_trunc('day', $1::timestamptz, 'UTC') AS is_old, o.hour, o.source, o.channel, o.kind,
              o.outcome, o.retried, o.made, o.undone
)
INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made, undone)
SELECT CASE WHEN g.is_old THEN 'day' ELSE 'hour' END,
       CASE WHEN g.is_old THEN date_trunc('day', g.hour, 'UTC') ELSE g.hour END,
       g.source, g.channel, g.kind, g.outcome, g.retried, sum(g.made), sum(g.undone)
  FROM gone AS g
 GROUP BY 1, 2, g.source, g.channel, g.kind, g.outcome, g.retried;
