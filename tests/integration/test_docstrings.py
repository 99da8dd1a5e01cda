"""The examples in the docstrings that an application's author reads: there is one each, and it does what it shows."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

import alerts_engine
from alerts_engine import (
    AlertsEngine,
    NewEvent,
    Phase,
    RunName,
    SendCounts,
    SendOutcome,
    SourceName,
    load_settings,
    testing,
)  # fmt: skip
from alerts_engine.operations.preview import PreviewKind
from alerts_engine.statements import read_rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alerts_engine import Settings
    from alerts_engine.testing import AlertsDatabase, Inbox

pytest_plugins = ["alerts_engine.testing.plugin"]

EVENT = {"alert_type": "HIGH_IMPACT_EVENT", "severity": 4}
USED = (
    alerts_engine.AlertsEngine, alerts_engine.NewEvent, alerts_engine.RunReport, load_settings, testing.AlertsDatabase,
    testing.Inbox, testing.playground,
)  # fmt: skip
"""What an application calls; the other public names are what it gets back, or catches."""


def documented() -> Iterator[Any]:
    """Each of them, and each method that has a name of its own."""
    for one in USED:
        yield one
        if inspect.isclass(one):
            yield from (
                member for name, member in vars(one).items() if inspect.isfunction(member) and not name.startswith("_")
            )


SHOWN = {
    f"{found.name}": found
    for one in documented()
    for found in doctest.DocTestFinder(recurse=False).find(one, one.__qualname__, globs={})
}
WITHOUT_EXAMPLE = {"AlertsDatabase", "Inbox", "NewEvent.as_row", "RunReport"}
"""Those whose methods have one, and one for the inside."""


def test_every_public_callable_has_an_example():
    """A name without one is seen here (DESIGN section 2)."""
    assert {name for name, found in SHOWN.items() if not found.examples} == WITHOUT_EXAMPLE


@pytest.mark.parametrize("name", sorted(SHOWN.keys() - WITHOUT_EXAMPLE))
def test_the_example_does_what_it_shows(  # noqa: PLR0917 - fixtures
    name: str,
    alerts_database: AlertsDatabase,
    alerts_engine: AlertsEngine,
    alerts_settings: Settings,
    alerts_inbox: Inbox,
    tmp_path: Path,
):
    """On a database with one reader and one event that waits, in an application with a table of its own."""
    alerts_database.add_user("a@example.com")
    alerts_database.execute("CREATE TABLE outages (plant text)")
    (tmp_path / "strikes.sql").write_text(
        "SELECT NULL::text AS alert_type, NULL::text AS scope_region, NULL::text[] AS scope_assets, 4 AS severity,"
        " NULL::text AS headline, NULL::text AS body, NULL::int[] AS driver_event_ids, NULL::text AS cooldown_key,"
        " NULL::text AS event_fingerprint, NULL::jsonb AS payload WHERE FALSE"
    )
    with asyncio.Runner() as runner, capture_logs():  # the library's log is the application's to configure
        run = runner.run

        async def opened() -> asyncpg.Pool:
            await alerts_engine.__aenter__()
            await alerts_engine.publish(NewEvent(**EVENT, headline="Strike in the port", event_fingerprint="strike"))
            return await asyncpg.create_pool(alerts_database.url)

        pool = run(opened())
        found = SHOWN[name]
        found.globs = {
            "AlertsEngine": AlertsEngine, "NewEvent": NewEvent, "Phase": Phase, "PreviewKind": PreviewKind,
            "SourceName": SourceName,
            "RunName": RunName, "SendCounts": SendCounts, "SendOutcome": SendOutcome, "UUID": UUID,
            "database": alerts_database, "engine": alerts_engine,
            "event": NewEvent(**EVENT, headline="Freeport is down", event_fingerprint="outage:freeport"),
            "folder": tmp_path, "inbox": alerts_inbox, "load_settings": load_settings, "loop": runner.get_loop(),
            "playground": testing.playground, "pool": pool, "read_rule": read_rule, "run": run,
            "settings": alerts_settings, "signal": signal, "timedelta": timedelta,
        }  # fmt: skip
        said: list[str] = []
        failed = doctest.DocTestRunner().run(found, out=said.append, clear_globs=False).failed
        run(alerts_engine.__aexit__(None, None, None))
        run(pool.close())
    assert not failed, "".join(said)
