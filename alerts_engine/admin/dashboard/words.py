"""Numbers, times and codes as people read them; filters of the templates."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_TWO_HOURS, _TWO_DAYS = 2 * _HOUR, 2 * _DAY
_SECOND_MS = 1000
DID = {
    "a": (("events_created", "event"), ("rules_failed", "broken rule")),
    "b": (("events_processed", "event fanned out|events fanned out"), ("deliveries_created", "delivery")),
    "d": (("digest_items_attached", "item"), ("digests_created", "new digest")),
    "c": (
        ("sent", "sent|sent"), ("failed", "failed|failed"), ("retried", "to retry|to retry"),
        ("uncertain", "uncertain|uncertain"), ("reclaimed", "reclaimed|reclaimed"),
    ),
}  # fmt: skip
"""What is worth a word of a phase's counts, by phase."""
NAMES = {"a": "generate", "b": "fan out", "d": "digests", "c": "send", "e": "receipts", "all": "all"}


def number(value: int) -> str:
    """``12,345``."""
    return f"{value:,}"


def many(count: int, one: str) -> str:
    """``1 delivery``, ``2 deliveries``; where the plural is not plain, ``one|several``."""
    single, _, several = one.partition("|")
    plain = f"{single[:-1]}ies" if single.endswith("y") else f"{single}s"
    return f"{count:,} {single if count == 1 else several or plain}"


def channel(name: str) -> str:
    """``SMS``, ``Email``."""
    return "SMS" if name == "sms" else name[:1].upper() + name[1:]


def sentence(text: str) -> str:
    """Its first letter large."""
    return text[:1].upper() + text[1:]


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``5 h``, ``3 days``."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    if seconds < _TWO_HOURS:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.0f} h" if seconds < _TWO_DAYS else f"{seconds / _DAY:.0f} days"


def milliseconds(value: int | None) -> str:
    """A duration."""
    return "" if value is None else span(value / _SECOND_MS)


def minutes(value: float | None) -> str:
    """A duration, and a word for none."""
    return "none" if value is None else span(max(value, 0.0) * _MINUTE)


def ago(moment: datetime, now: datetime) -> str:
    """``5 min ago``, ``in 5 min``."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 10:  # noqa: PLR2004
        return "just now"
    return f"{span(round(seconds))} ago" if seconds > 0 else f"in {span(round(-seconds))}"


def clock(moment: datetime, zone: str, now: datetime) -> str:
    """``14:05`` today, with the date on other days."""
    local, today = (one.astimezone(ZoneInfo(zone)) for one in (moment, now))
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local.day} {local:%b} {local:%H:%M}"


def second(moment: datetime, zone: str) -> str:
    """``21 Nov 14:05:09``."""
    local = moment.astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b} {local:%H:%M:%S}"


def hour(moment: datetime, zone: str) -> str:
    """``14:00 to 15:00``."""
    local = moment.astimezone(ZoneInfo(zone))
    return f"{local:%H:%M} to {local + timedelta(hours=1):%H:%M}"


def did(phase: str, counts: dict[str, object] | None) -> str:
    """What a phase did, in a few words."""
    counts = counts or {}
    told = [(counts.get(name), word) for name, word in DID.get(phase, ())]
    return ", ".join(many(value, word) for value, word in told if isinstance(value, int) and value)


def code(text: str) -> str:
    """``missing_destination`` and ``HIGH_IMPACT_EVENT`` as words."""
    words = text.replace("_", " ")
    return words.capitalize() if words.isupper() else words


def clock_only(moment: datetime, zone: str) -> str:
    """``14:00``, whatever the day."""
    return f"{moment.astimezone(ZoneInfo(zone)):%H:%M}"
