"""Fan-outs that are killed with SIGKILL; ``python -m tests.chaos.resume_fan_out`` does it at full size."""

from __future__ import annotations

import pytest

from tests.chaos.resume_fan_out import Storm, resume


@pytest.mark.slow
async def test_a_killed_fan_out_ends_with_the_deliveries_of_an_undisturbed_one(database_url: str):
    """Each kill leaves whole pages; at the end there is every delivery once, and the marker (SPEC B-2, B-7)."""
    outcome = await resume(Storm(database_url, users=6_000, page_size=500, most_pages=4, seed=20220224))
    assert outcome.kills > 0
    assert outcome.holds, outcome
