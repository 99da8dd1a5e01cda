"""Messages that are read in five seconds: nothing twice, what belongs together side by side (SPEC M-3, M-3a)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts_engine.rendering import Renderer
from alerts_engine.rendering.moves import Direction, biggest_move, direction
from alerts_engine.rendering.unsaid import says, says_score
from alerts_engine.types import (
    Alert,
    Channel,
    DigestContent,
    EmailMessage,
    Message,
    Period,
    SmsMessage,
    TelegramMessage,
)

BASE = "https://app.example"
NOON = datetime(2022, 3, 8, 11, tzinfo=UTC)
OIL = Alert(
    event_id=7,
    alert_type="ASSET_RISK_SPIKE",
    scope_region="Black Sea",
    scope_assets=("oil",),
    severity=5,
    headline="Black Sea oil risk 93, up from 74 yesterday",
    body="Drivers: Shelling at a port.\nThe highest level on a scale of 0 to 100.\nPrices point up.",
    created_at=NOON,
    value=93.1,
    previous=74.2,
    what="Black Sea oil risk",
    digest_headline="Black Sea oil risk 93, up from 74 the day before",
)
INDEX = replace(
    OIL,
    event_id=8,
    alert_type="REGIONAL_RISK_SPIKE",
    scope_assets=(),
    severity=3,
    headline="Black Sea risk index 79, up from 63 yesterday",
    value=79.9,
    previous=63.0,
    what="Black Sea risk index",
    digest_headline="Black Sea risk index 79, up from 63 the day before",
    body="Drivers: Other words.",
)
GAS = replace(
    INDEX, event_id=9, headline="Black Sea gas risk 71, still high, down from 80 yesterday", value=71, previous=80,
    what="Black Sea gas risk", digest_headline=None, severity=4,
)  # fmt: skip
NEWS = replace(
    OIL, event_id=10, alert_type="HIGH_IMPACT_EVENT", scope_region="Europe", scope_assets=(), severity=4,
    headline="Gazprom stops a pipeline", body="Flows are at zero.", value=None, previous=None, what=None,
    digest_headline=None, source="Reuters",
)  # fmt: skip


def message(content: Alert | DigestContent, channel: Channel, base: str | None = BASE) -> Message:
    renderer = Renderer(time_zone="Europe/Amsterdam", app_base_url=base)
    return renderer.instant(content, channel) if isinstance(content, Alert) else renderer.digest(content, channel)


def email(content: Alert | DigestContent, base: str | None = BASE) -> EmailMessage:
    made = message(content, Channel.EMAIL, base)
    assert isinstance(made, EmailMessage)
    return made


def telegram(content: Alert | DigestContent) -> str:
    made = message(content, Channel.TELEGRAM)
    assert isinstance(made, TelegramMessage)
    return made.text


def digest(*items: Alert, period: Period = Period.DAILY, over_quota: frozenset[int] = frozenset()) -> DigestContent:
    start, length = (NOON - timedelta(hours=12), 24) if period is Period.DAILY else (NOON, 1)
    return DigestContent(period, start, start + timedelta(hours=length), items, over_quota)


def test_facts_are_those_that_the_text_does_not_say() -> None:
    """An index is named, placed and counted by its headline: its time is left (SPEC M-3a)."""
    assert email(OIL).text == (
        "Black Sea oil risk 93, up from 74 yesterday\n"
        "Severity 5 · Critical  ●●●●●\n\n"
        "Drivers: Shelling at a port.\n\n"
        "The highest level on a scale of 0 to 100.\n\n"
        "Prices point up.\n\n"
        "Time: 8 Mar 2022, 12:00 CET (UTC+1)\n\n"
        "View in app: https://app.example/alerts/7\n\n"
        "--\nYou get this email because the alert matches your notification preferences.\n"
        "Manage preferences: https://app.example/settings/notifications\n"
    )


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"headline": "Oil risk 93"}, ["Region: Black Sea"]),
        ({"headline": "Black Sea risk 93"}, ["Assets: Oil"]),
        ({"headline": "Black Sea oil risk is high"}, ["Score: 93.1"]),
        ({"headline": "Black Sea oil at 93.1"}, ["Type: Asset risk"]),
        ({"headline": "Black Sea oil risk 930"}, ["Score: 93.1"]),
        ({"headline": "Black Sea oil risk 5.93"}, ["Score: 93.1"]),
        ({"scope_assets": ("oil", "gas")}, ["Assets: Oil, Gas"]),
        ({"source": "Reuters"}, ["Source: Reuters"]),
        ({"alert_type": "WIND_FARM_OUTAGE"}, ["Type: Wind Farm Outage"]),
    ],
)
def test_a_fact_that_the_text_lacks_is_in_the_table(changes: dict, facts: list[str]) -> None:
    """Nothing that is known is lost (SPEC M-3a)."""
    text = email(replace(OIL, **changes)).text
    table = text[text.index("Prices point up.\n\n") + 18 : text.index("Time: ")]
    assert table.splitlines() == facts
    for fact in facts:
        assert fact.startswith("Region: ") or f"<i>{fact}</i>" in telegram(replace(OIL, **changes))


@pytest.mark.parametrize(("text", "said"), [("at 89", True), ("at 89.9", True), ("at 90", True), ("at 8.9", False)])
def test_a_number_is_said_exactly_rounded_or_cut(text: str, said: bool) -> None:
    """Whatever a rule's author prefers (SPEC M-3a)."""
    assert says_score(text, 89.94) is said


def test_a_word_is_said_as_a_word() -> None:
    """Oil is not said by turmoil (SPEC M-3a)."""
    assert says("Black sea: OIL, gas", "Black Sea", "oil")
    assert not says("Turmoil in the Black Seas", "oil")


@pytest.mark.parametrize("count", [1, 3])
def test_a_daily_digest_uses_the_headline_for_another_day(count: int) -> None:
    """It is read a day later, when "yesterday" is the digest's own day (SPEC M-3a)."""
    content = digest(*[replace(OIL, event_id=number) for number in range(count)])
    for text in (email(content).subject, email(content).html, email(content).text, telegram(content)):
        assert "up from 74 the day before" in text
        assert "yesterday" not in text
    hourly = digest(OIL, period=Period.HOURLY)
    assert email(hourly).subject == ("8 Mar 12:00–13:00, 1 critical alert: Black Sea oil risk 93, up from 74 yesterday")


def test_a_daily_digest_has_its_date_in_the_subject_and_opens_with_the_biggest_move() -> None:
    """What changed most, by points, up or down (SPEC M-3)."""
    content = digest(INDEX, OIL, GAS, NEWS)
    assert email(content).subject == "8 Mar, 4 alerts, 1 critical: Black Sea oil risk 93, up from 74 the day before"
    for text in (email(content).text, email(content).html, telegram(content)):
        assert "Biggest move: Black Sea oil risk, up 19 points." in text
        assert text.index("Biggest move") < text.index("The highest level")
    for alone in (digest(NEWS, NEWS), digest(OIL)):
        assert "Biggest move" not in email(alone).text + telegram(alone)


@pytest.mark.parametrize(
    ("value", "previous", "way", "said"),
    [
        (93.1, 74.2, Direction.UP, "Black Sea oil risk, up 19 points"),
        (60.0, 61.0, Direction.DOWN, "Black Sea oil risk, down 1 point"),
        (60.0, 60.9, Direction.LEVEL, None),
        (60.0, None, None, None),
        (None, 60.0, None, None),
        (float("nan"), 60.0, None, None),
        (1e308, -1e308, None, None),
    ],
)
def test_a_move_has_a_direction_and_points(value: float, previous: float, way: Direction, said: str) -> None:
    """As the headline's own numbers differ (SPEC M-3a)."""
    alert = replace(OIL, value=value, previous=previous)
    assert direction(alert) is way
    assert biggest_move([alert]) == said


def test_values_of_one_region_that_went_the_same_way_stand_together() -> None:
    """The first says why, the others only what; one that fell stands apart (SPEC M-3)."""
    content = digest(INDEX, OIL, GAS, NEWS, replace(INDEX, event_id=11, scope_region="Asia", headline="Asia up"))
    for text in (email(content).text, email(content).html, telegram(content)):
        body = text[text.index("Biggest move") :]
        order = [OIL.digest_headline, INDEX.digest_headline, GAS.headline, NEWS.headline]
        places = [body.index(str(said)) for said in order]
        assert places == sorted(places)
        assert body.count("Drivers: Other words.") == 1, "those of the gas; what follows says only what moved"
    for text in (email(content).html, telegram(content)):
        assert text.count(">View in app</a>") == 4, "the headline of what follows is its link"
        assert text.count(f'href="{BASE}/alerts/{INDEX.event_id}"') == 1


def test_a_digest_says_a_sentence_once() -> None:
    """The same scale ten times over hides what differs (SPEC M-3a)."""
    asia = replace(OIL, event_id=20, scope_region="Asia", headline="Asia oil risk 91", digest_headline=None,
                   body="Drivers: A strike.\nThe highest level on a scale of 0 to 100.")  # fmt: skip
    for text in (email(digest(OIL, asia)).text, email(digest(OIL, asia)).html, telegram(digest(OIL, asia))):
        assert text.count("The highest level") == 1
        assert "Drivers: A strike." in text


def test_the_most_important_alerts_are_told_whatever_stands_together() -> None:
    """A companion takes no place of a more severe alert (SPEC M-3)."""
    severe = [replace(NEWS, event_id=100 + number, severity=5, headline=f"Severe {number}") for number in range(24)]
    text = email(digest(INDEX, replace(INDEX, event_id=12), OIL, *severe)).text
    assert text.count("Severe ") == 24
    assert "Black Sea oil risk 93" in text
    assert "Black Sea risk index" not in text
    assert "…and 2 more" in text


def test_the_rest_of_a_digest_is_a_link_away() -> None:
    """Where there is an application to look at (SPEC M-3a)."""
    content = digest(*[replace(NEWS, event_id=number) for number in range(60)])
    assert f'href="{BASE}/alerts"' in email(content).html
    assert f"…and 35 more: {BASE}/alerts\n" in email(content).text
    assert f'<a href="{BASE}/alerts">…and 35 more</a>' in telegram(content) or "more</a> (" in telegram(content)
    without = email(content, None)
    assert "…and 35 more\n" in without.text
    assert "href" not in without.html


@pytest.mark.parametrize(
    ("alerts", "first"),
    [
        ((OIL, replace(INDEX, severity=5, previous=10.0)), "Black Sea risk index 79"),
        ((replace(OIL, previous=93.0), NEWS, replace(NEWS, severity=5, headline="A port burns")), "A port burns"),
        ((replace(OIL, previous=93.0), NEWS), "Black Sea oil risk 93"),
        ((OIL, replace(NEWS, severity=5)), "Gazprom stops a pipeline"),
        ((INDEX, NEWS), "Gazprom stops a pipeline"),
    ],
)
def test_the_subject_of_a_digest_is_the_most_severe_news_or_else_the_farthest_move(
    alerts: tuple[Alert, ...], first: str
) -> None:
    """What hardly changed is no news while there is some; the list keeps its order (SPEC M-3)."""
    made = email(digest(*alerts))
    assert f": {first}" in made.subject
    preview = made.html[made.html.index("mso-hide:all") : made.html.index("&#8199;")]
    assert first not in preview, "the list shows it already"


def test_an_alert_over_the_quota_is_marked_in_the_digest() -> None:
    """Its reader learns why it did not come at once (SPEC B-7)."""
    content = digest(OIL, NEWS, over_quota=frozenset({NEWS.event_id}))
    for text in (email(content).text, email(content).html, telegram(content)):
        assert text.count("over your day's limit") == 1
        assert text.index(NEWS.headline) < text.index("over your day's limit")


def test_an_sms_gives_up_its_time_before_its_link() -> None:
    """And the link before the news (SPEC M-2)."""
    long = "https://a-long-host-name-of-an-application.example/with/a/path/that/is/long"
    made = message(OIL, Channel.SMS, long)
    assert isinstance(made, SmsMessage)
    assert (made.segments, "CET" in made.body, made.body.endswith(f"{long}/alerts/7")) == (1, False, True)
    assert made.body.startswith("EnergyRiskIQ CRITICAL - Black Sea oil risk")
