"""The demo's sample data: real history in, rows for the source tables out; and the users who read them."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from alerts_engine.demo.audience import AUDIENCE
from alerts_engine.demo.history import (
    DEFAULT_END,
    DEFAULT_START,
    MARKETS,
    WINDOWS,
    Benchmark,
    DailyPrice,
    Day,
    Direction,
    Trend,
    covered,
    event_points,
    fill_days,
    load_events,
    load_prices,
    move_score,
    percentile,
    price_series,
    regional_score,
    replay,
)
from alerts_engine.types import Channel, Period

INVASION = date(2022, 2, 24)
QUIET = date(2024, 5, 20)


def only(day: date) -> Day:
    (made,) = replay(day, day)
    return made


def asset_row(day: date, region: str, asset: str):
    (row,) = (row for row in only(day).asset_risks if (row.region, row.asset) == (region, asset))
    return row


def index_row(day: date, region: str, window: int):
    (row,) = (row for row in only(day).indices if (row.region, row.window_days) == (region, window))
    return row


# --- the files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", Benchmark)
def test_prices_are_read_in_order_of_their_days(benchmark):
    """The package carries every price file, oldest first, no day twice (SPEC F-2)."""
    days = [price.day for price in load_prices(benchmark)]
    assert days[0] == date(2019, 1, 2)
    assert all(earlier < later for earlier, later in pairwise(days))


def test_prices_are_read_as_they_stand():
    """Loading changes nothing, not even the negative price of WTI (SPEC F-2)."""
    assert DailyPrice(date(2022, 3, 8), 133.18) in load_prices(Benchmark.BRENT)
    assert DailyPrice(date(2020, 4, 20), -36.98) in load_prices(Benchmark.WTI)


def test_events_have_unique_slugs_and_severities_from_one_to_five():
    """Every recorded event can become a row of the source table, whose address is unique (SPEC F-2)."""
    slugs = [event.slug for event in load_events()]
    assert len(slugs) == len(set(slugs)) == 69
    assert all(1 <= event.severity <= 5 for event in load_events())


# --- prices without gaps --------------------------------------------------------------------------


def test_a_weekend_carries_the_last_price():
    """A day without a price has the price before it (SPEC F-2)."""
    series = fill_days([DailyPrice(date(2022, 3, 4), 10.0), DailyPrice(date(2022, 3, 7), 12.0)])
    assert series.prices == (10.0, 10.0, 10.0, 12.0)
    assert (series.first, series.last) == (date(2022, 3, 4), date(2022, 3, 7))


def test_a_negative_price_is_left_out_of_returns():
    """WTI below zero has no log return: its day carries the price before it (SPEC F-2)."""
    series = price_series(Benchmark.WTI)
    assert series.price(date(2020, 4, 20)) == series.price(date(2020, 4, 19)) == 18.31
    assert series.move(date(2020, 4, 21), 1) == pytest.approx(math.log(8.91 / 18.31))


def test_trailing_moves_span_two_years_and_end_with_the_day():
    """A move is ranked within its own trailing two years (SPEC F-2)."""
    series = price_series(Benchmark.BRENT)
    moves = series.trailing_moves(QUIET, 7)
    assert len(moves) == 730
    assert moves[-1] == series.move(QUIET, 7)
    assert moves[0] == series.move(QUIET - timedelta(days=729), 7)


def test_trailing_moves_of_a_young_series_are_all_there_are():
    """A series younger than two years yields each move whose both ends it knows (SPEC F-2)."""
    series = price_series(Benchmark.BRENT)
    assert len(series.trailing_moves(series.first + timedelta(days=10), 7)) == 4


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "score"), [(0.5, 0), (1, 12.5), (2, 50), (9, 87.5), (10, 100)], ids=lambda number: f"{number:g}"
)
def test_a_percentile_is_the_share_below_with_equals_counting_half(value, score):
    """The percentile behind the risk scores is a mid-rank (SPEC F-2)."""
    assert percentile(value, [9, 2, 1, 2]) == score


def test_a_big_move_scores_high_and_a_flat_week_low():
    """Asset risk tells Brent's jump of March 2022 from a week that went nowhere (SPEC F-2)."""
    assert move_score(Benchmark.BRENT, 7, date(2022, 3, 5)) > 90
    assert move_score(Benchmark.BRENT, 7, date(2022, 2, 23)) < 10


def test_a_score_uses_no_price_of_its_own_day():
    """At six in the morning the newest known close is the day before's (SPEC F-2)."""
    series = price_series(Benchmark.BRENT)
    moves = [abs(move) for move in series.trailing_moves(INVASION - timedelta(days=1), 7)]
    assert move_score(Benchmark.BRENT, 7, INVASION) == percentile(moves[-1], moves)


@pytest.mark.parametrize("window", WINDOWS)
def test_an_event_weighs_four_points_a_severity_step_and_a_half_after_half_a_window(window):
    """An event raises its region's index and fades (SPEC F-2)."""
    before, after = INVASION - timedelta(days=1), INVASION + timedelta(days=1)
    assert event_points("Black Sea", window, before) == 0
    assert event_points("Black Sea", window, INVASION) == 20
    assert event_points("Black Sea", window, after) == pytest.approx(20 * 0.5 ** (2 / window))
    assert event_points("Asia", window, INVASION) == 0


def test_an_event_older_than_the_window_weighs_nothing():
    """An event counts in as many days as the window has (SPEC F-2)."""
    assert event_points("Russia", 7, date(2022, 2, 26) + timedelta(days=6)) > 0
    assert event_points("Russia", 7, date(2022, 2, 26) + timedelta(days=7)) == 0


def test_a_regional_score_is_the_mean_of_its_benchmarks_plus_its_events():
    """The index of a region is the mean of its assets and what its events add (SPEC F-2)."""
    oil, gas = (move_score(benchmark, 7, INVASION) for benchmark in (Benchmark.BRENT, Benchmark.HENRY_HUB))
    assert regional_score("Black Sea", 7, INVASION) == pytest.approx((oil + gas) / 2 + 20)


def test_a_regional_score_stops_at_one_hundred():
    """However much happens, an index is at most 100 (SPEC F-2)."""
    day = date(2020, 3, 10)
    assert move_score(Benchmark.BRENT, 7, day) + event_points("Middle East", 7, day) > 100
    assert regional_score("Middle East", 7, day) == 100


# --- replay ---------------------------------------------------------------------------------------


def test_the_default_replay_is_the_invasion_day_by_day():
    """The demo's window has every day from 20 February to 12 March 2022 once, oldest first (SPEC F-2)."""
    days = [day.date for day in replay()]
    assert days == [DEFAULT_START + timedelta(days=offset) for offset in range(21)]
    assert days[-1] == DEFAULT_END == date(2022, 3, 12)


def test_replay_gives_the_same_rows_every_time():
    """Nothing in a replay depends on the clock or on chance (SPEC F-2)."""
    assert list(replay()) == list(replay())


def test_a_day_of_the_record_becomes_an_event_row():
    """The invasion is a row of events with its source address and its times in UTC (SPEC F-2)."""
    day = only(INVASION)
    assert (day.scored_at.hour, day.rescored_at) == (6, datetime(2022, 2, 24, 11, tzinfo=UTC))
    (event,) = day.events
    assert (event.title, event.region, event.category) == (
        "Russia invades Ukraine",
        "Black Sea",
        "geopolitical",
    )
    assert (event.severity_score, event.source_name, event.source_url) == (5, "Sample data", "sample:invasion")
    assert event.event_time == datetime(2022, 2, 24, 0, tzinfo=UTC)
    assert event.inserted_at == datetime(2022, 2, 24, 10, 30, tzinfo=UTC)


def test_a_summary_tells_the_week_before_in_one_line():
    """The summary of an event quotes the prices that were known when it was written (SPEC F-2)."""
    (event,) = only(INVASION).events
    assert event.ai_summary == (
        "Brent 99.29 USD a barrel, +1.9% in seven days; Henry Hub 4.59 USD per MMBtu, +4.6% in seven days."
    )


def test_an_event_of_a_region_without_a_market_has_no_summary():
    """Where no price belongs to the region there is nothing to quote (SPEC F-2)."""
    (event,) = only(date(2024, 8, 26)).events
    assert (event.region, event.ai_summary) == ("North Africa", None)


def test_risk_events_stand_in_the_order_of_their_events():
    """Each event of the window has its scored twin at the same place (SPEC F-2)."""
    pairs = [pair for day in replay() for pair in zip(day.events, day.risk_events, strict=True)]
    assert len(pairs) == 5
    for event, risk in pairs:
        assert (risk.region, risk.category) == (event.region, event.category)
        assert risk.base_severity == event.severity_score
        assert risk.weighted_score == pytest.approx(event.severity_score * risk.ai_confidence)


def test_every_day_has_one_row_per_region_and_window_and_per_region_and_asset():
    """Quiet days and weekends are scored like any other (SPEC F-2)."""
    for day in replay():
        for indices in (day.morning, day.indices):
            assert [(row.region, row.window_days) for row in indices] == [
                (region, window) for region in MARKETS for window in (7, 30)
            ]
        assets = [(row.region, row.asset) for row in day.asset_risks]
        assert len(assets) == len(set(assets)) == sum(map(len, MARKETS.values()))
        assert {row.window_days for row in day.asset_risks} == {7}


def test_the_news_of_a_day_moves_its_region_after_the_morning():
    """So that the demo shows a rise within a day (SPEC F-2, A-3a)."""
    for day in replay():
        moved = {row.region for early, row in zip(day.morning, day.indices, strict=True) if row != early}
        assert moved == {event.region for event in day.events}
    ban = only(date(2022, 3, 8))
    scores = [
        row.risk_score for row in (*ban.morning, *ban.indices) if (row.region, row.window_days) == ("North America", 7)
    ]
    assert scores[0] < 90 <= scores[1]


def test_scores_stay_within_bounds_over_all_of_history():
    """Every score of a year full of extremes is between 0 and 100 (SPEC F-2)."""
    for day in replay(date(2020, 2, 1), date(2020, 6, 30)):
        assert all(0 <= row.risk_score <= 100 for row in (*day.indices, *day.asset_risks))


def test_the_default_window_has_calm_and_alarm():
    """The demo shows spikes against quiet, not one alarm without end (SPEC F-2)."""
    weekly = [row.risk_score for day in replay() for row in day.indices if row.window_days == 7]
    alarms = sum(score >= 70 for score in weekly)
    assert 0.2 < alarms / len(weekly) < 0.6
    assert sum(score == 100 for score in weekly) / len(weekly) < 0.05
    assert min(weekly) < 20


@pytest.mark.parametrize(
    ("day", "direction"),
    [
        (date(2022, 3, 5), Direction.UP),
        (date(2022, 3, 10), Direction.DOWN),
        (date(2022, 3, 4), Direction.MIXED),
        (date(2022, 2, 26), Direction.UNCLEAR),
    ],
)
def test_direction_follows_the_week_unless_the_newest_day_contradicts_it(day, direction):
    """WTI's direction is up, down, mixed or unclear as its prices say (SPEC F-2)."""
    assert asset_row(day, "North America", "oil").direction is direction


@pytest.mark.parametrize(
    ("day", "trend"),
    [
        (date(2022, 3, 4), Trend.RISING),
        (date(2022, 3, 10), Trend.FALLING),
        (date(2022, 3, 6), Trend.STABLE),
    ],
)
def test_trend_compares_with_the_day_before(day, trend):
    """An index rises or falls when it moved clearly since the day before (SPEC F-2)."""
    assert index_row(day, "Europe", 7).trend is trend


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (date(2022, 3, 2), date(2022, 3, 1)),
        (covered()[0] - timedelta(days=1), date(2020, 3, 1)),
        (date(2026, 8, 1), covered()[1] + timedelta(days=1)),
    ],
    ids=["empty", "too early", "too late"],
)
def test_a_window_without_prices_is_refused_at_once(start, end):
    """Replay refuses days that it could only invent, before the first row is read (SPEC F-2)."""
    with pytest.raises(ValueError, match=r"choose a window within 2020-01-02 … 2026-08-19"):
        replay(start, end)


def test_the_first_and_the_last_covered_day_can_be_replayed():
    """The limits that replay names are inside them (SPEC F-2)."""
    for day in covered():
        assert only(day).date == day


# --- the audience ---------------------------------------------------------------------------------


def test_the_audience_has_every_plan_and_one_user_without():
    """The demo shows all five plans and what happens without one (SPEC B-5)."""
    plans = {user.plan for user in AUDIENCE}
    assert plans == {"free", "personal", "trader", "pro", "enterprise", None}


def test_the_audience_can_be_stored():
    """Addresses are unique, as the users table demands, and no two descriptions are alike (SPEC F-2)."""
    assert len({user.email for user in AUDIENCE}) == len({user.who for user in AUDIENCE}) == len(AUDIENCE)


def test_the_audience_is_nobody_real():
    """No message could reach a person: reserved domains, test numbers, tiny chat ids (SPEC F-2)."""
    for user in AUDIENCE:
        assert user.email.endswith(("@example.com", "@example.org"))
        assert (user.phone_number or " ").strip() == "" or user.phone_number.startswith("+15005550")
        assert user.telegram_chat_id is None or int(user.telegram_chat_id) < 10_000


def test_the_audience_shows_each_reason_for_silence():
    """One is unverified, disabled all, left a destination blank, or switched a channel off (SPEC B-4)."""
    assert [user.email_verified for user in AUDIENCE].count(False) == 1
    assert [user.channels_off for user in AUDIENCE if user.channels_off] == [(Channel.TELEGRAM,)]
    assert sum(bool(user.prefs) and not any(pref.enabled for pref in user.prefs) for user in AUDIENCE) == 1
    assert sum(user.phone_number is not None and not user.phone_number.strip() for user in AUDIENCE) == 1


def test_the_audience_has_digests_by_the_hour_and_by_the_day():
    """Hourly digests belong to a plan that has 24 a day; daily ones are there too (SPEC B-6, D-2)."""
    chosen = {(user.plan, user.digest_period) for user in AUDIENCE if user.digest_only}
    assert chosen == {("pro", Period.HOURLY), ("enterprise", Period.DAILY)}


def test_every_preference_can_match_something_of_the_demo():
    """A preference names a region that is scored, and an asset that the region trades (SPEC B-4)."""
    traded = {
        region.casefold(): {benchmark.asset for benchmark in benchmarks} for region, benchmarks in MARKETS.items()
    }
    for pref in (pref for user in AUDIENCE for pref in user.prefs):
        assert pref.region.casefold() in traded
        assert pref.asset is None or pref.asset in traded[pref.region.casefold()]
