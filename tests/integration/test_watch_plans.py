"""How PostgreSQL finds what health, failures and retry-failed ask for, with many old rows around (SPEC O-4a)."""

from __future__ import annotations

from contextlib import closing

from alerts_engine.statements import load
from tests.integration.test_phase_c_plans import OLD_DIGESTS, OLD_ROWS
from tests.support import ground

SOME_FAIL = """
UPDATE user_alert_{} SET status = 'failed', sent_at = NULL, ended_at = now(), failure_kind = 'transient',
       last_error = 'timeout'
 WHERE id % 50 = 0 AND status = 'sent'
"""
HISTORY = """
WITH runs AS (
    INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status)
    SELECT gen_random_uuid(), 'local', 'all', now() - make_interval(mins => 10 * n), 'success'
      FROM generate_series(1, 3000) AS n
    RETURNING run_id, started_at)
INSERT INTO alerts_engine_run_items (run_id, phase, status, started_at)
SELECT r.run_id, p, 'success', r.started_at FROM runs AS r, unnest(ARRAY['a', 'b', 'd', 'c']) AS p
"""
COUNTED = """
INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made)
SELECT CASE WHEN n < 840 THEN 'hour' ELSE 'day' END, date_trunc('hour', now()) - make_interval(hours => n),
       'deliveries', c, 'instant', o, FALSE, 100
  FROM generate_series(1, 3000) AS n, unnest(ARRAY['email', 'sms']) AS c, unnest(ARRAY['sent', 'failed']) AS o
"""
EVENTS = """
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint, fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 4, 'x', 'x', n, n, CASE WHEN n > 5 THEN now() END FROM generate_series(1, 5000) AS n
"""
ATTEMPTS = """
INSERT INTO alerts_engine_attempts ({}, attempt, known_at, outcome)
SELECT id, 1, now(), 'retry' FROM user_alert_{} WHERE id % 3 = 0
"""
ITEMS = """
INSERT INTO user_alert_digest_items (digest_id, delivery_id)
SELECT (SELECT min(g.id) FROM user_alert_digests AS g) + mod(d.id, 5000), d.id
  FROM user_alert_deliveries AS d
 WHERE d.delivery_kind = 'digest'
    ON CONFLICT DO NOTHING
"""
READ_WHOLE = {
    "done_ever": "the sums since the beginning: a row for each day, channel and outcome",
    "users_of_address": "the application's own table, which is not ours to index",
}
GROWING = (
    "user_alert_deliveries", "user_alert_digests", "user_alert_digest_items", "alert_events", "alerts_engine_attempts",
    "alerts_engine_outcomes", "alerts_engine_runs", "alerts_engine_run_items",
)  # fmt: skip


def test_every_question_of_an_operator_is_answered_by_an_index(database_url: str):
    """Whatever was sent long ago costs nothing, also in the plan for unknown values."""
    users = ground.add_users(database_url, 500)
    ground.add_deliveries(database_url, users[:50], "email")
    ground.add_digests(database_url, users[:50], "email")
    with closing(ground.connect(database_url)) as db:
        for statement in (
            OLD_ROWS, OLD_DIGESTS, SOME_FAIL.format("deliveries"), SOME_FAIL.format("digests"), HISTORY, COUNTED,
            ATTEMPTS.format("delivery_id", "deliveries"), ATTEMPTS.format("digest_id", "digests"), EVENTS, ITEMS,
            "VACUUM ANALYZE",
        ):  # fmt: skip
            db.execute(statement)
        plans = {
            f"{file}.{name}": "\n".join(row[0] for row in db.execute(f"EXPLAIN (GENERIC_PLAN) {source.text}"))
            for file in ("health", "failures", "retry_failed", "delivery_life", "summary")
            for name, source in load(file).items()
            if name not in READ_WHOLE
        }
    assert len(plans) > 20
    for name, plan in plans.items():
        for table in GROWING:
            assert f"Seq Scan on {table}" not in plan, f"{name}\n{plan}"
