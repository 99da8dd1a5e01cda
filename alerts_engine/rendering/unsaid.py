"""What a text says already need not stand beside it once more (SPEC M-3a)."""

from __future__ import annotations

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
    return any(said is not None and _stands_in(text, said, point=".,") for said in spellings)


def says(text: str, *words: str) -> bool:
    """Whether ``text`` says every one of ``words``, in whatever letter case."""
    folded = text.casefold()
    return all(_stands_in(folded, word.casefold()) for word in words)


def _stands_in(text: str, part: str, point: str = "") -> bool:
    """Whether ``part`` stands in ``text`` as a word, and not as a part of a number that has a ``point``."""
    # No regular expression: compiling one for every alert takes longer than all else.
    place = text.find(part)
    while place >= 0:
        before, after = text[place - 1 : place] if place else " ", text[place + len(part) :][:2] or " "
        continues = after[0] in point and after[1:].isdigit()
        if not (before.isalnum() or before in point or after[0].isalnum() or continues):
            return True
        place = text.find(part, place + 1)
    return False
