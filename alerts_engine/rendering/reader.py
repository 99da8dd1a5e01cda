"""Who reads a message, as far as it says so: why it came, and how to stop (SPEC M-3b)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from string import capwords
from typing import TYPE_CHECKING, Any

from alerts_engine.rendering.cleaning import clean
from alerts_engine.types import EmailMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.types import Message

ANY_LINK = "https://reader.invalid/alerts-engine-link"
"""Stands in a message for the link of its reader, so that one alert is rendered once for everybody."""
_REASONS_SHOWN = 3
_PLACE_LIMIT = 40
_KINDS = {
    "HIGH_IMPACT_EVENT": "high-impact events",
    "REGIONAL_RISK_SPIKE": "regional risk alerts",
    "ASSET_RISK_SPIKE": "asset risk alerts",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """What templates see of the reader, in every message."""

    why: str = ""
    """``You get this email because you follow Europe: high-impact events.``; empty where nobody knows."""
    link: str | None = None
    """Where to stop, or to change what comes; one click for mail programs (SPEC U-1)."""


NOBODY = Reader()


@lru_cache(maxsize=256)
def reader_of(reasons: str | None, *, has_link: bool) -> Reader:
    """The reader of an email whose row keeps these ``reasons`` (JSON, from ``alert_reasons_for``)."""
    return Reader(why=why(reasons), link=ANY_LINK if has_link else None)


def why(reasons: str | None) -> str:
    """The preferences that matched, in words; empty for none, when the templates say it in general."""
    found: list[dict[str, Any]] = json.loads(reasons) if reasons else []
    if not found:
        return ""
    if any(one.get("default") for one in found):
        return (
            f"You get this email because you have not chosen any alerts yet, and everybody begins with {_named(found)}."
        )
    return f"You get this email because you follow {_named(found)}."


def personal(message: Message, url: str | None) -> Message:
    """``message`` with its reader's own link."""
    if url is None or not isinstance(message, EmailMessage):
        return message
    return replace(message, html=message.html.replace(ANY_LINK, escape(url)), text=message.text.replace(ANY_LINK, url))


def _named(reasons: list[dict[str, Any]]) -> str:
    """``Europe: high-impact events``, in one order whatever the database's is."""
    names = sorted({reason_in_words(one) for one in reasons})
    more = len(names) - _REASONS_SHOWN
    return "; ".join(names[:_REASONS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def reason_in_words(reason: Mapping[str, Any]) -> str:
    """``Europe: high-impact events``, from what a preference asks for."""
    region = clean(str(reason.get("region") or ""), _PLACE_LIMIT)
    place = "all regions" if region.casefold() in {"global", ""} else region
    asset = clean(str(reason.get("asset") or ""), _PLACE_LIMIT)
    return f"{place}: {kind_in_words(str(reason.get('type') or ''))}" + (f" ({asset})" if asset else "")


def kind_in_words(alert_type: str) -> str:
    """``high-impact events``; a type that rules brought is named after its code."""
    words = clean(capwords(clean(alert_type, 60).replace("_", " ")), 60).lower() or "alert"
    return _KINDS.get(alert_type, words if words.endswith("s") else f"{words}s")
