"""Fixtures of the tests that send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alerts_engine.sandbox import Sandbox
from tests.support.providers import Provider
from tests.support.sending import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A migrated database, and a sandbox that plays every provider."""
    async with Sandbox.start() as sandbox:
        yield World(database_url, sandbox)


@pytest.fixture
async def provider_server() -> AsyncIterator[Provider]:
    """A well-behaved provider that keeps what it got and answers as it is told."""
    async with Provider.serve() as provider:
        yield provider
