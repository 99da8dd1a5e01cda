"""Real history as rows for the source tables: prices and events in, one ``Day`` after another out (SPEC F-2).

Sample data to show the engine at work, not advice. The scores are simple on purpose, and no price is used
before it was known: rows are made at 06:00 UTC, when the newest price is the close of the day before. News comes at
10:30 UTC, and at 11:00 the regions are scored once more, with it.

- Asset risk: the percentile of the benchmark's absolute 7-day log return within its own trailing two years.
- Regional risk: the mean of the same percentile, of 7-day and of 30-day returns, over the region's benchmarks
  plus the decayed severity of the region's events, at most 100.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_START: Final = date(2022, 2, 20)
DEFAULT_END: Final = date(2022, 3, 12)
"""The window that the demo replays: the invasion of Ukraine, first and last day included."""

LOOKBACK_DAYS: Final = 730
SHORTEST_LOOKBACK_DAYS: Final = 365
"""A percentile among fewer days than this would say little: earlier days cannot be replayed."""
WEEK: Final = 7
WINDOWS: Final = (WEEK, 30)
POINTS_PER_SEVERITY: Final = 4.0
"""What an event of today adds to its region's score per step of severity; half of it after half a window."""
CLEAR_MOVE: Final = math.log(1.01)
"""Moves below one percent have no direction."""
CLEAR_TREND: Final = 3.0
"""Points by which a score must differ from the day before to count as rising or falling."""
CONFIDENCE: Final = 0.9
"""Stands for the classifier's confidence, which recorded history does not have."""

ONE_DAY: Final = timedelta(days=1)


class Asset(StrEnum):
    OIL = "oil"
    GAS = "gas"


class Benchmark(StrEnum):
    """A price series; the value is the stem of its file."""

    BRENT = "brent"
    WTI = "wti"
    HENRY_HUB = "henry_hub"

    @property
    def asset(self) -> Asset:
        return Asset.GAS if self is Benchmark.HENRY_HUB else Asset.OIL

    def quote(self, usd: float) -> str:
        """A price with its name and unit, such as ``Brent 98.73 USD a barrel``."""
        name = "WTI" if self is Benchmark.WTI else self.replace("_", " ").title()
        unit = "a barrel" if self.asset is Asset.OIL else "per MMBtu"
        return f"{name} {usd:.2f} USD {unit}"


class Direction(StrEnum):
    """Where an asset's price went in the week; ``mixed`` when the newest day went against it."""

    UP = "up"
    DOWN = "down"
    MIXED = "mixed"
    UNCLEAR = "unclear"


class Trend(StrEnum):
    """Where a region's index went since the day before."""

    RISING = "rising"
    FALLING = "falling"
    STABLE = "stable"


# Henry Hub stands in for gas everywhere: the sample has no European gas price.
MARKETS: Final[Mapping[str, tuple[Benchmark, ...]]] = MappingProxyType(
    {
        "Europe": (Benchmark.BRENT, Benchmark.HENRY_HUB),
        "Middle East": (Benchmark.BRENT,),
        "North America": (Benchmark.WTI, Benchmark.HENRY_HUB),
        "Black Sea": (Benchmark.BRENT, Benchmark.HENRY_HUB),
        "Russia": (Benchmark.BRENT, Benchmark.HENRY_HUB),
        "Asia": (Benchmark.BRENT,),
        "Global": (Benchmark.BRENT,),
    }
)
"""The regions that have an index, and the benchmarks they trade: one for each of a region's assets."""


# --- what the files say ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DailyPrice:
    day: date
    usd: float


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One line of ``energy_events.csv``."""

    day: date
    title: str
    region: str
    category: str
    severity: int
    slug: str


@cache
def load_prices(benchmark: Benchmark) -> tuple[DailyPrice, ...]:
    """All closes of one benchmark in US dollars, oldest first, as they are in the file."""
    rows = _read_rows(f"{benchmark}_daily.csv")
    return tuple(DailyPrice(date.fromisoformat(row["Date"]), float(row["Price"])) for row in rows)


@cache
def load_events() -> tuple[RecordedEvent, ...]:
    """All recorded events, oldest first."""
    return tuple(
        RecordedEvent(
            day=date.fromisoformat(row["date"]),
            title=row["title"],
            region=row["region"],
            category=row["category"],
            severity=int(row["severity"]),
            slug=row["slug"],
        )
        for row in _read_rows("energy_events.csv")
    )


def _read_rows(name: str) -> list[dict[str, str]]:
    text = files("alerts_engine.demo").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


# --- rows for the source tables -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of ``events``; times are aware, UTC."""

    title: str
    source_name: str
    source_url: str
    category: str
    region: str
    severity_score: int
    event_time: datetime
    """Midnight: the record knows the day only."""
    inserted_at: datetime
    ai_summary: str | None


@dataclass(frozen=True, slots=True)
class RiskEventRow:
    """A row of ``risk_events``, but for its ``event_id``."""

    region: str
    category: str
    base_severity: int
    ai_confidence: float
    weighted_score: float


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A row of ``risk_indices``; ``risk_score`` is 0 to 100."""

    region: str
    window_days: int
    risk_score: float
    trend: Trend


@dataclass(frozen=True, slots=True)
class AssetRiskRow:
    """A row of ``asset_risk``; ``risk_score`` is 0 to 100."""

    asset: Asset
    region: str
    window_days: int
    risk_score: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class Day:
    """What the application would have written on one day."""

    date: date
    scored_at: datetime
    """06:00 UTC: when ``morning`` and ``asset_risks`` were made."""
    morning: tuple[IndexRow, ...]
    asset_risks: tuple[AssetRiskRow, ...]
    events: tuple[EventRow, ...]
    """The day's news, if there is any."""
    risk_events: tuple[RiskEventRow, ...]
    """One for each of ``events``, in the same order."""
    rescored_at: datetime
    """11:00 UTC: when ``indices`` were made, on a day with news."""
    indices: tuple[IndexRow, ...]
    """With the day's news."""


def replay(start: date = DEFAULT_START, end: date = DEFAULT_END) -> Iterator[Day]:
    """The days from ``start`` to ``end``, both included, oldest first (SPEC F-2).

    Raises ``ValueError`` at once for a window that is empty or that the prices do not cover.
    """
    first, last = covered()
    if not first <= start <= end <= last:
        raise ValueError(f"cannot replay {start} … {end}: choose a window within {first} … {last}")
    return (_make_day(start + timedelta(days=offset)) for offset in range((end - start).days + 1))


def covered() -> tuple[date, date]:
    """The first and the last day that can be replayed."""
    series = [price_series(benchmark) for benchmark in Benchmark]
    first = max(one.first for one in series) + timedelta(days=SHORTEST_LOOKBACK_DAYS)
    return first, min(one.last for one in series) + ONE_DAY


def _make_day(day: date) -> Day:
    recorded = [event for event in load_events() if event.day == day]
    return Day(
        date=day,
        scored_at=_at(day, time(6)),
        morning=tuple(_index_row(region, window, day, with_news=False) for region in MARKETS for window in WINDOWS),
        asset_risks=tuple(
            _asset_risk_row(region, benchmark, day) for region in MARKETS for benchmark in MARKETS[region]
        ),
        events=tuple(_event_row(event) for event in recorded),
        risk_events=tuple(_risk_event_row(event) for event in recorded),
        rescored_at=_at(day, time(11)),
        indices=tuple(_index_row(region, window, day) for region in MARKETS for window in WINDOWS),
    )


def _at(day: date, clock: time) -> datetime:
    return datetime.combine(day, clock, tzinfo=UTC)


def _event_row(event: RecordedEvent) -> EventRow:
    return EventRow(
        title=event.title,
        source_name="Sample data",
        source_url=f"sample:{event.slug}",
        category=event.category,
        region=event.region,
        severity_score=event.severity,
        event_time=_at(event.day, time(0)),
        inserted_at=_at(event.day, time(10, 30)),
        ai_summary=_summary(event),
    )


def _risk_event_row(event: RecordedEvent) -> RiskEventRow:
    return RiskEventRow(
        region=event.region,
        category=event.category,
        base_severity=event.severity,
        ai_confidence=CONFIDENCE,
        weighted_score=round(event.severity * CONFIDENCE, 2),
    )


def _index_row(region: str, window: int, day: date, *, with_news: bool = True) -> IndexRow:
    score = regional_score(region, window, day, with_news=with_news)
    change = score - regional_score(region, window, day - ONE_DAY)
    return IndexRow(region, window, round(score, 1), _trend(change))


def _asset_risk_row(region: str, benchmark: Benchmark, day: date) -> AssetRiskRow:
    series = price_series(benchmark)
    known = day - ONE_DAY
    direction = _direction(series.move(known, WEEK), series.move(known, 1))
    return AssetRiskRow(benchmark.asset, region, WEEK, round(move_score(benchmark, WEEK, day), 1), direction)


def _summary(event: RecordedEvent) -> str | None:
    """One line of facts known at the time: the region's prices and how they had moved in the week before."""
    quotes = [_quote(benchmark, event.day - ONE_DAY) for benchmark in MARKETS.get(event.region, ())]
    return "; ".join(quotes) + "." if quotes else None


def _quote(benchmark: Benchmark, day: date) -> str:
    series = price_series(benchmark)
    percent = 100 * math.expm1(series.move(day, WEEK))
    return f"{benchmark.quote(series.price(day))}, {percent:+.1f}% in seven days"


# --- scores ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PriceSeries:
    """One benchmark's price on every calendar day: a day without a price carries the last one."""

    first: date
    prices: tuple[float, ...]

    @property
    def last(self) -> date:
        return self.first + timedelta(days=len(self.prices) - 1)

    def price(self, day: date) -> float:
        """The price in US dollars."""
        return self.prices[(day - self.first).days]

    def move(self, day: date, days: int) -> float:
        """The log return of the ``days`` up to ``day``."""
        return math.log(self.price(day) / self.price(day - timedelta(days=days)))

    def trailing_moves(self, day: date, days: int) -> list[float]:
        """The log return of ``days`` up to each day of the two years before ``day``, the newest last.

        Fewer where the series is younger than that.
        """
        end = (day - self.first).days + 1
        begin = max(days, end - LOOKBACK_DAYS)
        return [math.log(self.prices[i] / self.prices[i - days]) for i in range(begin, end)]


@cache
def price_series(benchmark: Benchmark) -> PriceSeries:
    """The benchmark's prices made continuous, for returns."""
    return fill_days(load_prices(benchmark))


def fill_days(closes: Sequence[DailyPrice]) -> PriceSeries:
    """Closes, oldest first, as a series without gaps."""
    # A return's logarithm needs positive prices. WTI closed at -36.98 on 2020-04-20: that day carries the
    # price before it, and the fall shows in the returns of the days that follow.
    known = {close.day: close.usd for close in closes if close.usd > 0}
    first, last = min(known), max(known)
    prices = [known[first]]
    for offset in range(1, (last - first).days + 1):
        prices.append(known.get(first + timedelta(days=offset), prices[-1]))
    return PriceSeries(first, tuple(prices))


@cache
def move_score(benchmark: Benchmark, window: int, day: date) -> float:
    """How unusual the newest move of ``window`` days is on the morning of ``day``: a percentile, 0 to 100."""
    moves = price_series(benchmark).trailing_moves(day - ONE_DAY, window)
    return percentile(abs(moves[-1]), [abs(move) for move in moves])


def percentile(value: float, among: Sequence[float]) -> float:
    """The share of ``among`` below ``value``, 0 to 100; equal ones count half."""
    ordered = sorted(among)
    return 50 * (bisect_left(ordered, value) + bisect_right(ordered, value)) / len(ordered)


def regional_score(region: str, window: int, day: date, *, with_news: bool = True) -> float:
    """The region's index of ``window`` days on ``day``, 0 to 100; without news it is the morning's."""
    market = fmean(move_score(benchmark, window, day) for benchmark in MARKETS[region])
    return min(100.0, market + event_points(region, window, day, with_news=with_news))


def event_points(region: str, window: int, day: date, *, with_news: bool = True) -> float:
    """What the region's events of the last ``window`` days, that day's included with news, add to its score."""
    youngest = 0 if with_news else 1
    fresh = [event for event in load_events() if event.region == region and youngest <= (day - event.day).days < window]
    return sum(POINTS_PER_SEVERITY * event.severity * _decay(event, window, day) for event in fresh)


def _decay(event: RecordedEvent, window: int, day: date) -> float:
    """What is left of an event: 1 on its day, a half after half a window."""
    return math.exp2(-(day - event.day).days / (window / 2))


def _direction(week: float, latest: float) -> Direction:
    if abs(week) < CLEAR_MOVE:
        return Direction.UNCLEAR
    if abs(latest) >= CLEAR_MOVE and (week > 0) != (latest > 0):
        return Direction.MIXED
    return Direction.UP if week > 0 else Direction.DOWN


def _trend(change: float) -> Trend:
    if abs(change) < CLEAR_TREND:
        return Trend.STABLE
    return Trend.RISING if change > 0 else Trend.FALLING
