"""The whole chain, and every statement, on PostgreSQL 15 (SPEC DB-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine import AlertsEngine, Phase, load_settings, schema, statements
from alerts_engine.database import connect
from alerts_engine.demo.providers import provider_settings
from alerts_engine.sandbox import Sandbox
from tests.support.postgres15 import postgres15

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        for name, value in provider_settings(sandbox.url).items():
            monkeypatch.setenv(name, value)
        async with AlertsEngine(load_settings(database_url=older_url)) as engine:
            first, second = await engine.run(Phase.ALL), await engine.run(Phase.ALL)
        assert (first.status, second.status) == ("success", "success"), first.error
        counts = {phase.phase: phase.counts for phase in first.phases}
        assert counts["b"]["deliveries_created"] == 2
        assert counts["d"]["digests_created"] == 1
        assert counts["c"]["sent"] == 1
        assert len(sandbox.messages) == 1
