-- transactional: false
--
-- What the last seven days came to before there was anything that counted them (SPEC O-4). Each row has a transaction of
-- its own; the counting only reads, in one statement, so that it is done once or not at all.

-- When a row failed, or was skipped for want of credentials, is not known: when it was made is near enough, and makes it
-- one of those that retry-failed finds.
DO $$
DECLARE
    ended RECORD;
BEGIN
    FOR ended IN
        SELECT 'user_alert_deliveries' AS in_table, id
        FROM user_alert_deliveries
        WHERE channel <> 'account' AND ended_at IS NULL AND status = 'failed'
        UNION ALL
        SELECT 'user_alert_deliveries', id
        FROM user_alert_deliveries
        WHERE channel <> 'account' AND ended_at IS NULL
          AND status = 'skipped' AND last_error = 'channel_not_configured'
        UNION ALL
        SELECT 'user_alert_digests', id
        FROM user_alert_digests
        WHERE ended_at IS NULL AND status = 'failed'
        UNION ALL
        SELECT 'user_alert_digests', id
        FROM user_alert_digests
        WHERE ended_at IS NULL AND status = 'skipped' AND last_error = 'channel_not_configured'
    LOOP
        SET LOCAL synchronous_commit = off;
        SET LOCAL lock_timeout = '15min';
        EXECUTE format(
            'UPDATE %I SET ended_at = created_at::timestamptz '
            'WHERE id = $1 AND ended_at IS NULL AND status IN (''failed'', ''skipped'')',
            ended.in_table
        ) USING ended.id;
        COMMIT;
    END LOOP;
END
$$;

INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made)
SELECT 'hour', date_trunc('hour', done.moment, 'UTC'), done.source, done.channel, done.kind, done.status, done.retried,
       count(*)
FROM (
    SELECT 'deliveries' AS source, channel, delivery_kind AS kind, status, attempts > 1 AS retried,
           coalesce(ended_at, sent_at::timestamptz, created_at::timestamptz) AS moment
    FROM user_alert_deliveries
    WHERE channel <> 'account' AND status IN ('sent', 'failed', 'skipped')
    UNION ALL
    SELECT 'digests', channel, 'digest', status, attempts > 1,
           coalesce(ended_at, sent_at::timestamptz, created_at::timestamptz)
    FROM user_alert_digests
    WHERE status IN ('sent', 'failed', 'skipped')
) AS done
WHERE done.moment >= now() - INTERVAL '8 days'
  AND done.moment <= now()
  AND NOT EXISTS (SELECT FROM alerts_engine_outcomes)
GROUP BY 1, 2, 3, 4, 5, 6, 7;
