"""The counters of what was done, held against a full count of the rows (SPEC O-4a)."""

from __future__ import annotations

from collections import Counter

import psycopg

_COUNTED = """
SELECT source, channel, kind, outcome, retried, hour, sum(made - undone)::int8 AS rows
  FROM alerts_engine_outcomes
 WHERE outcome IN ('sent', 'failed', 'skipped')
 GROUP BY source, channel, kind, outcome, retried, hour
HAVING sum(made - undone) <> 0
"""
_THERE = """
SELECT source, channel, kind, status, attempts > 1 AS retried, date_trunc('hour', ended_at) AS hour, count(*) AS rows
  FROM (SELECT 'deliveries' AS source, channel, delivery_kind AS kind, status, attempts, ended_at
          FROM user_alert_deliveries
         UNION ALL
        SELECT 'digests', channel, 'digest', status, attempts, ended_at FROM user_alert_digests) AS everything
 WHERE status IN ('sent', 'failed', 'skipped')
   -- What a test has batched with its own hands.
   AND (ended_at IS NOT NULL OR kind <> 'digest' OR source <> 'deliveries')
 GROUP BY source, channel, kind, status, attempts > 1, date_trunc('hour', ended_at)
"""


def counted(url: str) -> Counter[tuple[object, ...]]:
    """What the counters say, by everything they tell apart."""
    return _sums(url, _COUNTED)


def there(url: str) -> Counter[tuple[object, ...]]:
    """What a look at every row says."""
    return _sums(url, _THERE)


def _sums(url: str, query: str) -> Counter[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as db:
        return Counter({tuple(row[:-1]): row[-1] for row in db.execute(query)})
