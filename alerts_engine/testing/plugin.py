"""The fixtures: ``pytest_plugins = ["alerts_engine.testing.plugin"]``. They need no plugin for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alerts_engine.embedded import FOLDER
from alerts_engine.engine import AlertsEngine
from alerts_engine.testing.database import databases
from alerts_engine.testing.playground import settings_for
from alerts_engine.testing.sandbox import sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.settings import Settings
    from alerts_engine.testing.database import AlertsDatabase, Databases
    from alerts_engine.testing.sandbox import AlertsSandbox, Inbox


@pytest.fixture(scope="session")
def alerts_databases(pytestconfig: pytest.Config) -> Iterator[Databases]:
    """The embedded server with a migrated template, once a session (and process: ``pytest -n`` works)."""
    with databases(pytestconfig.rootpath / FOLDER / "testing") as made:
        yield made


@pytest.fixture
def alerts_database(alerts_databases: Databases) -> Iterator[AlertsDatabase]:
    """A fresh, migrated database: ``url``, ``add_user(…)``, ``execute(…)``."""
    with alerts_databases.fresh() as database:
        yield database


@pytest.fixture
def alerts_sandbox() -> Iterator[AlertsSandbox]:
    """The providers' doubles: ``url``, ``settings``, ``inbox``."""
    with sandbox_thread() as sandbox:
        yield sandbox


@pytest.fixture
def alerts_inbox(alerts_sandbox: AlertsSandbox) -> Inbox:
    """What the readers got: ``of("a@example.com")``; and ``fail("a@example.com")``."""
    return alerts_sandbox.inbox


@pytest.fixture
def alerts_settings(alerts_database: AlertsDatabase, alerts_sandbox: AlertsSandbox) -> Settings:
    """Settings that join the two. A fixture of the same name in the application's ``conftest.py`` takes its place."""
    return settings_for(alerts_database, alerts_sandbox)


@pytest.fixture
def alerts_engine(alerts_settings: Settings) -> AlertsEngine:
    """An engine that waits for nobody's pace; ``async with alerts_engine`` opens it."""
    return AlertsEngine(alerts_settings, pace=0)
