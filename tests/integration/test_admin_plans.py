"""How PostgreSQL finds what the dashboard and the search ask for, with many old rows around (SPEC P-4, section 16)."""

from __future__ import annotations

from contextlib import closing

import pytest

from alerts_engine.statements import load
from tests.support import ground

OLD_ROWS = """
INSERT INTO user_alert_deliveries
       (user_id, alert_event_id, channel, delivery_kind, status, sent_at, attempts, created_at, ended_at)
SELECT u.id, e.id, c, k, 'sent', now(), 1, now() - interval '1 day', now() - interval '1 day'
  FROM users AS u, alert_events AS e, unnest(ARRAY['email', 'telegram']) AS c, unnest(ARRAY['instant', 'digest']) AS k
    ON CONFLICT DO NOTHING
"""
OLD_DIGESTS = """
INSERT INTO user_alert_digests
       (user_id, channel, period, window_start, window_end, digest_key, status, sent_at, next_retry_at)
SELECT u.id, 'email', 'daily', now() - make_interval(days => n), now() - make_interval(days => n - 1), u.id || '/' || n,
       CASE WHEN n = 1 THEN 'queued' ELSE 'sent' END, CASE WHEN n > 1 THEN now() END,
       CASE WHEN n = 1 THEN now() + interval '1 day' END
  FROM users AS u, generate_series(1, 12) AS n
"""
OLD_RUNS = """
WITH runs AS (
    INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status)
    SELECT gen_random_uuid(), 'local', 'all', now() - make_interval(mins => 10 * n), 'success'
      FROM generate_series(1, 10000) AS n
    RETURNING run_id, started_at
)
INSERT INTO alerts_engine_run_items (run_id, phase, started_at, status)
SELECT run_id, p, started_at, 'success' FROM runs, unnest(ARRAY['a', 'b', 'd', 'c']) AS p
"""
OLD_OUTCOMES = """
INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made)
SELECT 'hour', date_trunc('hour', now()) - make_interval(hours => h), 'deliveries', c, 'instant', 'sent', false, 1
  FROM generate_series(0, 10000) AS h, unnest(ARRAY['email', 'telegram', 'sms']) AS c
"""
OLD_EVENTS = """
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint, fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 3, 'Old', '', 'old ' || n, 'old ' || n, now() FROM generate_series(1, 30000) AS n
"""
GROWS = (
    "user_alert_deliveries", "user_alert_digests", "alerts_engine_runs", "alerts_engine_run_items",
    "alerts_engine_outcomes", "alert_events",
)  # fmt: skip
READS_USERS = {"known_user"}
"""Of ``users``, which is not ours to index, by its own key."""


@pytest.mark.slow
def test_what_is_old_is_not_read(database_url: str) -> None:
    """Ten thousand runs and any number of deliveries: no table that grows is read as a whole."""
    users = ground.add_users(database_url, 400)
    ground.add_deliveries(database_url, users[:50], "email")
    ground.add_digests(database_url, users[:50], "email")
    with closing(ground.connect(database_url)) as db:
        for statement in (OLD_ROWS, OLD_DIGESTS, OLD_RUNS, OLD_OUTCOMES, OLD_EVENTS, "VACUUM ANALYZE"):
            db.execute(statement)
        sources = {**load("activity"), **load("search"), "recent_runs": load("runs")["recent_runs"]}
        plans = {
            name: "\n".join(row[0] for row in db.execute(f"EXPLAIN (GENERIC_PLAN) {source.text}"))
            for name, source in sources.items()
        }
    for name, plan in plans.items():
        for table in GROWS:
            assert f"Seq Scan on {table} " not in plan, f"{name}\n{plan}"
