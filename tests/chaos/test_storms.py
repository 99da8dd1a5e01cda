"""Workers that are killed with SIGKILL, small; ``python -m tests.chaos`` does it at full size."""

from __future__ import annotations

import pytest

from tests.chaos.storm import digest_storm, sending_storm

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("provider", "policy"),
    [("brevo", "retry"), ("resend", "fail"), ("telegram", "retry"), ("telegram", "fail"), ("twilio", "retry")],
)
async def test_killed_workers_lose_nothing_and_double_only_what_cannot_be_known(
    provider: str, policy: str, database_url: str
):
    """All arrive or are reported uncertain; only Telegram with ``retry`` may get a second one (SPEC C-11, C-17)."""
    result = await sending_storm(database_url, provider, policy, sends=40, kills=3)
    assert min(result.kills, result.answers_lost) > 0
    assert result.holds, result


async def test_killed_builders_make_one_digest_with_all_items(database_url: str):
    """A worker killed while it builds digests, or sends them, leaves nothing half done (SPEC D-1, D-6)."""
    result = await digest_storm(database_url, sends=30, kills=4)
    assert result.kills > 0
    assert result.holds, result
