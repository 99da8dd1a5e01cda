"""The engine on a database that the application has used for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.acceptance.conftest import CommandLine
from tests.support import legacy, shape

if TYPE_CHECKING:
    from pathlib import Path

    from alerts_engine.sandbox import Sandbox

OLD = {
    "alert_events": ["id", "alert_type", "scope_region", "headline", "body", "cooldown_key", "created_at"],
    "user_alert_deliveries": [
        "id",
        "user_id",
        "alert_event_id",
        "channel",
        "status",
        "reason",
        "sent_at",
        "created_at",
    ],
    "users": ["id", "email", "telegram_chat_id", "phone_number", "created_at"],
    "user_alert_prefs": ["id", "user_id", "region", "alert_type", "enabled"],
}


async def test_legacy_database_is_migrated_and_sends_with_its_old_rows_as_they_were(
    bare_database_url: str, sandbox: Sandbox, tmp_path: Path
):
    """``migrate``, then ``run``, on the application's own tables and rows (DB-3)."""
    legacy.create(bare_database_url)
    before = shape.contents(bare_database_url, OLD)
    engine = CommandLine(tmp_path, {"DATABASE_URL": bare_database_url, **sandbox.settings})
    unmigrated = await engine("run", "--json")
    assert unmigrated.code == 1
    assert "alerts-engine migrate" in unmigrated.err
    assert (await engine("migrate", "--json")).code == 0
    shape.rows(
        bare_database_url,
        "INSERT INTO events (title, source_name, source_url, category, region, severity_score, event_time, raw_text)"
        " VALUES ('Pipeline shut', 'wire', 'https://news.example/new', 'energy', 'Europe', 5, now(), 'Flows stopped.')",
    )
    ran = await engine("run", "--phase", "all", "--json")
    assert ran.code == 0, ran.err
    assert ran.phase("a")["counts"]["events_created"] >= 1
    assert ran.phase("b")["counts"]["deliveries_created"] >= 1
    after = shape.contents(bare_database_url, OLD)
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), f"old rows of {table} changed"
    assert (await engine("migrate", "--json", "--check")).code == 0
