"""The whole chain, and every statement, on PostgreSQL 15 (SPEC DB-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine import AlertsEngine, Phase, load_settings, schema, statements
from alerts_engine.database import connect
from alerts_engine.sandbox import Sandbox
from tests.support.postgres15 import postgres15

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def older_url() -> Iterator[str]:
    """A migrated database on PostgreSQL 15."""
    with postgres15() as url:
        schema.apply(url)
        yield url


async def test_every_statement_prepares_on_the_older_server(older_url: str):
    """No statement uses what only newer servers have."""
    async with connect(older_url) as database, database.session() as session:
        for statement in list(statements.REGISTRY.values()):
            await session.describe(statement)


async def test_chain_runs_on_the_older_server(older_url: str, monkeypatch: pytest.MonkeyPatch):
    """Events, deliveries, digests and messages, and nothing again the second time."""
    with psycopg.connect(older_url) as connection:
        connection.execute("INSERT INTO users (email) VALUES ('one@example.com'), ('two@example.com')")
        connection.execute("INSERT INTO user_plans (user_id, plan) VALUES (1, 'pro')")
        connection.execute(
            "INSERT INTO events (title, source_url, region, severity_score) VALUES ('Shut', 'x:1', 'Europe', 5)"
        )
    async with Sandbox.start() as sandbox:
        for name, value in sandbox.settings.items():
            monkeypatch.setenv(name, value)
        async with AlertsEngine(load_settings(database_url=older_url)) as engine:
            first, second = await engine.run(Phase.ALL), await engine.run(Phase.ALL)
        assert (first.status, second.status) == ("success", "success"), first.error
        counts = {phase.phase: phase.counts for phase in first.phases}
        assert counts["b"]["deliveries_created"] == 2
        assert counts["d"]["digests_created"] == 1
        assert counts["c"]["sent"] == 1
        assert len(sandbox.messages) == 1


REMOTE_RULE = """
SELECT 'OUTAGE' AS alert_type, NULL AS scope_region, '{{}}'::text[] AS scope_assets, 4 AS severity, 'x' AS headline,
       NULL AS body, '{{}}'::int[] AS driver_event_ids, NULL AS cooldown_key, '{name}' AS event_fingerprint,
       NULL::jsonb AS payload
  FROM {source}"""


async def test_a_foreign_server_that_is_away_fails_its_rule_alone(older_url: str, tmp_path: Path):
    """Neither phase A nor DATABASE_URL is at fault (SPEC A-5)."""
    with psycopg.connect(older_url) as connection:
        connection.execute("CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink")
        connection.execute(
            "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'x');"
            "CREATE USER MAPPING FOR postgres SERVER away OPTIONS (user 'u', password 'p');"
            "CREATE FOREIGN TABLE away_outages (id int) SERVER away"
        )
    sources = {
        "foreign": "away_outages",
        "linked": "dblink('host=127.0.0.1 port=1', 'SELECT 1') AS t(i int)",
        "zz_near": "generate_series(1, 1)",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.sql").write_text(REMOTE_RULE.format(name=name, source=source))
    async with AlertsEngine(load_settings(database_url=older_url, rules_dir=tmp_path)) as engine:
        (report,) = (await engine.run(Phase.A)).phases
    assert report.counts["rules_failed"] == 2
    assert report.error.count("check that server") == 2
    assert "DATABASE_URL" not in report.error
    assert report.counts["by_rule"]["zz_near"] == {"created": 1, "skipped_duplicate": 0}
