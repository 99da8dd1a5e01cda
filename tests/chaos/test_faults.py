"""Phase C under faults, small; ``python -m tests.chaos`` runs the same scenarios at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import database_faults, provider_faults, runner_faults

if TYPE_CHECKING:
    from pathlib import Path

SENDS = 45
ALL = (*database_faults.FAULTS, *provider_faults.FAULTS, *runner_faults.FAULTS)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
async def test_no_message_is_lost_and_none_doubled_without_need(scenario, database_url: str):
    """Whatever breaks, every alert arrives, and twice only where that cannot be avoided (SPEC section 0)."""
    result = await scenario(database_url, SENDS)
    assert result.holds, result


async def test_a_crash_of_the_database_server_is_survived(tmp_path: Path):
    """The server goes down without a word and comes back: every outcome is written then (SPEC C-13)."""
    result = await database_faults.server_restarted(tmp_path, SENDS)
    assert (result.lost, result.doubled) == (0, 0), result
