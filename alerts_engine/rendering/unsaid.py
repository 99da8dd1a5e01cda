"""What a text says already need not stand beside it once more (SPEC M-3a)."""

from __future__ import annotations

import re
from math import isfinite, trunc

_LONGEST_NUMBER = 1e6


def score_text(value: float | None) -> str | None:
    """``91`` or ``91.4``; ``None`` when there is no number."""
    if value is None or not isfinite(value):
        return None
    return f"{round(value, 1) + 0.0:.10g}" if abs(value) < _LONGEST_NUMBER else f"{value:.3g}"


def says_score(text: str, value: float) -> bool:
    """Whether ``text`` says this number: exactly, rounded or cut."""
    spellings = {score_text(value), f"{round(value)}", f"{trunc(value)}"} if isfinite(value) else set()
    return any(said and re.search(rf"(?<![\w.,]){re.escape(said)}(?!\w|[.,]\d)", text) for said in spellings)


def says(text: str, *words: str) -> bool:
    """Whether ``text`` says every one of ``words``, in whatever letter case."""
    folded = text.casefold()
    return all(re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", folded) for word in words)
