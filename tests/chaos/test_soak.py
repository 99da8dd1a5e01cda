"""A night in small, very small; ``make soak`` lets it go on for ten minutes."""

from __future__ import annotations

import pytest

from tests.chaos.soak import soak

pytestmark = pytest.mark.slow


async def test_after_a_night_of_kills_deletions_and_faults_everybody_got_what_they_should(database_url: str):
    """What the oracle says, each alert once, and the application never deadlocked (SPEC section 0)."""
    outcome = await soak(database_url, seconds=12, users=60)
    assert outcome.kills > 0
    assert outcome.expected > 0
    assert outcome.holds, outcome
