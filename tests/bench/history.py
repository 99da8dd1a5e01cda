"""A database after a busy year: deliveries, most of them sent long ago, counters of a month, and runs."""

from __future__ import annotations

import asyncio

import asyncpg
from rich.progress import track

from tests.support import ground

USERS = 100_000
EVENTS = """
INSERT INTO alert_events
       (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint, fanout_completed_at,
        created_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 4, 'Pipeline outage ' || n, 'Flows are down.', 'b' || n, 'b' || n, now(),
       now() - make_interval(hours => n)
  FROM generate_series(1, $1) AS n
RETURNING id
"""
DELIVERIES = """
INSERT INTO user_alert_deliveries
       (user_id, alert_event_id, channel, status, sent_at, ended_at, attempts, created_at, quota_day, failure_kind,
        last_error, next_retry_at)
SELECT u.id, $1, 'email', s.status, CASE s.status WHEN 'sent' THEN e.created_at END,
       CASE WHEN s.status <> 'queued' THEN e.created_at END, CASE s.status WHEN 'queued' THEN 0 ELSE 1 END,
       e.created_at, e.created_at::date, CASE s.status WHEN 'failed' THEN 'transient' END,
       CASE s.status WHEN 'failed' THEN (ARRAY['timeout', 'brevo_500', 'brevo_invalid_parameter'])[1 + u.id % 3] END,
       CASE WHEN s.status = 'queued' AND u.id % 2 = 0 THEN now() + interval '10 minutes' END
  FROM users AS u
 CROSS JOIN (SELECT created_at FROM alert_events WHERE id = $1) AS e
 CROSS JOIN LATERAL (SELECT CASE WHEN u.id % 100 < 97 THEN 'sent' WHEN u.id % 100 < 99 THEN 'failed'
                                 WHEN $2 AND u.id % 100 = 99 THEN 'queued' ELSE 'skipped' END AS status) AS s
"""
COUNTERS = """
INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made)
SELECT CASE WHEN n < 840 THEN 'hour' ELSE 'day' END, date_trunc('hour', now()) - make_interval(hours => n),
       w.source, w.channel, w.kind, w.outcome, w.retried, 100
  FROM generate_series(0, 1500) AS n
 CROSS JOIN (
       SELECT 'deliveries' AS source, c AS channel, 'instant' AS kind, o AS outcome, FALSE AS retried
         FROM unnest(ARRAY['email', 'telegram', 'sms']) AS c, unnest(ARRAY['sent', 'failed', 'skipped', 'retry']) AS o
        UNION ALL
       SELECT 'deliveries', c, 'instant', 'sent', TRUE FROM unnest(ARRAY['email', 'telegram', 'sms']) AS c
        UNION ALL
       SELECT 'deliveries', c, 'digest', 'skipped', FALSE FROM unnest(ARRAY['email', 'telegram']) AS c
        UNION ALL
       SELECT 'digests', c, 'digest', o, FALSE
         FROM unnest(ARRAY['email', 'telegram']) AS c, unnest(ARRAY['sent', 'failed', 'retry']) AS o) AS w
"""
LOOSE = """
INSERT INTO alerts_engine_outcomes (hour, source, channel, kind, outcome, retried, made)
SELECT date_trunc('hour', now()), 'deliveries', 'email', 'instant', 'sent', FALSE, 10 FROM generate_series(1, 3000)
"""
RUNS = """
WITH runs AS (
    INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at, status)
    SELECT gen_random_uuid(), 'local', 'all', now() - make_interval(mins => 10 * n),
           now() - make_interval(mins => 10 * n), 'success'
      FROM generate_series(0, 9999) AS n
    RETURNING run_id, started_at)
INSERT INTO alerts_engine_run_items (run_id, phase, status, started_at, finished_at, duration_ms)
SELECT r.run_id, p, 'success', r.started_at, r.started_at, 5 FROM runs AS r, unnest(ARRAY['a', 'b', 'd', 'c']) AS p
"""


async def add_history(url: str, rows: int) -> None:
    """``rows`` deliveries to up to 100,000 users: 97 of 100 sent, 2 failed, some of the latest queued."""
    users = min(USERS, rows)
    await asyncio.to_thread(ground.add_users, url, users)
    connection = await asyncpg.connect(url, server_settings={"TimeZone": "UTC", "session_replication_role": "replica"})
    events = await connection.fetch(EVENTS, max(1, rows // users))
    for number, event in enumerate(track(events, "deliveries")):
        await connection.execute(DELIVERIES, event["id"], number < 10, timeout=600)
    for statement in (COUNTERS, LOOSE, RUNS, "VACUUM ANALYZE"):
        await connection.execute(statement, timeout=3600)
    await connection.close()
