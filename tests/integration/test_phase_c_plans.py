"""How PostgreSQL finds what phase C asks for, with many old rows around (DESIGN section 2, SPEC section 16)."""

from __future__ import annotations

from contextlib import closing

import pytest

from alerts_engine.statements import load
from tests.chaos import ground

OLD_ROWS = """
INSERT INTO user_alert_deliveries
       (user_id, alert_event_id, channel, delivery_kind, status, sent_at, attempts, created_at)
SELECT u.id, e.id, c, k, 'sent', now(), 1, now() - interval '1 day'
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
LOOKS_AT_ALL = {"sendable_now", "move_telegram_chat"}
"""The dry run's survey; and the application's own table, which is not ours to index."""
ASKED = sorted(set(load("phase_c_send")) - LOOKS_AT_ALL)


@pytest.fixture
def old_database(database_url: str) -> str:
    users = ground.add_users(database_url, 2000)
    ground.add_deliveries(database_url, users[:50], "email")
    ground.add_digests(database_url, users[:50], "email")
    with closing(ground.connect(database_url)) as db:
        for statement in (OLD_ROWS, OLD_DIGESTS, "VACUUM ANALYZE"):
            db.execute(statement)
    return database_url


@pytest.mark.parametrize("name", ASKED)
def test_no_question_of_a_run_reads_through_old_rows(name: str, old_database: str):
    """Whatever was sent long ago costs nothing: an index answers, also in the plan for unknown values (section 16)."""
    with closing(ground.connect(old_database)) as db:
        text = load("phase_c_send")[name].text
        plan = "\n".join(row[0] for row in db.execute(f"EXPLAIN (GENERIC_PLAN) {text}"))
    assert "Seq Scan on user_alert_deliveries" not in plan
    assert "Seq Scan on user_alert_digests" not in plan


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("claim_deliveries", {"user_alert_deliveries_new_idx", "user_alert_deliveries_retry_idx"}),
        ("claim_digests", {"user_alert_digests_due_idx"}),
        ("reclaim_deliveries", {"user_alert_deliveries_lease_idx"}),
        ("reclaim_digests", {"user_alert_digests_lease_idx"}),
    ],
)
def test_what_is_due_comes_from_its_own_index_in_its_order(name: str, indexes: set[str], old_database: str):
    """A claim reads as many rows as it takes, however many are due (C-2, section 16)."""
    with closing(ground.connect(old_database)) as db:
        text = load("phase_c_send")[name].text
        plan = "\n".join(row[0] for row in db.execute(f"EXPLAIN (GENERIC_PLAN) {text}"))
    assert all(index in plan for index in indexes), plan
