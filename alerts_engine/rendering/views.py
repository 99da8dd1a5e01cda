"""What templates see: alerts and digests as words, every text cleaned and bounded (SPEC M-3, M-4).

The fields of the views are the contract of own templates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import isfinite
from string import capwords
from typing import TYPE_CHECKING

from alerts_engine.rendering.cleaning import clean, clean_lines
from alerts_engine.types import Period

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from alerts_engine.rendering.local_times import LocalTimes
    from alerts_engine.types import Alert, DigestContent

HEADLINE_LIMIT = 140
REASON_LIMIT = 200
BODY_LIMIT = 3000
_TYPE_LIMIT = 60
_REGION_LIMIT = 40
_ASSET_LIMIT = 24
_ASSETS_SHOWN = 6
_REGIONS_SHOWN = 6

LONGEST_RAW_LINE, LONGEST_RAW_BODY, MOST_RAW_ASSETS = 4 * HEADLINE_LIMIT, 4 * BODY_LIMIT, 100
"""What of an event's texts needs to be read to make any message of it: characters of a line, of the body, and assets.

The limits above hold for cleaned text: up to three quarters may be white space and what nobody sees.
"""

SEVERITY_WORDS = {5: "Critical", 4: "High", 3: "Elevated", 2: "Moderate", 1: "Low"}
_SEVERITY_DOTS = {level: "●" * level + "○" * (5 - level) for level in SEVERITY_WORDS}
_TYPE_NAMES = {
    "REGIONAL_RISK_SPIKE": "Regional risk spike",
    "ASSET_RISK_SPIKE": "Asset risk spike",
    "HIGH_IMPACT_EVENT": "High-impact event",
}
_ASSET_NAMES = {"oil": "Oil", "gas": "Gas", "fx": "FX", "freight": "Freight"}
_DIGEST_TITLES = {Period.DAILY: "Daily digest", Period.HOURLY: "Hourly digest", Period.BURST: "New alerts"}


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert as templates see it (``alert``)."""

    id: int
    type: str
    severity: int
    """1 to 5."""
    severity_word: str
    severity_dots: str
    """``●●●●○``: the severity without colour."""
    headline: str
    lead: str
    """The headline with its region in front: the most important thing in one line."""
    region: str | None
    assets: str | None
    score: str | None
    paragraphs: tuple[str, ...]
    """The body's lines."""
    reason: str
    """The body in short, one line; empty when there is nothing to add to the headline."""
    time: str
    link: str | None
    over_quota: bool
    """In a digest: it would have come at once, had the day's instant messages not been used up."""
    facts: tuple[tuple[str, str], ...]
    """What is known besides the text, as names and values: ``("Region", "Europe")``."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many alerts have this severity."""

    severity: int
    word: str
    count: int


@dataclass(frozen=True, slots=True)
class RestView:
    """The alerts of a digest that are counted instead of told."""

    count: int
    by_severity: tuple[Tally, ...]
    by_region: tuple[tuple[str, int], ...]
    """The regions with the most alerts, then all others as one."""


@dataclass(frozen=True, slots=True)
class DigestView:
    """One digest as templates see it (``digest``)."""

    period: str
    """``daily``, ``hourly``, or ``burst``: alerts that were due together (SPEC D-7)."""
    title: str
    summary: str
    """``3 alerts, 1 critical``."""
    day: str
    hours: str
    zone: str
    by_severity: tuple[Tally, ...]
    top: AlertView
    """The most important alert."""
    items: tuple[AlertView, ...]
    """The alerts told in full; fewer, even none, when a message would grow too long."""
    rest: RestView | None


class Views:
    """Makes views in one time zone, with links below ``app_base_url`` if there is one."""

    def __init__(self, times: LocalTimes, app_base_url: str | None) -> None:
        self._times = times
        self._base = app_base_url.rstrip("/") if app_base_url else None

    @property
    def preferences_link(self) -> str | None:
        """Where a user says what alerts to get."""
        return f"{self._base}/settings/notifications" if self._base else None

    def alert(self, alert: Alert, *, day: date | None = None, over_quota: bool = False) -> AlertView:
        """The view of ``alert``; among the items of a digest of ``day`` its time is short."""
        kind, region = _type_name(alert.alert_type), _name(alert.scope_region, _REGION_LIMIT)
        name = f"{kind}: {region}" if region else kind
        headline = clean(alert.headline, HEADLINE_LIMIT) or name
        paragraphs = _paragraphs(alert.body, headline, name)
        severity = _severity(alert)
        link = f"{self._base}/alerts/{alert.event_id}" if self._base else None
        at = self._times.time_of_day(alert.created_at, day) if day else self._times.moment(alert.created_at)
        assets, score = _assets(alert.scope_assets), _score(alert.value)
        reference = None if link else str(alert.event_id)
        facts = (
            ("Type", kind),
            ("Region", region),
            ("Assets", assets),
            ("Score", score),
            ("Time", at),
            ("Reference", reference),
        )
        return AlertView(
            id=alert.event_id,
            type=kind,
            severity=severity,
            severity_word=SEVERITY_WORDS[severity],
            severity_dots=_SEVERITY_DOTS[severity],
            headline=headline,
            lead=_lead(headline, region),
            region=region,
            assets=assets,
            score=score,
            paragraphs=paragraphs,
            reason=clean(" ".join(paragraphs), REASON_LIMIT),
            time=at,
            link=link,
            over_quota=over_quota,
            facts=tuple((name, value) for name, value in facts if value),
        )

    def digest(self, digest: DigestContent, *, in_full: int) -> DigestTeller:
        """Ready to tell up to ``in_full`` alerts of ``digest``, which has at least one."""
        ranked = sorted(digest.items, key=_importance)
        day = self._times.local(digest.window_start).date()
        items = tuple(
            self.alert(alert, day=day, over_quota=alert.event_id in digest.over_quota) for alert in ranked[:in_full]
        )
        tallies = _tallies(ranked)
        view = DigestView(
            period=digest.period.value,
            title=_DIGEST_TITLES[digest.period],
            summary=_summary(len(ranked), tallies[0]),
            day=self._times.day(digest.window_start),
            hours=self._times.hours(digest),
            zone=self._times.zone,
            by_severity=tallies,
            top=items[0],
            items=items,
            rest=None,
        )
        return DigestTeller(view, ranked)


@dataclass(frozen=True, slots=True)
class DigestTeller:
    """Views of one digest that tell fewer or more of its alerts."""

    full: DigestView
    _ranked: Sequence[Alert]

    def telling(self, count: int) -> DigestView:
        """The ``count`` most important alerts in full, the rest as counts."""
        rest = self._ranked[count:]
        return replace(self.full, items=self.full.items[:count], rest=_rest(rest) if rest else None)


def _importance(alert: Alert) -> tuple[int, datetime, int]:
    """Most severe first, then oldest first (SPEC M-3); the id makes it one order."""
    return -_severity(alert), alert.created_at, alert.event_id


def _severity(alert: Alert) -> int:
    return min(max(alert.severity, 1), 5)


def _type_name(code: str) -> str:
    """``Regional risk spike``; a type that rules brought is named after its code."""
    known = _TYPE_NAMES.get(code)
    return known or clean(capwords(clean(code, _TYPE_LIMIT).replace("_", " ")), _TYPE_LIMIT) or "Alert"


def _name(text: str | None, limit: int) -> str | None:
    return clean(text or "", limit) or None


def _paragraphs(body: str, headline: str, name: str) -> tuple[str, ...]:
    """The body's lines; when it says nothing, the alert's ``name`` unless the headline has said that."""
    lines = clean_lines(body, BODY_LIMIT)
    if lines and lines != (headline,):
        return lines
    return () if headline == name else (f"{name}.",)


def _lead(headline: str, region: str | None) -> str:
    named = region is None or region.casefold() in headline.casefold()
    return headline if named else f"{region}: {headline}"


def _assets(codes: tuple[str, ...]) -> str | None:
    names = [name for name in (_name(_ASSET_NAMES.get(code, code), _ASSET_LIMIT) for code in codes) if name]
    more = len(names) - _ASSETS_SHOWN
    return ", ".join(names[:_ASSETS_SHOWN]) + (f" and {more} more" if more > 0 else "") or None


def _score(value: float | None) -> str | None:
    """``91`` or ``91.4``."""
    if value is None or not isfinite(value):
        return None
    largest_in_full = 1e6
    return f"{round(value, 1) + 0.0:.10g}" if abs(value) < largest_in_full else f"{value:.3g}"


def _tallies(alerts: Iterable[Alert]) -> tuple[Tally, ...]:
    counts = Counter(_severity(alert) for alert in alerts)
    return tuple(Tally(level, SEVERITY_WORDS[level], counts[level]) for level in sorted(counts, reverse=True))


def _summary(count: int, worst: Tally) -> str:
    alerts = "alert" if count == 1 else "alerts"
    if worst.count == count:
        return f"{count} {worst.word.lower()} {alerts}"
    return f"{count} {alerts}, {worst.count} {worst.word.lower()}"


def _rest(alerts: Sequence[Alert]) -> RestView:
    counts: Counter[str] = Counter()
    for region, count in Counter(alert.scope_region for alert in alerts).items():
        counts[_name(region, _REGION_LIMIT) or "No region"] += count
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    others = sum(count for _, count in ranked[_REGIONS_SHOWN:])
    regions = (*ranked[:_REGIONS_SHOWN], ("Other regions", others)) if others else tuple(ranked)
    return RestView(len(alerts), _tallies(alerts), regions)
