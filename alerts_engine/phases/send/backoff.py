"""How long to wait before the next attempt (SPEC C-5). Pure: randomness is an argument."""

from __future__ import annotations

from dataclasses import dataclass

JITTER = 0.2
_LARGEST_EXPONENT = 60
"""Beyond it a float's power of two only grows; the maximum has won long before."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``ALERTS_RETRY_BASE_SECONDS``, ``ALERTS_RETRY_MAX_SECONDS`` and ``ALERTS_MAX_ATTEMPTS``."""

    base_seconds: float
    max_seconds: float
    max_attempts: int


def retry_delay(policy: RetryPolicy, attempts: int, *, retry_after: float | None, random: float) -> float:
    """Seconds until attempt ``attempts + 1``, after ``attempts`` (≥ 1) made.

    ``min(max, base · 2^(attempts−1))`` plus 0–20 % of it by ``random`` (0 … 1), or the provider's ``retry_after`` if
    that is later.
    """
    exponent = min(max(attempts, 1) - 1, _LARGEST_EXPONENT)
    backoff = min(policy.max_seconds, policy.base_seconds * 2.0**exponent)
    return max(backoff * (1 + JITTER * random), retry_after or 0.0)
