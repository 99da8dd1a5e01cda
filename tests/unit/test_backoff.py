"""How long the next attempt waits (SPEC C-5)."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.phases.send.backoff import JITTER, RetryPolicy, retry_delay

seconds = st.floats(0.001, 1e6)
attempts = st.integers(1, 10_000)
randoms = st.floats(0, 1)


def policy(base: float = 60, most: float = 3600) -> RetryPolicy:
    return RetryPolicy(base_seconds=base, max_seconds=most, max_attempts=5)


@given(seconds, seconds, attempts, randoms)
def test_delay_is_the_capped_power_plus_at_most_a_fifth(base: float, most: float, made: int, random: float):
    """min(max, base · 2^(attempts−1)) plus a random 0–20 % of it (SPEC C-5)."""
    exact = min(most, base * 2.0 ** min(made - 1, 1000)) if made < 1000 else most
    delay = retry_delay(policy(base, most), made, retry_after=None, random=random)
    assert exact * (1 - 1e-9) <= delay <= exact * (1 + JITTER) * (1 + 1e-9)
    assert math.isfinite(delay)


@given(attempts, randoms, st.floats(0, 1e6))
def test_a_later_retry_after_wins_and_an_earlier_one_does_not(made: int, random: float, asked: float):
    """The provider's Retry-After holds if it is later (SPEC C-5)."""
    own = retry_delay(policy(), made, retry_after=None, random=random)
    assert retry_delay(policy(), made, retry_after=asked, random=random) == max(own, asked)


@given(attempts, seconds, seconds)
def test_waits_grow_until_the_longest(made: int, base: float, most: float):
    """Each attempt waits at least as long as the one before (SPEC C-5)."""
    earlier, later = (retry_delay(policy(base, most), n, retry_after=None, random=0) for n in (made, made + 1))
    assert earlier <= later <= most


def test_the_defaults_wait_a_minute_then_two_then_four():
    """60, 120, 240 … 3600 seconds (SPEC section 4)."""
    waits = [retry_delay(policy(), made, retry_after=None, random=0) for made in range(1, 9)]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
