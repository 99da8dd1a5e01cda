"""What every message form renders with: the views of alerts and digests, and the templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from alerts_engine.errors import TemplateError
from alerts_engine.rendering.reader import NOBODY, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine.rendering.templating import Context, Templates
    from alerts_engine.rendering.views import AlertView, DigestView, Views

Made = TypeVar("Made")

ITEMS_IN_FULL = 25
"""Alerts that a digest tells one by one, when they fit; the others are counted."""
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class RenderKit:
    """Views and templates of one renderer."""

    views: Views
    templates: Templates
    reader: Reader = NOBODY

    def context(self, **views: AlertView | DigestView) -> Context:
        """What a template gets."""
        return {
            **views,
            "preferences_link": self.views.preferences_link,
            "why": self.reader.why,
            "unsubscribe_url": self.reader.link,
            "preferences_url": self.reader.link,
        }


def not_blank(text: str) -> str:
    """``text``; raises :class:`TemplateError` when there is nothing in it."""
    if not text.strip():
        raise TemplateError("the template renders to nothing")
    return text


def tidy(text: str) -> str:
    """At most one blank line in a row, so that templates can be laid out for their readers."""
    text = not_blank(text).strip()
    return (_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text) + "\n"


def largest(low: int, high: int, *, make: Callable[[int], Made], fits: Callable[[Made], bool]) -> Made:
    """What ``make`` makes of the largest number up to ``high`` that fits, or of ``low`` when none does."""
    made = make(high)
    if fits(made) or low == high:
        return made
    best = make(low)
    while high - low > 1:
        middle = (low + high) // 2
        made = make(middle)
        if fits(made):
            best, low = made, middle
        else:
            high = middle
    return best
