"""How much one transaction takes on (SPEC B-2, D-1)."""

from __future__ import annotations

import pytest

from alerts_engine.phases.portion import Portion


@pytest.mark.parametrize(
    ("size", "waiting", "taken", "seconds", "then"),
    [
        (4_000, 0, 4_000, 0.1, 6_000),
        (15_000, 0, 15_000, 0.2, 20_000),
        (4_000, 1, 4_000, 0.1, 1_000),
        (4_000, 3, 8, 0.1, 2),
        (20_000, 0, 20_000, 1.0, 5_000),
        (20_000, 0, 5_000, 0.5, 2_500),
        (1_000, 0, 1_000, 100.0, 200),
        (50, 0, 50, 100.0, 50),
    ],
    ids=[
        "quick", "quick and large", "waited for", "few, waited for", "slow", "slow, and not full", "very slow",
        "very slow, and small for others",
    ],
)  # fmt: skip
def test_a_portion_follows_who_waits_and_how_long_it_takes(
    size: float, waiting: int, taken: int, seconds: float, then: float
):
    """Nobody is to wait long for a transaction, whether or not anybody waited for the last one."""
    portion = Portion(size)
    portion.after(waiting, taken, seconds)
    assert portion.size == then
