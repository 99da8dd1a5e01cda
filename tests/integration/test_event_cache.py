"""The alerts that messages tell, asked for by several senders at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from alerts_engine.database import connect
from alerts_engine.phases.send import event_cache as module
from tests.support.world import add_event, prepared

if TYPE_CHECKING:
    import psycopg
    import pytest


async def test_a_lane_gets_its_alerts_while_another_has_them_forgotten(
    postgresql: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """What is remembered is bounded, and shared; an answer has all that was asked for (SPEC C-4)."""
    monkeypatch.setattr(module, "_MOST_KEPT", 2)
    db = prepared(postgresql)
    first, second, *others = [add_event(db) for _ in range(5)]
    async with connect(database_url) as database:
        alerts = module.EventCache(database)
        await alerts.of([first])
        told, told_others = await asyncio.gather(alerts.of([first, second]), alerts.of(others))
    assert {event: known.alert.event_id for event, known in told.items()} == {first: first, second: second}
    assert set(told_others) == set(others)
