"""Plain SQL as the interface for every driver but asyncpg (SPEC I-1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import create_async_engine

from alerts_engine import AlertsEngine, Phase
from tests.examples import psycopg_script, sqlalchemy_publish
from tests.support.world import add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ZONE = "SET TIME ZONE 'Asia/Tokyo'"
WAYS: dict[str, Callable[[str, bool], Awaitable[None]]] = {}


class _RolledBackError(Exception):
    pass


def way(work: Callable[[str, bool], Awaitable[None]]) -> Callable[[str, bool], Awaitable[None]]:
    WAYS[work.__name__] = work
    return work


VALUES = {"headline": "Freeport is down", "identity": "outage:Freeport"}


@way
async def psycopg_sync(url: str, commits: bool) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(ZONE)
        connection.execute("INSERT INTO outages VALUES ('Freeport')")
        assert connection.execute(psycopg_script.PUBLISH, VALUES).fetchone()
        _end(commits)


@way
async def psycopg_async(url: str, commits: bool) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(ZONE)
        await connection.execute("INSERT INTO outages VALUES ('Freeport')")
        assert await (await connection.execute(psycopg_script.PUBLISH, VALUES)).fetchone()
        _end(commits)


@way
async def sqlalchemy_sync(url: str, commits: bool) -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(ZONE))
        assert sqlalchemy_publish.report_outage(connection, "Freeport")
        _end(commits)


@way
async def sqlalchemy_async(url: str, commits: bool) -> None:
    import asyncpg

    async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
        return await asyncpg.connect(url)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    try:
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text(ZONE))
            assert await sqlalchemy_publish.report_outage_async(connection, "Freeport")
            _end(commits)
    finally:
        await engine.dispose()


def _end(commits: bool) -> None:
    if not commits:
        raise _RolledBackError


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    connection = prepared(postgresql)
    connection.execute("CREATE TABLE outages (plant text)")
    return connection


@pytest.mark.parametrize("name", WAYS)
async def test_an_event_inserted_by_another_driver_is_like_any_other(db, database_url, name):
    """It is fanned out, and its time is UTC, whatever the session's zone (SPEC I-1, DB-4)."""
    add_user(db, "pro")
    await WAYS[name](database_url, True)
    (row,) = db.execute("SELECT created_at, severity, scope_assets, fanout_position FROM alert_events")
    assert abs(row.created_at.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)
    async with AlertsEngine(settings(database_url)) as engine:
        await engine.run(Phase.B)
    assert db.execute("SELECT count(*) AS n FROM user_alert_deliveries").fetchone().n == 1


@pytest.mark.parametrize("name", WAYS)
async def test_what_another_driver_rolls_back_was_never_published(db, database_url, name):
    """Neither the event nor the application's own row (SPEC I-1)."""
    with pytest.raises(_RolledBackError):
        await WAYS[name](database_url, False)
    assert db.execute("SELECT count(*) AS n FROM alert_events").fetchone().n == 0
    assert db.execute("SELECT count(*) AS n FROM outages").fetchone().n == 0


@pytest.mark.parametrize("name", WAYS)
async def test_the_same_event_is_inserted_once(db, database_url, name):
    """The second time returns no row (SPEC A-4)."""
    await WAYS[name](database_url, True)
    with pytest.raises(AssertionError):
        await WAYS[name](database_url, True)
    assert db.execute("SELECT count(*) AS n FROM alert_events").fetchone().n == 1


def test_every_column_that_may_be_given_is_taken(db):
    """By the types that a driver gives them (SPEC DB-6)."""
    db.execute(
        "INSERT INTO alert_events (alert_type, severity, headline, body, scope_region, scope_assets, payload,"
        " driver_event_ids, cooldown_key, event_fingerprint) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        ["ASSET_RISK_SPIKE", 5, "x", "", "Asia", ["gas"], Jsonb({"value": 71}), [1, 2], "k", "f"],
    )
    (row,) = db.execute("SELECT scope_assets, payload FROM alert_events")
    assert row.scope_assets == ["gas"]
    assert row.payload == {"value": 71}
