"""Phase A in a real database: the built-in rules at their thresholds, own rules good and bad, and publish."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import AlertsEngine, NewEvent, Phase
from alerts_engine.errors import EventError
from alerts_engine.statements import rule_files
from tests.support.memory import measured_memory
from tests.support.world import (
    DAY,
    HOUR,
    NOT_STOPPED,
    NOW,
    add_asset_risk,
    add_event,
    add_index,
    add_news,
    add_risk_event,
    prepared,
    run_phase,
    settings,
)

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine import PhaseReport

MINUTE = timedelta(minutes=1)
GOOD_RULE = """
SELECT 'OUTAGE' AS alert_type, 'Europe' AS scope_region, '{gas}'::text[] AS scope_assets, 4 AS severity,
       'Outage' AS headline, NULL AS body, '{}'::int[] AS driver_event_ids, NULL AS cooldown_key,
       'OUTAGE:' || to_char($1::timestamptz AT TIME ZONE $2, 'YYYY-MM-DD') AS event_fingerprint,
       '{"value": 1.5}'::jsonb AS payload"""


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def events(db: psycopg.Connection) -> list:
    return db.execute("SELECT * FROM alert_events ORDER BY event_fingerprint").fetchall()


def fingerprints(db: psycopg.Connection) -> list[str]:
    return [event.event_fingerprint for event in events(db)]


# --- regional_risk_spike --------------------------------------------------------------------------------------------


async def test_a_regional_index_alerts_from_70_on(db, database_url):
    """Severity 4 from 80, 5 from 90 (SPEC A-2)."""
    for score in (0, 69.99, 70, 79.99, 80, 89.99, 90, 100):
        add_index(db, score, region=f"at {score}")
    await run_phase(database_url, Phase.A)
    assert {event.scope_region: event.severity for event in events(db)} == {
        "at 70": 3, "at 79.99": 3, "at 80": 4, "at 89.99": 4, "at 90": 5, "at 100": 5,
    }  # fmt: skip


async def test_a_regional_rise_of_exactly_a_fifth_alerts(db, database_url):
    """Whatever floating point makes of it; no rise is none, also from zero (SPEC A-2)."""
    rises = {(50, 60): True, (50, 59.999): False, (18.1, 21.72): True, (55, 66): True, (0, 1): True}
    falls = {(60, 60): False, (0, 0): False, (60, 40): False}
    for before, after in rises | falls:
        add_index(db, before, NOW - DAY - HOUR, region=f"{before} to {after}")
        add_index(db, after, NOW - HOUR, region=f"{before} to {after}")
    await run_phase(database_url, Phase.A)
    assert {event.scope_region for event in events(db)} == {f"{a} to {b}" for (a, b), alerts in rises.items() if alerts}
    assert {event.severity for event in events(db)} == {3}


async def test_the_older_index_is_at_least_24_hours_older(db, database_url):
    """Counted from the newest index, not from now (SPEC A-2)."""
    for region, age in {"exactly": DAY, "almost": DAY - timedelta(microseconds=1), "long ago": 40 * DAY}.items():
        add_index(db, 30, NOW - HOUR - age, region=region)
        add_index(db, 60, NOW - HOUR, region=region)
    await run_phase(database_url, Phase.A)
    assert {event.scope_region for event in events(db)} == {"exactly", "long ago"}


async def test_the_rise_is_against_the_newest_of_the_older_indices(db, database_url):
    """One that was high yesterday has not risen since (SPEC A-2)."""
    add_index(db, 20, NOW - 3 * DAY)
    add_index(db, 60, NOW - DAY - HOUR)
    add_index(db, 62, NOW - HOUR)
    await run_phase(database_url, Phase.A)
    assert events(db) == []


async def test_only_the_newest_7_day_index_of_each_region_counts(db, database_url):
    """Not an older one, not one of 30 days, not one of the future, not one without a score (SPEC A-2)."""
    add_index(db, 95, NOW - 2 * HOUR)
    add_index(db, 93, NOW - HOUR)
    add_index(db, 95, NOW - HOUR, region="Asia", window_days=30)
    add_index(db, 95, NOW + MINUTE, region="Asia")
    add_index(db, 72, NOW - 2 * HOUR, region="Black Sea")
    add_index(db, None, NOW - HOUR, region="Black Sea")
    add_index(db, 69, NOW, region="Global")
    add_index(db, 99, NOW - HOUR, region="Global")
    await run_phase(database_url, Phase.A)
    assert {event.scope_region: event.payload["value"] for event in events(db)} == {"Europe": 93, "Black Sea": 72}


async def test_a_regional_spike_is_told_as_an_event(db, database_url):
    """With fingerprint, region, payload and a text that says the numbers (SPEC A-2, A-3, B-4)."""
    add_index(db, 60, NOW - 2 * DAY)
    add_index(db, 84.26, NOW - HOUR)
    await run_phase(database_url, Phase.A)
    (event,) = events(db)
    assert (event.alert_type, event.scope_region, event.scope_assets, event.severity) == (
        "REGIONAL_RISK_SPIKE", "Europe", [], 4,
    )  # fmt: skip
    assert event.event_fingerprint == event.cooldown_key == "REGIONAL_RISK_SPIKE:Europe:2025-11-10"
    assert event.payload == {
        "value": 84.26, "previous": 60, "trend": "rising", "window_days": 7,
        "what": "Europe risk index", "digest_headline": "Europe risk index 84, up from 60 on Saturday",
    }  # fmt: skip
    assert event.headline == "Europe risk index 84, up from 60 on Saturday"
    assert event.created_at == NOW.replace(tzinfo=None)
    assert event.fanout_completed_at is None


# --- drivers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("add_spike", [add_index, add_asset_risk])
async def test_drivers_are_the_regions_three_top_scored_events_of_7_days(db, database_url, add_spike):
    """The highest weighted_score first; older ones, other regions and later ones are not among them (SPEC A-2)."""
    add_spike(db, 75)
    titles = ("low", "top", "old", "far", "mid", "third", "later", "edge", "unscored")
    news = {title: add_news(db, NOW - 8 * DAY, title=title) for title in titles}
    add_risk_event(db, news["low"], 1.0)
    add_risk_event(db, news["top"], 9.0, NOW - 7 * DAY + MINUTE)
    add_risk_event(db, news["old"], 9.9, NOW - 7 * DAY - MINUTE)
    add_risk_event(db, news["far"], 9.9, region="Asia")
    add_risk_event(db, news["mid"], 8.0)
    add_risk_event(db, news["third"], 7.0)
    add_risk_event(db, news["later"], 9.9, NOW + MINUTE)
    add_risk_event(db, news["edge"], 9.9, NOW - 7 * DAY)
    add_risk_event(db, news["unscored"], None)
    await run_phase(database_url, Phase.A)
    (event,) = events(db)
    assert event.driver_event_ids == [news["top"], news["mid"], news["third"]]
    assert event.body.startswith("Drivers: top; mid; third.\n")


async def test_scored_drivers_come_before_unscored_ones(db, database_url):
    """And a score without a source event drives nothing; the rule lives on (SPEC A-2)."""
    add_index(db, 75)
    unscored, scored = add_news(db, NOW - 3 * DAY), add_news(db, NOW - 3 * DAY)
    add_risk_event(db, unscored, None)
    add_risk_event(db, scored, 0.1)
    add_risk_event(db, None, 5.0)
    report = await run_phase(database_url, Phase.A)
    assert report.error is None
    (event,) = events(db)
    assert event.driver_event_ids == [scored, unscored]


# --- asset_risk_spike -----------------------------------------------------------------------------------------------


async def test_an_assets_risk_alerts_from_70_on(db, database_url):
    """The same tiers as for regions; a rise alone is no spike (SPEC A-2)."""
    for score in (69.99, 70, 80, 90):
        add_asset_risk(db, 10, NOW - 2 * DAY, region=f"at {score}")
        add_asset_risk(db, score, region=f"at {score}")
    await run_phase(database_url, Phase.A)
    assert {event.scope_region: event.severity for event in events(db)} == {"at 70": 3, "at 80": 4, "at 90": 5}


async def test_assets_alert_one_by_one_in_each_region(db, database_url):
    """One event per region, asset and day, from the newest 7-day risk (SPEC A-2, A-3)."""
    add_asset_risk(db, 99, NOW - 3 * HOUR)
    add_asset_risk(db, 75, NOW - HOUR)
    add_asset_risk(db, 71, asset="oil")
    add_asset_risk(db, 72, region="Asia")
    add_asset_risk(db, 99, asset="fx", window_days=30)
    await run_phase(database_url, Phase.A)
    found = {event.event_fingerprint: (event.scope_assets, event.payload["value"]) for event in events(db)}
    assert found == {
        "ASSET_RISK_SPIKE:Asia:gas:2025-11-10": (["gas"], 72),
        "ASSET_RISK_SPIKE:Europe:gas:2025-11-10": (["gas"], 75),
        "ASSET_RISK_SPIKE:Europe:oil:2025-11-10": (["oil"], 71),
    }


# --- high_impact_event ----------------------------------------------------------------------------------------------


async def test_severe_news_of_24_hours_alerts_once_per_source_event(db, database_url):
    """Severity 4 and 5, by inserted_at (SPEC A-2, A-3)."""
    four, five = add_news(db, severity=4), add_news(db, NOW - DAY + MINUTE, severity=5, region=None)
    add_news(db, severity=3)
    add_news(db, NOW - DAY, severity=5)
    add_news(db, NOW + MINUTE, severity=5)
    await run_phase(database_url, Phase.A)
    found = {event.event_fingerprint: (event.severity, event.scope_region) for event in events(db)}
    assert found == {f"HIGH_IMPACT_EVENT:{four}": (4, "Europe"), f"HIGH_IMPACT_EVENT:{five}": (5, None)}


async def test_a_news_event_carries_its_source(db, database_url):
    """The summary as body, no value in the payload, itself as driver (SPEC A-2, B-4)."""
    news = add_news(db)
    await run_phase(database_url, Phase.A)
    (event,) = events(db)
    assert (event.headline, event.body, event.driver_event_ids) == ("Pipeline outage", "A summary.", [news])
    assert event.payload.keys() == {"category", "source", "source_url"}


async def test_a_poor_source_event_does_not_break_the_rule(db, database_url):
    """One row without title or text takes nothing from the others (SPEC A-2, A-5)."""
    add_news(db, summary=" ")
    add_news(db, summary=None, text=None)
    add_news(db, summary=None, text="x" * 2000)
    add_news(db, title=" \n")
    report = await run_phase(database_url, Phase.A)
    assert report.status == "success"
    assert {(event.headline, event.body) for event in events(db)} == {
        ("Pipeline outage", "The whole text."),
        ("Pipeline outage", ""),
        ("Pipeline outage", "x" * 1000),
        ("Untitled event", "A summary."),
    }


# --- days, repeats, counts ------------------------------------------------------------------------------------------


DAYS = [
    ("Europe/Amsterdam", datetime(2025, 11, 10, 22, 59, 59, tzinfo=UTC), "2025-11-10"),
    ("Europe/Amsterdam", datetime(2025, 11, 10, 23, 0, tzinfo=UTC), "2025-11-11"),
    ("Europe/Amsterdam", datetime(2025, 3, 29, 22, 59, 59, tzinfo=UTC), "2025-03-29"),
    ("Europe/Amsterdam", datetime(2025, 3, 29, 23, 0, tzinfo=UTC), "2025-03-30"),
    ("Europe/Amsterdam", datetime(2025, 3, 30, 21, 59, 59, tzinfo=UTC), "2025-03-30"),
    ("Europe/Amsterdam", datetime(2025, 3, 30, 22, 0, tzinfo=UTC), "2025-03-31"),
    ("UTC", datetime(2025, 1, 10, 23, 59, tzinfo=UTC), "2025-01-10"),
    ("Asia/Kathmandu", datetime(2025, 2, 10, 18, 15, tzinfo=UTC), "2025-02-11"),
]


async def test_the_day_of_a_spike_ends_at_local_midnight(db, database_url):
    """Also where that day has 23 hours (SPEC A-2, A-3)."""
    for zone, now, day in DAYS:
        db.execute("TRUNCATE alert_events, risk_indices, asset_risk CASCADE")
        add_index(db, 75, now - HOUR)
        add_asset_risk(db, 75, now - HOUR)
        await run_phase(database_url, Phase.A, now=now, fields={"time_zone": zone})
        assert fingerprints(db) == [f"ASSET_RISK_SPIKE:Europe:gas:{day}", f"REGIONAL_RISK_SPIKE:Europe:{day}"]


async def test_what_is_known_is_counted_and_not_touched(db, database_url):
    """A second run creates nothing, changes nothing and says so (SPEC A-4, A-6)."""
    add_index(db, 75)
    add_asset_risk(db, 75)
    add_news(db)
    first = await run_phase(database_url, Phase.A)
    db.execute("UPDATE alert_events SET headline = 'edited by hand', fanout_completed_at = %s", [NOW])
    before = events(db)
    add_index(db, 79, NOW)
    second = await run_phase(database_url, Phase.A, now=NOW + HOUR)
    assert events(db) == before
    created = {"created": 1, "skipped_duplicate": 0}
    known = {"created": 0, "skipped_duplicate": 1}
    rules = ("asset_risk_spike", "high_impact_event", "regional_risk_spike")
    assert first.counts == {
        "events_created": 3, "events_skipped_duplicate": 0, "rules_failed": 0, "by_rule": dict.fromkeys(rules, created),
    } | NOT_STOPPED  # fmt: skip
    assert second.counts == {
        "events_created": 0, "events_skipped_duplicate": 3, "rules_failed": 0, "by_rule": dict.fromkeys(rules, known),
    } | NOT_STOPPED  # fmt: skip


async def test_a_spike_alerts_again_on_the_next_day(db, database_url):
    """One event per region and day (SPEC A-2)."""
    add_index(db, 75)
    await run_phase(database_url, Phase.A)
    await run_phase(database_url, Phase.A, now=NOW + DAY)
    assert fingerprints(db) == ["REGIONAL_RISK_SPIKE:Europe:2025-11-10", "REGIONAL_RISK_SPIKE:Europe:2025-11-11"]


async def test_a_legacy_unique_cooldown_key_is_a_second_identity(db, database_url):
    """An event that the application wrote under another fingerprint is not doubled (SPEC A-1, DB-3)."""
    db.execute("CREATE UNIQUE INDEX legacy_cooldown ON alert_events (cooldown_key)")
    news = add_news(db)
    add_event(db, fingerprint="from the application", cooldown_key=f"HIGH_IMPACT_EVENT:{news}")
    report = await run_phase(database_url, Phase.A)
    assert fingerprints(db) == ["from the application"]
    assert report.counts["events_skipped_duplicate"] == 1


# --- escalation -----------------------------------------------------------------------------------------------------

SPIKES = pytest.mark.parametrize(
    ("add_spike", "key"),
    [
        (add_index, "REGIONAL_RISK_SPIKE:Europe:2025-11-10"),
        (add_asset_risk, "ASSET_RISK_SPIKE:Europe:gas:2025-11-10"),
    ],
)


@SPIKES
async def test_a_higher_severity_on_the_same_day_is_a_new_event(db, database_url, add_spike, key):
    """71 in the morning and 97 at noon are two events, and the second says that it rose (SPEC A-3a)."""
    for hours, score in enumerate((71, 97)):
        add_spike(db, score, NOW + hours * HOUR)
        await run_phase(database_url, Phase.A, now=NOW + hours * HOUR)
    first, second = events(db)
    assert (first.event_fingerprint, first.severity) == (key, 3)
    assert (second.event_fingerprint, second.cooldown_key, second.severity) == (f"{key}:S5", f"{key}:S5", 5)
    assert "rises to 97, from 71" in second.headline
    assert (second.payload["escalated"], second.payload["earlier_today"]) == (True, 71)
    assert "escalated" not in first.payload
    assert "rises" not in first.headline


@SPIKES
async def test_a_day_brings_at_most_one_event_a_tier(db, database_url, add_spike, key):
    """However often the value crosses a tier's border, and whichever tier comes first (SPEC A-3a)."""
    for minutes, score in enumerate((75, 72, 85, 79, 88, 95, 81, 91, 70, 99)):
        add_spike(db, score, NOW + minutes * MINUTE)
        for _ in range(2):
            await run_phase(database_url, Phase.A, now=NOW + minutes * MINUTE)
    assert [(event.event_fingerprint, event.severity, event.payload["value"]) for event in events(db)] == [
        (key, 3, 75), (f"{key}:S4", 4, 85), (f"{key}:S5", 5, 95),
    ]  # fmt: skip


async def test_escalation_is_told_by_place_and_day(db, database_url):
    """Another region, another asset and the next day begin afresh (SPEC A-3a)."""
    add_index(db, 95)
    add_index(db, 71, region="Asia")
    add_asset_risk(db, 95)
    add_asset_risk(db, 71, asset="oil")
    await run_phase(database_url, Phase.A)
    add_index(db, 85, NOW + MINUTE, region="Asia")
    await run_phase(database_url, Phase.A, now=NOW + MINUTE)
    await run_phase(database_url, Phase.A, now=NOW + DAY)
    assert [name for name in fingerprints(db) if name.endswith(("S3", "S4", "S5"))] == [
        "REGIONAL_RISK_SPIKE:Asia:2025-11-10:S4"
    ]
    assert len(fingerprints(db)) == 9


@pytest.mark.parametrize("unique", [False, True])
async def test_an_application_s_event_of_today_is_escalated_too(db, database_url, unique):
    """One known by its cooldown key alone counts: what is as severe is not told again, what is worse is (SPEC A-3a)."""
    key = "REGIONAL_RISK_SPIKE:Europe:2025-11-10"
    db.execute(f"CREATE {'UNIQUE' if unique else ''} INDEX legacy_cooldown ON alert_events (cooldown_key)")
    add_event(db, fingerprint="from the application", cooldown_key=key, severity=4)
    add_index(db, 95)
    report = await run_phase(database_url, Phase.A)
    assert fingerprints(db) == [f"{key}:S5", "from the application"]
    assert report.counts["events_created"] == 1


async def test_escalation_under_concurrent_runs_is_told_once(db, database_url):
    """Runners side by side make one event a tier (SPEC A-3a, A-4)."""
    add_index(db, 71)
    await asyncio.gather(*(run_phase(database_url, Phase.A) for _ in range(4)))
    add_index(db, 97, NOW + MINUTE)
    await asyncio.gather(*(run_phase(database_url, Phase.A, now=NOW + MINUTE) for _ in range(4)))
    assert [event.severity for event in events(db)] == [3, 5]


@pytest.mark.parametrize("rule", ["regional_risk_spike", "asset_risk_spike"])
async def test_a_rule_finds_todays_events_in_a_long_history_by_their_keys(db, database_url, rule):
    """It does not read the history (SPEC A-3a)."""
    db.execute(
        "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)"
        " SELECT 'X', 3, 'Old', '', 'old ' || i, 'old ' || i FROM generate_series(1, 30000) AS i"
    )
    db.execute("ANALYZE alert_events")
    text = next(one for one in rule_files(None) if one.name == rule).text
    db.execute(f"PREPARE rule (timestamptz, text) AS {text}")
    plan = "\n".join(row[0] for row in db.execute(f"EXPLAIN EXECUTE rule ('{NOW}', 'UTC')"))
    assert "Seq Scan on alert_events" not in plan
    assert "alert_events_event_fingerprint_key" in plan


async def test_a_custom_rule_names_its_events_as_it_likes(db, database_url, tmp_path):
    """Nothing is added to its keys, and its events do not escalate those of the built-in rules (SPEC A-3a, A-1)."""
    (tmp_path / "outage.sql").write_text(GOOD_RULE)
    add_index(db, 71)
    await run_rules(database_url, tmp_path)
    (tmp_path / "outage.sql").write_text(GOOD_RULE.replace("4 AS severity", "5 AS severity"))
    report = await run_rules(database_url, tmp_path)
    assert fingerprints(db) == ["OUTAGE:2025-11-10", "REGIONAL_RISK_SPIKE:Europe:2025-11-10"]
    assert report.counts["events_created"] == 0


# --- rules of one's own ---------------------------------------------------------------------------------------------


async def run_rules(url: str, folder: Path, **order: object) -> PhaseReport:
    return await run_phase(url, Phase.A, fields={"rules_dir": folder}, **order)


async def test_adding_a_rule_is_adding_a_file(db, database_url, tmp_path):
    """Its rows become events, with the defaults filled in (SPEC A-1)."""
    (tmp_path / "outage.sql").write_text(GOOD_RULE)
    report = await run_rules(database_url, tmp_path)
    assert report.status == "success"
    assert report.counts["by_rule"]["outage"] == {"created": 1, "skipped_duplicate": 0}
    (event,) = events(db)
    assert (event.alert_type, event.event_fingerprint, event.cooldown_key, event.body, event.payload) == (
        "OUTAGE", "OUTAGE:2025-11-10", "OUTAGE:2025-11-10", "", {"value": 1.5},
    )  # fmt: skip
    assert event.scope_assets == ["gas"]


async def test_a_rule_may_be_written_as_people_write_sql(db, database_url, tmp_path):
    """Comments, a trailing semicolon, parentheses, WITH, a moment without zone (SPEC A-1)."""
    texts = [
        f"-- what it finds\n/* and why; */\n{GOOD_RULE};\n",
        f"{GOOD_RULE}; -- the end",
        f"  \n{GOOD_RULE} ;\n\n-- one more remark\n",
        f"({GOOD_RULE})",
        f"WITH found AS ({GOOD_RULE}) SELECT * FROM found",
        GOOD_RULE.replace("$1::timestamptz", "($1::timestamp AT TIME ZONE 'UTC')"),
    ]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.sql").write_text(text.replace("'OUTAGE:'", f"'{number}:'"))
    report = await run_rules(database_url, tmp_path)
    assert report.error is None
    assert fingerprints(db) == [f"{number}:2025-11-10" for number in range(len(texts))]


def changed(old: str, new: str) -> str:
    assert old in GOOD_RULE
    return GOOD_RULE.replace(old, new)


BROKEN = {
    "bad_sql": ("SELEKT 1", "is not a SELECT"),
    "syntax": (GOOD_RULE + " FROM", "syntax error"),
    "no_table": (GOOD_RULE + " FROM nowhere", 'relation "nowhere" does not exist'),
    "run_time": (changed("4 AS severity", "4 / 0 AS severity"), "DivisionByZero"),
    "severity_9": (changed("4 AS severity", "9 AS severity"), "severity must be a whole number from 1 to 5"),
    "severity_null": (changed("4 AS severity", "NULL::int AS severity"), "row 1: severity must be"),
    "no_fingerprint": (changed("'OUTAGE:' ||", "NULL ||"), "event_fingerprint must be a text"),
    "no_headline": (changed("'Outage' AS headline", "' ' AS headline"), "headline must be a text that is not blank"),
    "payload_array": (changed('{"value": 1.5}', "[1]"), "payload must be a JSON object"),
    "missing_column": (changed("NULL AS body, ", ""), "lacks the column(s) body"),
    "unknown_column": (GOOD_RULE + ", 7 AS user_id", "returns the unknown column(s) user_id"),
    "column_twice": (GOOD_RULE + ", 7 AS severity", "returns a column twice"),
    "doubles": (GOOD_RULE + " FROM generate_series(1, 2)", "returns 1 event_fingerprint(s) more than once"),
    "too_many": (changed("'OUTAGE:' ||", "i || 'OUTAGE:' ||") + " FROM generate_series(1, 10001) AS i", "narrow its"),
    "too_long": (
        changed("'OUTAGE:' ||", "i || 'OUTAGE:' ||").replace("NULL AS body", "repeat('x', 100000) AS body")
        + " FROM generate_series(1, 250) AS i",
        "more than 20000000 characters: cut its texts",
    ),
    "third_parameter": (GOOD_RULE + " WHERE $3::int = 1", "uses $3: a rule gets $1"),
    "wrong_moment": (GOOD_RULE.replace("$1::timestamptz", "$1::date"), "write $1::timestamptz"),
    "wrong_zone": (changed("$2", "make_interval(hours => $2::int)"), "uses $2 as int4"),
    "deletes": ("DELETE FROM events RETURNING id", "is not a SELECT"),
    "deletes_within": (f"WITH gone AS (DELETE FROM events RETURNING id) {GOOD_RULE}", "tries to write"),
    "inserts_within": (f"WITH i AS (INSERT INTO events (title) VALUES ('x') RETURNING id) {GOOD_RULE}", "tries to"),
    "writes_again": (changed("'Outage'", "set_config('transaction_read_only', 'off', true)"), "SQLSTATE 25001"),
    "locks": (GOOD_RULE + " FROM events FOR UPDATE", "tries to write or to lock"),
    "commits": ("COMMIT", "is not a SELECT"),
    "two_statements": (GOOD_RULE + "; DROP TABLE events", "multiple commands"),
    "empty": ("", "is empty"),
    "only_space": (" \n;\n", "is empty"),
    "only_comment": ("-- later\n", "is not a SELECT"),
    "nul": (GOOD_RULE + " -- \0", "contains a NUL character"),
}


async def test_each_broken_rule_is_reported_and_the_good_ones_are_kept(db, database_url, tmp_path):
    """By the name of its file, with what to correct; the phase is failed (SPEC A-5)."""
    for name, (text, _) in BROKEN.items():
        (tmp_path / f"{name}.sql").write_text(text)
    (tmp_path / "latin.sql").write_bytes(GOOD_RULE.replace("Outage", "Stör").encode("latin-1"))
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / "high_impact_event.sql").write_text(GOOD_RULE)
    (tmp_path / "zz_good.sql").write_text(GOOD_RULE)
    (tmp_path / "notes.txt").write_text("not a rule")
    news = add_news(db)
    report = await run_rules(database_url, tmp_path)
    told = dict(message.removeprefix("rule ").split(": ", 1) for message in report.error.split("; rule "))
    wanted = {f"{name}.sql": words for name, (_, words) in BROKEN.items()} | {
        "latin.sql": "must be a UTF-8 text file",
        "folder.sql": "cannot be read",
        "high_impact_event.sql": "has the name of a built-in rule: rename the file",
    }
    assert told.keys() == wanted.keys()
    assert {name: told[name] for name, words in wanted.items() if words not in told[name]} == {}
    assert report.status == "failed"
    assert report.counts["rules_failed"] == len(wanted)
    assert fingerprints(db) == [f"HIGH_IMPACT_EVENT:{news}", "OUTAGE:2025-11-10"]
    assert db.execute("SELECT count(*) AS n FROM events").fetchone().n == 1


async def test_a_rule_with_one_bad_row_inserts_none_of_its_rows(db, database_url, tmp_path):
    """A rule counts as a whole (SPEC A-5)."""
    bad = changed("4 AS severity", "i AS severity").replace("'OUTAGE:' ||", "i || 'OUTAGE:' ||")
    (tmp_path / "bad.sql").write_text(bad + " FROM generate_series(4, 6) AS i")
    report = await run_rules(database_url, tmp_path)
    assert "row 3: severity" in report.error
    assert events(db) == []


async def test_a_rule_that_takes_too_long_is_cut_off(db, database_url, tmp_path, monkeypatch):
    """And the others run (SPEC A-5)."""
    monkeypatch.setattr("alerts_engine.phases.rules.PATIENCE", "50ms")
    (tmp_path / "slow.sql").write_text(GOOD_RULE + " FROM pg_sleep(60)")
    (tmp_path / "zz_good.sql").write_text(GOOD_RULE)
    report = await run_rules(database_url, tmp_path)
    assert report.error == "rule slow.sql: took longer than 50ms: narrow it, or add an index"
    assert fingerprints(db) == ["OUTAGE:2025-11-10"]


MANY_ROWS = GOOD_RULE.replace("'OUTAGE:' ||", "i || 'OUTAGE:' ||") + " FROM generate_series(1, 300000) AS i"
LONG_ROWS = MANY_ROWS.replace("NULL AS body", "repeat('x', 1000000) AS body")


@pytest.mark.parametrize("rule", [MANY_ROWS, LONG_ROWS.replace("300000", "300")], ids=["rows", "characters"])
async def test_a_rule_that_finds_too_much_takes_no_memory(db, database_url, tmp_path, rule):
    """It is broken off at the limit, not after its last row (SPEC A-5)."""
    (tmp_path / "much.sql").write_text(rule)
    async with AlertsEngine(settings(database_url, rules_dir=tmp_path)) as engine:
        await engine.run(Phase.A, now=NOW, dry_run=True)
        with measured_memory() as peak:
            (report,) = (await engine.run(Phase.A, now=NOW)).phases
    assert peak.mib < 80
    assert "returns more than" in report.error


REMOTE_ERRORS = ("08001", "08006", "28P01", "3D000", "57P01", "57P03", "HV000")


@pytest.mark.parametrize("sqlstate", REMOTE_ERRORS)
async def test_an_error_about_another_server_is_the_rules(db, database_url, tmp_path, sqlstate):
    """The server that sent it is ours and answers; the rules after it run (SPEC A-5)."""
    db.execute(
        "CREATE FUNCTION ask() RETURNS bool LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION 'could not connect' USING ERRCODE = '{sqlstate}'; END $$"
    )
    (tmp_path / "away.sql").write_text(GOOD_RULE + " WHERE ask()")
    (tmp_path / "zz_good.sql").write_text(GOOD_RULE)
    report = await run_rules(database_url, tmp_path)
    assert report.error.startswith("rule away.sql: the rule: ")
    assert f"(SQLSTATE {sqlstate})" in report.error
    assert "DATABASE_URL" not in report.error
    assert report.error.endswith("check that server")
    assert report.counts["rules_failed"] == 1
    assert fingerprints(db) == ["OUTAGE:2025-11-10"]


async def test_two_rules_that_find_the_same_event_make_one(db, database_url, tmp_path):
    """The second counts it as known (SPEC A-1, A-6)."""
    for name in ("first", "second"):
        (tmp_path / f"{name}.sql").write_text(GOOD_RULE)
    report = await run_rules(database_url, tmp_path)
    assert report.counts["by_rule"]["first"]["created"] == 1
    assert report.counts["by_rule"]["second"] == {"created": 0, "skipped_duplicate": 1}


async def test_a_broken_rule_in_a_dry_run_breaks_nothing_else(db, database_url, tmp_path):
    """The savepoint of each rule holds inside the dry run's transaction (SPEC A-5, X-1)."""
    for name in ("commits", "deletes_within", "run_time", "two_statements"):
        (tmp_path / f"{name}.sql").write_text(BROKEN[name][0])
    (tmp_path / "zz_good.sql").write_text(GOOD_RULE)
    report = await run_rules(database_url, tmp_path, dry_run=True)
    assert report.counts["rules_failed"] == 4
    assert report.counts["events_created"] == 1
    assert events(db) == []


# --- publish --------------------------------------------------------------------------------------------------------


def outage(**fields: object) -> NewEvent:
    given = {"alert_type": "OUTAGE", "severity": 4, "headline": "Outage", "event_fingerprint": "OUTAGE:1"}
    return NewEvent(**given | fields)


async def test_an_application_publishes_its_own_event_once(db, database_url):
    """New the first time, known the second, and then left as it is (SPEC A-7)."""
    async with AlertsEngine(settings(database_url)) as engine:
        first = await engine.publish(outage(payload={"value": 3, "note": "Köln ☂"}, scope_assets=["gas"]))
        again = await engine.publish(outage(headline="Changed", severity=1))
    assert first.created
    assert not again.created
    assert again.event_id == first.event_id
    (row,) = events(db)
    assert (row.id, row.headline, row.severity, row.cooldown_key) == (first.event_id, "Outage", 4, "OUTAGE:1")
    assert row.payload == {"value": 3, "note": "Köln ☂"}
    assert row.fanout_completed_at is None


async def test_publish_finds_the_event_behind_a_legacy_cooldown_key(db, database_url):
    """Where the key is unique, its event is the answer (SPEC A-7, DB-3)."""
    db.execute("CREATE UNIQUE INDEX legacy_cooldown ON alert_events (cooldown_key)")
    known = add_event(db, cooldown_key="outage of today")
    async with AlertsEngine(settings(database_url)) as engine:
        published = await engine.publish(outage(cooldown_key="outage of today"))
    assert published.event_id == known
    assert not published.created


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"severity": 9}, "severity"),
        ({"severity": 0}, "severity"),
        ({"severity": True}, "severity"),
        ({"severity": 4.0}, "severity"),
        ({"headline": "a\0b"}, "headline"),
        ({"headline": ""}, "headline"),
        ({"body": "a\0b"}, "body"),
        ({"body": "half a pair \ud83d"}, "body"),
        ({"alert_type": None}, "alert_type"),
        ({"event_fingerprint": " "}, "event_fingerprint"),
        ({"event_fingerprint": "☂" * 1000}, "event_fingerprint"),
        ({"cooldown_key": "k" * 3000}, "cooldown_key"),
        ({"scope_assets": "gas"}, "scope_assets"),
        ({"scope_assets": [None]}, "scope_assets"),
        ({"driver_event_ids": ["1"]}, "driver_event_ids"),
        ({"driver_event_ids": [2**31]}, "driver_event_ids"),
        ({"payload": [1]}, "payload"),
        ({"payload": {"value": float("nan")}}, "payload"),
        ({"payload": {"value": float("inf")}}, "payload"),
        ({"payload": {"deep": [{"text": "a\0b"}]}}, "payload"),
        ({"payload": {"a\0b": 1}}, "payload"),
        ({"payload": {"when": NOW}}, "payload"),
    ],
)
def test_an_event_that_is_none_is_refused_by_name(fields, named):
    """Before anything reaches the database (SPEC A-7)."""
    with pytest.raises(EventError, match=f"^{named} must be") as caught:
        outage(**fields)
    assert caught.value.field == named
