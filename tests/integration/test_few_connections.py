"""A role that may have two connections: everything works, only more slowly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest
from structlog.testing import capture_logs

from alerts_engine import Phase
from alerts_engine.database import clock, connect
from alerts_engine.errors import DatabaseUnreachableError
from alerts_engine.sandbox import Credentials
from tests.support.roles import role
from tests.support.world import (
    HOUR,
    NOW,
    add_delivery,
    add_digest_delivery,
    add_event,
    add_news,
    add_user,
    prepared,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.sending import World

GRANTS = [f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {{role}}" for kind in ("TABLES", "SEQUENCES")]
USERS, DIGESTS = 60, 20


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture
def two(db: psycopg.Connection) -> Iterator[str]:
    """The URL of a role that may do all with the tables, on two connections."""
    with role(db, *GRANTS, options="CONNECTION LIMIT 2") as url:
        yield url


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_whole_run_needs_two_connections(
    db: psycopg.Connection, two: str, world: World, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool
):
    """All phases and the history; a neighbour or a sender that finds no room waits for one in use (SPEC L-1, O-2)."""
    monkeypatch.setattr("alerts_engine.phases.pages.WORTH_TWO_PAGES", 2)
    users = [add_user(db, "pro") for _ in range(USERS)]
    add_news(db)
    past = add_event(db, NOW - 40 * HOUR, fanned_out=True)
    for user in users:
        add_delivery(db, user, past)
    for user in users[:DIGESTS]:
        add_digest_delivery(db, user, NOW - 40 * HOUR)
    fields = {name.lower(): value for name, value in Credentials().settings(world.sandbox.url).items()}
    with capture_logs() as logs:
        report = await run(two, Phase.ALL, fields=fields | {"send_concurrency": 30}, dry_run=dry_run)
    assert [(phase.phase, phase.status, phase.error) for phase in report.phases] == [
        (phase, "success", None) for phase in "abdc"
    ]
    assert [line for line in logs if line["log_level"] in ("warning", "error")] == []
    created, built, sent = (report.phases[number].counts for number in (1, 2, 3))
    assert created["deliveries_created"] == USERS
    assert built["digest_items_attached"] == DIGESTS
    if not dry_run:
        assert sent["sent"] == 2 * USERS
        assert sent["digests"]["sent"] == DIGESTS
    (kept,) = db.execute("SELECT status, dry_run FROM alerts_engine_runs").fetchall()
    assert kept == ("success", dry_run)
    assert db.execute("SELECT FROM alerts_engine_run_items").rowcount == 4


async def test_statements_share_the_connections_that_there_are(two: str):
    """However many are asked for at once, and whatever comes back when (SPEC C-4)."""
    async with connect(two) as database:
        for _ in range(5):
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                for _ in range(50):
                    tasks.create_task(database.row(clock))


async def test_whoever_cannot_wait_is_told_at_once(two: str):
    """A spare transaction is on a connection that is to spare, or there is none (SPEC B-2)."""
    async with connect(two) as database, database.session(), database.session(), database.spare_transaction() as spare:
        assert spare is None


async def test_no_room_at_all_is_said_as_the_server_says_it(two: str, monkeypatch: pytest.MonkeyPatch):
    """Nothing of ours can come back, so nothing is waited for (SPEC CLI-2)."""
    monkeypatch.setattr("alerts_engine.database.lending.CONNECT_TIMEOUT_SECONDS", 0.5)
    with psycopg.connect(two), psycopg.connect(two), pytest.raises(DatabaseUnreachableError, match="too many conn"):
        async with connect(two):
            pass
    async with connect(two) as database, database.session(), database.session():
        with pytest.raises(DatabaseUnreachableError, match="too many connections"):
            await database.row(clock)
