"""What templates see: alerts and digests as words, every text cleaned and bounded (SPEC M-3, M-4).

The fields of the views are the contract of own templates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from string import capwords
from typing import TYPE_CHECKING

from alerts_engine.rendering.cleaning import clean, clean_lines
from alerts_engine.rendering.moves import biggest_move, most_telling, stand_together
from alerts_engine.rendering.unsaid import says, says_score, score_text

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
_SOURCE_LIMIT = 60
_ASSETS_SHOWN = 6
_REGIONS_SHOWN = 6

LONGEST_RAW_LINE, LONGEST_RAW_BODY, MOST_RAW_ASSETS = 4 * HEADLINE_LIMIT, 4 * BODY_LIMIT, 100
"""What of an event's texts needs to be read to make any message of it: characters of a line, of the body, and assets.

The limits above hold for cleaned text: up to three quarters may be white space and what nobody sees.
"""

SEVERITY_WORDS = {5: "Critical", 4: "High", 3: "Elevated", 2: "Moderate", 1: "Low"}
_SEVERITY_DOTS = {level: "●" * level + "○" * (5 - level) for level in SEVERITY_WORDS}
_TYPE_NAMES = {
    "REGIONAL_RISK_SPIKE": "Regional risk",
    "ASSET_RISK_SPIKE": "Asset risk",
    "HIGH_IMPACT_EVENT": "High-impact event",
}
_ASSET_NAMES = {"oil": "Oil", "gas": "Gas", "fx": "FX", "freight": "Freight"}
_SAID_BY_RISK = frozenset({"REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE"})
"""Types that a headline with the word "risk" in it has said."""
_DIGEST_TITLES = {"daily": "Daily digest", "hourly": "Hourly digest", "burst": "New alerts"}


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
    """The body in short, one line; empty when there is nothing to add to the headline, or to a digest's items above."""
    time: str
    short_time: str
    """``2 Sep, 18:04 CEST``."""
    link: str | None
    facts: tuple[tuple[str, str], ...]
    """What the text does not say, as names and values: ``("Region", "Europe")``."""
    unsaid: tuple[str, ...]
    """Region, assets and score, as far as headline and text do not say them."""
    source: str | None
    """Who reported it."""
    follows: bool = False
    """Among a digest's items: the same region and direction as the one before."""
    over_quota: bool = False
    """Among a digest's items: it would have come at once, had the day's instant messages not been used up."""


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
    link: str | None
    """Where all alerts are listed."""


@dataclass(frozen=True, slots=True)
class DigestView:
    """One digest as templates see it (``digest``)."""

    period: str
    """``daily``, ``hourly``, or ``burst``: alerts that were due together (SPEC D-7)."""
    title: str
    summary: str
    """``3 alerts, 1 critical``."""
    when: str | None
    """``2 Sep``, or ``2 Sep 18:00–19:00``; nothing for a bundle of what is told at once."""
    biggest_move: str | None
    """``Black Sea oil risk, up 16 points``, where there are several alerts and one of them is of a value that moved."""
    day: str
    hours: str
    zone: str
    by_severity: tuple[Tally, ...]
    top: AlertView
    """The alert that says most: of the most severe ones the first news, else the value that moved farthest."""
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

    def alert(
        self, alert: Alert, *, day: date | None = None, later: bool = False, over_quota: bool = False
    ) -> AlertView:
        """The view of ``alert``.

        Among the items of a digest of ``day`` its time is short; ``later`` is a digest that is read on another day.
        """
        kind, region = _type_name(alert.alert_type), _name(alert.scope_region, _REGION_LIMIT)
        name = f"{kind}: {region}" if region else kind
        headline = clean((later and alert.digest_headline) or alert.headline, HEADLINE_LIMIT) or name
        paragraphs = _paragraphs(alert.body, headline, name)
        severity = _severity(alert)
        at = self._times.time_of_day(alert.created_at, day) if day else self._times.moment(alert.created_at)
        view = AlertView(
            id=alert.event_id,
            type=kind,
            severity=severity,
            severity_word=SEVERITY_WORDS[severity],
            severity_dots=_SEVERITY_DOTS[severity],
            headline=headline,
            lead=_lead(headline, region),
            region=region,
            assets=_assets(alert.scope_assets),
            score=score_text(alert.value),
            paragraphs=paragraphs,
            reason=clean(" ".join(paragraphs), REASON_LIMIT),
            time=at,
            short_time=self._times.short_moment(alert.created_at),
            link=f"{self._base}/alerts/{alert.event_id}" if self._base else None,
            facts=(),
            unsaid=(),
            source=_name(alert.source, _SOURCE_LIMIT),
            over_quota=over_quota,
        )
        unsaid = _unsaid(view, alert)
        return replace(view, unsaid=tuple(value for _, value in unsaid), facts=_facts(view, alert, unsaid))

    def digest(self, digest: DigestContent, *, in_full: int) -> DigestTeller:
        """Ready to tell up to ``in_full`` alerts of ``digest``, which has at least one."""
        ranked = sorted(digest.items, key=_importance)
        day = self._times.local(digest.window_start).date()
        period = digest.period.value
        told = [
            (one, self.alert(one, day=day, later=period == "daily", over_quota=one.event_id in digest.over_quota))
            for one in ranked[:in_full]
        ]
        tallies = _tallies(ranked)
        items = _items(told)
        view = DigestView(
            period=period,
            title=_DIGEST_TITLES[period],
            summary=_summary(len(ranked), tallies[0]),
            when=self._times.when(digest),
            biggest_move=_name(biggest_move(ranked), HEADLINE_LIMIT) if len(ranked) > 1 else None,
            day=self._times.day(digest.window_start),
            hours=self._times.hours(digest),
            zone=self._times.zone,
            by_severity=tallies,
            top=most_telling(told),
            items=items,
            rest=None,
        )
        return DigestTeller(view, ranked, told, f"{self._base}/alerts" if self._base else None)


@dataclass(frozen=True, slots=True)
class DigestTeller:
    """Views of one digest that tell fewer or more of its alerts."""

    full: DigestView
    _ranked: Sequence[Alert]
    _told: Sequence[tuple[Alert, AlertView]]
    _rest_link: str | None

    def telling(self, count: int) -> DigestView:
        """The ``count`` most important alerts in full, the rest as counts."""
        rest = self._ranked[count:]
        items = _items(self._told[:count])
        return replace(self.full, items=items, rest=_rest(rest, self._rest_link) if rest else None)


def _items(told: Sequence[tuple[Alert, AlertView]]) -> tuple[AlertView, ...]:
    """Most important first, but for values of one region that went the same way: they stand together.

    A paragraph that an item above has said, such as the drivers of the same region, is not its reason once more.
    """
    items, said = [], set[str]()
    for view, follows in stand_together(told):
        reason = clean(" ".join(line for line in view.paragraphs if line not in said), REASON_LIMIT)
        items.append(replace(view, follows=follows, reason=reason))
        if not follows:
            said.update(line for line in view.paragraphs if line in reason)
    return tuple(items)


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


def _unsaid(view: AlertView, alert: Alert) -> list[tuple[str, str]]:
    text = "\n".join((view.headline, *view.paragraphs))
    said_assets = view.assets and says(text, *view.assets.split(", "))
    said_score = alert.value is not None and says_score(view.headline, alert.value)
    named = (
        ("Region", None if view.region and says(text, view.region) else view.region),
        ("Assets", None if said_assets else view.assets),
        ("Score", None if said_score else view.score),
    )
    return [(name, value) for name, value in named if value]


def _facts(view: AlertView, alert: Alert, unsaid: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    said_type = alert.alert_type in _SAID_BY_RISK and says(view.headline, "risk")
    named = (
        ("Type", None if said_type else view.type),
        *unsaid,
        ("Source", view.source),
        ("Time", view.time),
        ("Reference", None if view.link else str(view.id)),
    )
    return tuple((name, value) for name, value in named if value)


def _tallies(alerts: Iterable[Alert]) -> tuple[Tally, ...]:
    counts = Counter(_severity(alert) for alert in alerts)
    return tuple(Tally(level, SEVERITY_WORDS[level], counts[level]) for level in sorted(counts, reverse=True))


def _summary(count: int, worst: Tally) -> str:
    alerts = "alert" if count == 1 else "alerts"
    if worst.count == count:
        return f"{count} {worst.word.lower()} {alerts}"
    return f"{count} {alerts}, {worst.count} {worst.word.lower()}"


def _rest(alerts: Sequence[Alert], link: str | None) -> RestView:
    counts: Counter[str] = Counter()
    for region, count in Counter(alert.scope_region for alert in alerts).items():
        counts[_name(region, _REGION_LIMIT) or "No region"] += count
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    others = sum(count for _, count in ranked[_REGIONS_SHOWN:])
    regions = (*ranked[:_REGIONS_SHOWN], ("Other regions", others)) if others else tuple(ranked)
    return RestView(len(alerts), _tallies(alerts), regions, link)
