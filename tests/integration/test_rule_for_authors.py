"""The rule that the authors' guide shows, and what it says there of its message (SPEC A-1, M-3a)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import AlertsEngine
from alerts_engine.commands.tables.rules import trial_tables
from alerts_engine.operations.rule_messages import messages_of
from alerts_engine.statements import read_rule
from tests.support.documents import blocks
from tests.support.world import add_asset_risk, prepared, settings

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

GUIDE = "alerts_engine/rendering/README.md"
NOW = datetime(2026, 3, 29, 10, tzinfo=UTC)


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


async def test_the_guides_rule_says_what_the_guide_shows(db, database_url, tmp_path: Path):
    """Its SMS, with its size; and of two weeks that were, the newer counts (SPEC M-2)."""
    rule, shown = (next(block for block in blocks(GUIDE) if block.language == language) for language in ("sql", "text"))
    path = tmp_path / "freight_jump.sql"
    path.write_text(rule.text)
    for days, score in ((0, 74.9), (7, 61.2), (8, 12.0)):
        add_asset_risk(db, score, NOW - timedelta(days=days), asset="freight", region="Asia")
    add_asset_risk(db, 74.9, NOW, asset="freight")
    add_asset_risk(db, 70.0, NOW - timedelta(days=7), asset="freight")
    given = settings(database_url, app_base_url="https://app.example.com")
    async with AlertsEngine(given) as engine:
        trial = await engine.try_rule(read_rule(path), now=NOW)
    _, *messages = trial_tables(trial, messages_of(trial.events, given, now=NOW))
    sms = messages[-1]
    assert [f"{name}  {value}" for name, value in sms.values] == list(shown.lines)
