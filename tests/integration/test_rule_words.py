"""What the built-in rules say: what moved, from where, since when, why, and how bad that is (SPEC A-2, M-3a)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import Phase
from tests.support.world import (
    DAY,
    HOUR,
    NOW,
    add_asset_risk,
    add_event,
    add_index,
    add_news,
    add_risk_event,
    prepared,
    run_phase,
)

if TYPE_CHECKING:
    import psycopg

MINUTE = timedelta(minutes=1)
BOTH = pytest.mark.parametrize(("add", "what"), [(add_index, "Europe risk index"), (add_asset_risk, "Europe gas risk")])


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


async def told(db: psycopg.Connection, url: str, **order) -> list:
    await run_phase(url, Phase.A, **order)
    return db.execute("SELECT * FROM alert_events ORDER BY severity, event_fingerprint").fetchall()


@BOTH
@pytest.mark.parametrize(
    ("before", "age", "now", "headline", "in_a_digest"),
    [
        (60, DAY, 84.26, "84, up from 60 yesterday", "84, up from 60 the day before"),
        (60, 2 * DAY, 84.26, "84, up from 60 on Saturday", "84, up from 60 on Saturday"),
        (60, 20 * DAY, 84.26, "84, up from 60 on 21 October", "84, up from 60 on 21 October"),
        (95, DAY, 92, "92, still high, down from 95 yesterday", "92, still high, down from 95 the day before"),
        (90, DAY, 76, "76, still elevated, down from 90 yesterday", "76, still elevated, down from 90 the day before"),
        (95, 3 * DAY, 92, "92, still high, down from 95 on Friday", "92, still high, down from 95 on Friday"),
        (92.2, DAY, 92.9, "92, little changed since yesterday", "92, little changed since the day before"),
        (93.1, DAY, 92.9, "92, little changed since yesterday", "92, little changed since the day before"),
        (92.2, 2 * DAY, 92.2, "92, little changed since Saturday", "92, little changed since Saturday"),
        (79.9, DAY, 89.99, "89, up from 79 yesterday", "89, up from 79 the day before"),
    ],
)
async def test_the_headline_says_what_moved_from_where_and_since_when(  # noqa: PLR0917 - pytest gives them by name
    db, database_url, add, what, before, age, now, headline, in_a_digest
):
    """A fall is never called a rise or a spike, no number reaches a tier that the value did not (SPEC A-2, M-3a)."""
    add(db, before, NOW - HOUR - age)
    add(db, now, NOW - HOUR)
    (event,) = await told(db, database_url)
    assert event.headline == f"{what} {headline}"
    assert event.payload["digest_headline"] == f"{what} {in_a_digest}"
    assert (event.payload["what"], event.payload["previous"]) == (what, before)
    assert "spike" not in (event.headline + event.body).casefold()


@pytest.mark.parametrize(
    ("before", "now", "headline"),
    [
        (11.2, 38.4, "Europe risk index 38, up from 11 yesterday"),
        (0, 1, "Europe risk index 1, up from 0 yesterday"),
        (1.1, 1.4, "Europe risk index 1, up by a fifth or more since yesterday"),
    ],
)
async def test_a_rise_at_a_low_level_says_that_its_pace_is_the_news(db, database_url, before, now, headline):
    """Nobody reads 38 as high (SPEC M-3a)."""
    add_index(db, before, NOW - HOUR - DAY)
    add_index(db, now)
    (event,) = await told(db, database_url)
    assert event.headline == headline
    assert event.body.startswith("Still below 70 on a scale of 0 to 100: the news is how fast it rose.")


@pytest.mark.parametrize(
    ("trend", "headline"),
    [
        ("rising", "Europe risk index at 84, rising"),
        ("falling", "Europe risk index at 84, still high, falling"),
        ("stable", "Europe risk index at 84"),
        (None, "Europe risk index at 84"),
    ],
)
async def test_without_an_older_index_its_trend_is_said(db, database_url, trend, headline):
    """Whole sentences also where little is known (SPEC A-2)."""
    add_index(db, 84, trend=trend)
    (event,) = await told(db, database_url)
    assert event.headline == headline
    assert event.body == (
        "On a scale of 0 to 100, critical begins at 90.\nNo single news event of the past week stands behind it."
    )


@BOTH
async def test_an_escalation_says_from_what_and_from_when(db, database_url, add, what):
    """The hour is right whenever it is read (SPEC A-3a, M-3a)."""
    add(db, 98, NOW - DAY)
    add(db, 71, NOW)
    await told(db, database_url)
    add(db, 97, NOW + 3 * HOUR)
    _, second = await told(db, database_url, now=NOW + 3 * HOUR)
    assert second.headline == second.payload["digest_headline"] == f"{what} rises to 97, from 71 at 13:00"


@pytest.mark.parametrize(
    ("before", "headline"),
    [(None, "rises to 97"), (60, "rises to 97, up from 60 yesterday"), (98, "rises to 97"), (97, "rises to 97")],
)
async def test_an_escalation_of_an_event_without_a_number_is_a_rise_all_the_same(db, database_url, before, headline):
    """One that the application wrote may have none; what fell since yesterday is not said to be up (SPEC A-3a)."""
    add_event(db, fingerprint="its own", cooldown_key="REGIONAL_RISK_SPIKE:Europe:2025-11-10", severity=4)
    if before is not None:
        add_index(db, before, NOW - HOUR - DAY)
    add_index(db, 97)
    _, event = await told(db, database_url)
    assert event.headline == f"Europe risk index {headline}"


@pytest.mark.parametrize(
    ("score", "level"),
    [
        (70, "On a scale of 0 to 100, high begins at 80."),
        (80, "On a scale of 0 to 100, critical begins at 90."),
        (90, "The highest level on a scale of 0 to 100."),
        (100, "The top of its scale."),
    ],
)
@BOTH
async def test_the_text_says_why_and_how_bad_it_is(db, database_url, add, what, score, level):  # noqa: PLR0917
    """The drivers first, tidied; then the scale (SPEC A-2, M-3a)."""
    for points, title in enumerate(("Third;", "Second\n one. ", "First", " \n")):
        add_risk_event(db, add_news(db, NOW - 2 * DAY, title=title), float(points) if title.strip() else None)
    add(db, score)
    (event,) = await told(db, database_url)
    drivers, scale = event.body.split("\n")[:2]
    assert drivers == "Drivers: First; Second one; Third."
    assert scale.startswith(level)
    assert str(score) not in event.body or score == 100, "the number stands in the headline"


async def test_a_value_of_another_day_says_so(db, database_url):
    """Nobody takes it for today's (SPEC A-2)."""
    add_index(db, 84, NOW - 2 * DAY)
    (event,) = await told(db, database_url)
    assert event.body.endswith("As of 8 November, 13:00.")


@pytest.mark.parametrize(
    ("asset", "direction", "what", "said"),
    [
        ("fx", "up", "Europe FX risk", "Prices point up."),
        ("Oil", "down", "Europe oil risk", "Prices point down."),
        ("freight", "mixed", "Europe freight risk", "Price signals are mixed."),
        ("gas", "unclear", "Europe gas risk", None),
        ("gas", None, "Europe gas risk", None),
    ],
)
async def test_an_asset_says_where_its_price_points(db, database_url, asset, direction, what, said):  # noqa: PLR0917
    """As far as that is known (SPEC A-2)."""
    add_asset_risk(db, 75, asset=asset, direction=direction)
    (event,) = await told(db, database_url)
    assert event.headline == f"{what} at 75"
    assert [line for line in ("up.", "down.", "mixed.") if line in event.body] == ([said.split()[-1]] if said else [])


async def test_a_region_in_small_letters_begins_the_headline_in_a_capital_one(db, database_url):
    """And keeps its name otherwise (SPEC M-3a)."""
    add_index(db, 84, region="global", trend=None)
    add_asset_risk(db, 75, region="black Sea")
    found = await told(db, database_url)
    assert [(event.scope_region, event.headline) for event in found] == [
        ("black Sea", "Black Sea gas risk at 75"),
        ("global", "Global risk index at 84"),
    ]


@BOTH
@pytest.mark.parametrize(
    ("between", "now", "headline", "in_a_digest", "peak"),
    [
        (100, 85, "85, up from 81 a day ago", "85, up from 81 a day before", "100"),
        (81.9, 85, "85, up from 81 yesterday", "85, up from 81 the day before", None),
        (60, 85, "85, up from 81 a day ago", "85, up from 81 a day before", None),
        (96.9, 76, "76, still elevated, down from 81 a day ago", "76, still elevated, down from 81 a day before", "96"),
        (85, 81.5, "81, little changed since yesterday", "81, little changed since the day before", "85"),
    ],
)
async def test_a_peak_in_between_is_not_hidden(db, database_url, add, what, between, now, headline, in_a_digest, peak):  # noqa: PLR0917
    """Who read of 100 at noon is not told of 81 as if nothing had been (SPEC A-2)."""
    add(db, 81, NOW - HOUR - DAY)
    add(db, between, NOW - 20 * HOUR)
    add(db, now, NOW - HOUR)
    (event,) = await told(db, database_url)
    assert event.headline == f"{what} {headline}"
    assert event.payload["digest_headline"] == f"{what} {in_a_digest}"
    said = [line for line in event.body.split("\n") if line.startswith("In between")]
    assert said == ([f"In between it stood at {peak}."] if peak else [])
