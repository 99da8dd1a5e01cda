"""Phase B in a real database: an example of every rule by which an event becomes deliveries or does not."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from alerts_engine import Phase, PlanQuota
from alerts_engine.database import connect
from alerts_engine.phases.context import PhaseContext
from alerts_engine.phases.fan_out import FanOutCounts, fan_out
from alerts_engine.phases.plans import plans_as_json
from tests.support.world import (
    DAY,
    HOUR,
    NOW,
    add_delivery,
    add_event,
    add_plan_settings,
    add_preference,
    add_user,
    prepared,
    run_phase,
    settings,
    switch_channel,
)

if TYPE_CHECKING:
    import psycopg

    from alerts_engine import PhaseReport

MINUTE = timedelta(minutes=1)


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users a page."""
    monkeypatch.setattr("alerts_engine.phases.group.LARGEST_PAGE", 2)
    monkeypatch.setattr("alerts_engine.phases.group.SMALLEST_PAGE", 2)


async def fan(url: str, **order: object) -> PhaseReport:
    report = await run_phase(url, Phase.B, **order)
    assert report.error is None
    return report


def deliveries(db: psycopg.Connection) -> set[tuple[int, int, str, str]]:
    """Event, user, channel and kind of every delivery."""
    rows = db.execute("SELECT alert_event_id, user_id, channel, delivery_kind FROM user_alert_deliveries")
    return {tuple(row) for row in rows}


def recipients(db: psycopg.Connection, event: int) -> set[int]:
    return {user for of_event, user, _, _ in deliveries(db) if of_event == event}


def refusals(report: PhaseReport) -> dict[str, int]:
    """The decisions against a delivery, by reason, those that were made."""
    counts = {name.removeprefix("deliveries_skipped_"): value for name, value in report.counts.items()}
    return {name: counts[name] for name in ("plan", "prefs", "missing_dest", "quota") if counts[name]}


def completed(db: psycopg.Connection) -> set[int]:
    return {row.id for row in db.execute("SELECT id FROM alert_events WHERE fanout_completed_at IS NOT NULL")}


def quota(email: int, **fields: object) -> PlanQuota:
    return PlanQuota(**{"email": email, "digests": 1, "alert_types": ("ALL",)} | fields)


# --- which events ---------------------------------------------------------------------------------------------------


async def test_events_within_the_window_are_fanned_out_and_older_ones_counted(db, database_url):
    """24 hours unless the run says otherwise (SPEC B-1)."""
    add_user(db)
    young, old = add_event(db, NOW - DAY), add_event(db, NOW - DAY - timedelta(microseconds=1))
    done = add_event(db, NOW - 3 * DAY, fanned_out=True)
    report = await fan(database_url)
    assert completed(db) == {young, done}
    assert (report.counts["events_processed"], report.counts["events_outside_window"]) == (1, 1)
    report = await fan(database_url, since_hours=25)
    assert completed(db) == {young, old, done}
    assert (report.counts["events_processed"], report.counts["events_outside_window"]) == (1, 0)


async def test_since_hours_0_is_no_limit(db, database_url):
    """However old (SPEC B-1)."""
    user = add_user(db)
    ancient = add_event(db, datetime(2001, 1, 1, tzinfo=UTC))
    report = await fan(database_url, since_hours=0)
    assert recipients(db, ancient) == {user}
    assert report.counts["events_outside_window"] == 0


async def test_more_events_than_are_taken_at_once_are_all_fanned_out(db, database_url, monkeypatch):
    """Group after group, in one run (SPEC B-1)."""
    monkeypatch.setattr("alerts_engine.phases.fan_out.EVENTS_AT_ONCE", 2)
    user = add_user(db)
    events = {add_event(db, NOW - HOUR + number * MINUTE) for number in range(5)}
    report = await fan(database_url)
    assert report.counts["events_processed"] == 5
    assert {event for event, *_ in deliveries(db)} == events == completed(db)
    assert recipients(db, min(events)) == {user}


# --- all of it, once ------------------------------------------------------------------------------------------------


async def test_an_event_for_nobody_is_completed(db, database_url):
    """With no user at all, and with none who is eligible (SPEC B-2)."""
    first = add_event(db)
    await fan(database_url)
    add_user(db, verified=False)
    second = add_event(db, region="Asia")
    report = await fan(database_url)
    assert completed(db) == {first, second}
    assert report.counts["events_processed"] == 1
    assert report.counts["users_considered"] == 0


async def test_a_broken_off_fan_out_goes_on_where_it_was(db, database_url, small_pages):
    """What was committed stays, and nothing is made twice (SPEC B-2)."""
    users = [add_user(db) for _ in range(5)]
    event = add_event(db)
    db.execute(f"ALTER TABLE user_alert_deliveries ADD CONSTRAINT breaks CHECK (user_id <> {users[3]})")
    broken = await run_phase(database_url, Phase.B)
    assert broken.status == "failed"
    assert recipients(db, event) == set(users[:2])
    assert completed(db) == set()
    assert broken.counts["users_considered"] == broken.counts["deliveries_created"] == 2
    db.execute("ALTER TABLE user_alert_deliveries DROP CONSTRAINT breaks")
    report = await fan(database_url, now=NOW + MINUTE)
    assert recipients(db, event) == set(users)
    assert completed(db) == {event}
    assert report.counts["users_considered"] == report.counts["deliveries_created"] == 3
    assert report.counts["events_processed"] == 1


async def test_users_before_the_fan_outs_position_have_been_decided_on(db, database_url):
    """Each event resumes at its own (SPEC B-2)."""
    users = [add_user(db) for _ in range(3)]
    begun, new = add_event(db), add_event(db)
    db.execute("UPDATE alert_events SET fanout_position = %s WHERE id = %s", [users[1], begun])
    report = await fan(database_url)
    assert (recipients(db, begun), recipients(db, new)) == ({users[2]}, set(users))
    assert report.counts["users_considered"] == 4


async def test_a_delivery_that_exists_is_neither_doubled_nor_touched(db, database_url):
    """Whoever made it (SPEC B-2, B-3)."""
    ada, bob = add_user(db, "pro"), add_user(db)
    event = add_event(db)
    add_delivery(db, ada, event, status="sent", created_at=NOW - MINUTE)
    add_delivery(db, bob, event, kind="digest", status="failed", created_at=NOW - MINUTE)
    before = db.execute("SELECT * FROM user_alert_deliveries ORDER BY id").fetchall()
    report = await fan(database_url)
    assert db.execute("SELECT * FROM user_alert_deliveries ORDER BY id").fetchall() == before
    assert report.counts["deliveries_created"] == 0


async def test_a_completed_event_stays_completed(db, database_url):
    """A second run finds nothing (SPEC B-2)."""
    add_user(db)
    add_event(db)
    await fan(database_url)
    add_user(db)
    report = await fan(database_url, now=NOW + MINUTE)
    assert report.counts["events_processed"] == report.counts["users_considered"] == 0


# --- who: the order of reasons --------------------------------------------------------------------------------------


async def test_the_first_reason_in_order_is_the_one_that_counts(db, database_url):
    """Plan, preferences, destination, quota; a user with all four is refused by plan (SPEC B-4)."""
    user = add_user(db, "pro", email=" ")
    add_preference(db, user, region="Asia")
    add_delivery(db, user, add_event(db, fanned_out=True), status="sent", created_at=NOW - HOUR)

    async def decide(*types: str) -> dict[str, int]:
        add_event(db)
        plan = PlanQuota(email=1, alert_types=types)
        report = await fan(database_url, fields={"plan_quotas": {"pro": plan}})
        # Telegram and SMS are not in the plan.
        return refusals(report) | {"created": report.counts["deliveries_created"]}

    assert await decide("OUTAGE") == {"plan": 3, "created": 0}
    assert await decide("HIGH_IMPACT_EVENT") == {"plan": 2, "prefs": 1, "created": 0}
    db.execute("UPDATE user_alert_prefs SET region = 'Europe'")
    assert await decide("HIGH_IMPACT_EVENT") == {"plan": 2, "missing_dest": 1, "created": 0}
    db.execute("UPDATE users SET email = 'ada@example.test'")
    assert await decide("HIGH_IMPACT_EVENT") == {"plan": 2, "quota": 1, "created": 0}
    db.execute("UPDATE user_alert_deliveries SET status = 'failed', sent_at = NULL")
    assert await decide("HIGH_IMPACT_EVENT") == {"plan": 2, "created": 1}


async def test_every_channel_is_decided_on_its_own(db, database_url):
    """A blank or missing destination, a channel that is switched off (SPEC B-4)."""
    every = add_user(db, "pro", telegram="1", phone="+31600000000")
    blank = add_user(db, "pro", telegram=" \t", phone="")
    quiet = add_user(db, "pro", telegram="1", phone="+31600000000")
    switch_channel(db, quiet, "email", enabled=False)
    switch_channel(db, quiet, "sms", enabled=False)
    switch_channel(db, quiet, "telegram", enabled=True)
    event = add_event(db)
    report = await fan(database_url)
    wanted = {(every, "email"), (every, "telegram"), (every, "sms"), (blank, "email"), (quiet, "telegram")}
    assert deliveries(db) == {(event, user, channel, "instant") for user, channel in wanted}
    assert refusals(report) == {"missing_dest": 2, "prefs": 2}


async def test_only_an_email_that_is_known_to_be_unverified_is_passed_over(db, database_url):
    """NULL is not false (SPEC B-4)."""
    known, unknown = add_user(db, verified=True), add_user(db, verified=None)
    add_user(db, verified=False)
    event = add_event(db)
    report = await fan(database_url)
    assert recipients(db, event) == {known, unknown}
    assert report.counts["users_considered"] == 2


# --- who: preferences -----------------------------------------------------------------------------------------------


async def test_a_preference_row_matches_as_a_whole(db, database_url):
    """Region, type, asset and threshold, and one such row is enough (SPEC B-4)."""
    spike = "ASSET_RISK_SPIKE"
    rows: dict[str, list[dict]] = {
        "region": [{}],
        "letter case": [{"region": " euROPE"}],
        "global": [{"region": "Global"}],
        "asset": [{"asset": "gas"}],
        "threshold": [{"threshold": 80}],
        "second row": [{"region": "Asia"}, {"enabled": False}, {}],
        "all at once": [{"region": "global", "asset": "gas", "threshold": 79.9}],
    }
    refused: dict[str, list[dict]] = {
        "no rows": [],
        "other region": [{"region": "Asia"}],
        "other asset": [{"asset": "oil"}],
        "higher threshold": [{"threshold": 80.1}],
        "other type": [{"alert_type": "HIGH_IMPACT_EVENT"}],
        "disabled": [{"enabled": False}],
        "halves": [{"region": "Asia", "asset": "gas"}, {"asset": "oil"}],
    }
    users = {}
    for name, preferences in (rows | refused).items():
        users[name] = add_user(db, "enterprise")
        for preference in preferences:
            add_preference(db, users[name], **{"alert_type": spike, "region": "Europe"} | preference)
    event = add_event(db, alert_type=spike, assets=["gas"], value=80)
    await fan(database_url)
    assert recipients(db, event) == {users[name] for name in rows}


async def test_what_an_event_does_not_say_refuses_nobody(db, database_url):
    """No region matches any, no value passes any threshold, an asset matters to asset alerts alone (SPEC B-4)."""
    asia, picky, gas = (add_user(db, "pro") for _ in range(3))
    add_preference(db, asia, region="Asia")
    add_preference(db, picky, threshold=99)
    add_preference(db, gas, asset="gas")
    nowhere, in_europe = add_event(db, region=None), add_event(db, NOW - 2 * HOUR)
    await fan(database_url)
    assert recipients(db, nowhere) == {asia, picky, gas}
    assert recipients(db, in_europe) == {picky, gas}


async def test_without_rows_a_user_gets_high_impact_events_of_europe(db, database_url):
    """One whose rows are all disabled gets nothing (SPEC B-4)."""
    default, off = add_user(db, "pro"), add_user(db, "pro")
    add_preference(db, off, enabled=False)
    europe, nowhere = add_event(db, region="EUROPE"), add_event(db, region=None)
    asia, spike = add_event(db, region="Asia"), add_event(db, alert_type="REGIONAL_RISK_SPIKE", value=99)
    await fan(database_url)
    assert [recipients(db, event) for event in (europe, nowhere, asia, spike)] == [{default}, {default}, set(), set()]


async def test_a_cooldown_refuses_another_event_of_the_same_kind(db, database_url):
    """Within the cooldown's minutes, on any channel; whoever set none is not kept from it (SPEC B-4)."""
    ages = {"just": 60 * MINUTE - timedelta(seconds=1), "over": 60 * MINUTE, "elsewhere": MINUTE, "none": MINUTE}
    earlier = add_event(db, NOW - 2 * HOUR, cooldown_key="gas", fanned_out=True)
    other = add_event(db, NOW - 2 * HOUR, cooldown_key="oil", fanned_out=True)
    users = {name: add_user(db, "pro") for name in ages}
    for name, age in ages.items():
        add_preference(db, users[name], cooldown_minutes=None if name == "none" else 60)
        event, channel = (other, "email") if name == "elsewhere" else (earlier, "sms")
        add_delivery(db, users[name], event, channel, status="sent", created_at=NOW - age)
    event = add_event(db, cooldown_key="gas")
    await fan(database_url)
    assert recipients(db, event) == {users["over"], users["elsewhere"], users["none"]}


async def test_the_feed_begins_no_cooldown(db, database_url):
    """What the application writes for its in-app feed is counted nowhere (SPEC B-4, DB-3)."""
    user = add_user(db, "pro")
    add_preference(db, user, cooldown_minutes=60)
    earlier = add_event(db, NOW - 2 * HOUR, cooldown_key="gas", fanned_out=True)
    add_delivery(db, user, earlier, "account", status="sent", created_at=NOW - MINUTE)
    event = add_event(db, cooldown_key="gas")
    await fan(database_url)
    assert recipients(db, event) == {user}


async def test_within_a_run_the_older_event_goes_before_a_cooldown(db, database_url):
    """Also when the younger one is more severe (SPEC B-4)."""
    cooling, open_ = add_user(db, "pro"), add_user(db, "pro")
    add_preference(db, cooling, cooldown_minutes=60)
    add_preference(db, open_, cooldown_minutes=0)
    younger = add_event(db, NOW - MINUTE, severity=5, cooldown_key="gas")
    older = add_event(db, NOW - HOUR, severity=3, cooldown_key="gas")
    report = await fan(database_url)
    assert (recipients(db, older), recipients(db, younger)) == ({cooling, open_}, {open_})
    assert report.counts["deliveries_skipped_prefs"] == 3


# --- what a plan allows ---------------------------------------------------------------------------------------------

SHOWN = {
    "email": {"mode": "limited", "max_per_day": 8, "realtime_limit": 3},
    "telegram": {"enabled": True, "send_all": True},
    "sms": {"enabled": False, "send_all": False},
    "account": {"show_all": True},
}
ON, ALL_OF_IT = {"enabled": True, "send_all": False}, {"enabled": True, "send_all": True}
PLAN_SETTINGS: list[tuple[object, int | None, tuple]] = [
    # delivery_config, max_email_alerts_per_day → email, telegram, sms, digests
    (SHOWN, 50, (3, 8, None, 2)),
    ({"email": {"max_per_day": 8, "realtime_limit": None}}, 50, (8, None, None, 2)),
    ({"email": {"max_per_day": None, "realtime_limit": None}, "telegram": ALL_OF_IT}, 50, (50, 50, None, 12)),
    ({"email": {"max_per_day": 100, "realtime_limit": 5}, "telegram": ON, "sms": ALL_OF_IT}, 1, (5, 5, 100, 25)),
    ({"email": {"max_per_day": 0}, "sms": ON}, 9, (0, None, 0, 1)),
    ({}, 9, (9, None, None, 2)),
    ({}, None, (0, None, None, 1)),
    # What makes no sense counts as missing.
    ([], 9, (9, None, None, 2)),
    (None, 9, (9, None, None, 2)),
    ("email", 9, (9, None, None, 2)),
    ({"email": 5, "telegram": True, "sms": "yes"}, 9, (9, None, None, 2)),
    ({"email": {"max_per_day": "8", "realtime_limit": [3]}}, 9, (9, None, None, 2)),
    ({"email": {"max_per_day": True}, "telegram": {"enabled": "true", "send_all": 1}}, 9, (9, None, None, 2)),
    ({"email": {"max_per_day": -8, "realtime_limit": -1}, "telegram": ALL_OF_IT}, 9, (0, 0, None, 1)),
    ({"email": {"max_per_day": 7.9, "realtime_limit": 2.5}}, 9, (2, None, None, 1)),
    ({"email": {"max_per_day": 1e30}}, 9, (2**31 - 1, None, None, (2**31 - 1) // 4)),
    ({"email": {"max_per_day": 8}, "telegram": {"send_all": True}}, -4, (8, None, None, 2)),
    ({}, -4, (0, None, None, 1)),
]


async def test_plan_settings_are_read_as_the_application_means_them(db, database_url):
    """Every field, and every kind of nonsense in it (SPEC B-5)."""
    for number, (config, per_day, _) in enumerate(PLAN_SETTINGS):
        add_plan_settings(db, f"plan {number}", config, emails_per_day=per_day, types=["OUTAGE"])
    async with connect(database_url) as database:
        plans = {plan["plan"]: plan for plan in await plans_as_json(database, settings(database_url))}
    for number, (_, _, wanted) in enumerate(PLAN_SETTINGS):
        plan = plans[f"plan {number}"]
        told = (*(plan["per_day"][name] for name in ("email", "telegram", "sms")), plan["digests"])
        assert told == wanted, number
        assert plan["alert_types"] == ["OUTAGE"]


async def test_plan_settings_come_before_the_built_in_map(db, database_url):
    """When they are active; ALERTS_PLAN_QUOTAS replaces built-in plans alone (SPEC B-5)."""
    add_plan_settings(db, "pro", SHOWN)
    add_plan_settings(db, "trader", SHOWN, active=False)
    overridden = settings(database_url, plan_quotas={"pro": quota(7), "trader": quota(7), "free": quota(0, digests=0)})
    async with connect(database_url) as database:
        plans = {plan["plan"]: plan for plan in await plans_as_json(database, overridden)}
    emails = {name: plan["per_day"]["email"] for name, plan in plans.items()}
    assert emails == {"pro": 3, "trader": 7, "free": 0, "personal": 4, "enterprise": 100}


async def test_the_built_in_plans(db, database_url):
    """Their types and channels, as deliveries (SPEC B-5, B-6)."""
    users = {}
    for plan in ("free", "personal", "trader", "pro", "enterprise", "no such plan", None):
        users[plan] = add_user(db, plan, telegram="1", phone="+31600000000")
        for alert_type in ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE"):
            add_preference(db, users[plan], alert_type)
    high = add_event(db)
    regional = add_event(db, alert_type="REGIONAL_RISK_SPIKE", value=80)
    asset = add_event(db, alert_type="ASSET_RISK_SPIKE", assets=["gas"], value=80)
    await fan(database_url)
    as_digests = {("email", "digest"), ("telegram", "digest")}
    personal = {("email", "instant"), ("telegram", "digest")}
    trader = {("email", "instant"), ("telegram", "instant")}
    everything = {*trader, ("sms", "instant")}
    wanted = {
        "free": {high: as_digests},
        "no such plan": {high: as_digests},
        None: {high: as_digests},
        "personal": {high: personal, regional: personal},
        "trader": dict.fromkeys([high, regional, asset], trader),
        "enterprise": dict.fromkeys([high, regional, asset], everything),
        # Two SMS a day.
        "pro": {high: everything, regional: everything, asset: trader},
    }
    assert deliveries(db) == {
        (event, users[plan], *lane)
        for plan, events in wanted.items()
        for event, lanes in events.items()
        for lane in lanes
    }


async def test_free_gets_digests_whatever_its_settings_say(db, database_url):
    """And an SMS that would be one is not made (SPEC B-6)."""
    add_plan_settings(db, "free", {"email": {"max_per_day": 9}, "telegram": ALL_OF_IT, "sms": ALL_OF_IT})
    user = add_user(db, "free", telegram="1", phone="+31600000000")
    event = add_event(db)
    report = await fan(database_url)
    assert deliveries(db) == {(event, user, "email", "digest"), (event, user, "telegram", "digest")}
    assert refusals(report) == {"plan": 1}


async def test_whoever_wants_digests_only_gets_digests(db, database_url):
    """As many as there are: quotas are for instant messages (SPEC B-6, B-7)."""
    user = add_user(db, "pro", phone="+31600000000", digest_only=True)
    events = {add_event(db) for _ in range(30)}
    report = await fan(database_url)
    assert deliveries(db) == {(event, user, "email", "digest") for event in events}
    assert refusals(report) == {"plan": 30, "missing_dest": 30}


async def test_a_plan_without_digests_makes_none(db, database_url):
    """What would be one is counted under plan (SPEC B-5)."""
    instant, digest = add_user(db, "pro", telegram="1"), add_user(db, "pro", telegram="1", digest_only=True)
    event = add_event(db)
    quotas = {"pro": PlanQuota(email=1, telegram=0, digests=0, alert_types=("ALL",))}
    report = await fan(database_url, fields={"plan_quotas": quotas})
    assert deliveries(db) == {(event, instant, "email", "instant")}
    assert digest not in recipients(db, event)
    assert refusals(report) == {"plan": 5}


# --- how many a day -------------------------------------------------------------------------------------------------


async def test_the_more_severe_then_the_older_events_get_what_is_left(db, database_url):
    """Within one run (SPEC B-7)."""
    user = add_user(db, "pro")
    severities = [(3, 9), (5, 1), (4, 2), (4, 8), (5, 7)]
    events = [add_event(db, NOW - hours * HOUR, severity=severity) for severity, hours in severities]
    report = await fan(database_url, fields={"plan_quotas": {"pro": quota(3)}})
    assert deliveries(db) == {(events[place], user, "email", "instant") for place in (1, 3, 4)}
    assert refusals(report) == {"quota": 2, "plan": 10}


async def test_what_counts_against_the_quota(db, database_url):
    """Instant deliveries of the channel and the local day that were or may be sent, whoever made them (SPEC B-7)."""
    midnight = datetime(2025, 11, 9, 23, tzinfo=UTC)
    used = {
        "queued": {"status": "queued"},
        "sending": {"status": "sending"},
        "sent": {"status": "sent"},
        "at midnight": {"created_at": midnight},
    }
    free = {
        "failed": {"status": "failed"},
        "skipped": {"status": "skipped"},
        "yesterday": {"created_at": midnight - timedelta(microseconds=1)},
        "tomorrow": {"created_at": midnight + DAY},
        "another channel": {"channel": "telegram"},
        "a digest": {"kind": "digest"},
        "the feed": {"channel": "account", "status": "sent"},
    }
    users = {name: add_user(db, "pro") for name in (*used, *free, "nothing")}
    earlier = add_event(db, NOW - 2 * HOUR, fanned_out=True)
    for name, fields in (used | free).items():
        add_delivery(db, users[name], earlier, **{"created_at": NOW - HOUR} | fields)
    event = add_event(db)
    report = await fan(database_url, fields={"plan_quotas": {"pro": quota(1)}})
    assert recipients(db, event) == {users[name] for name in (*free, "nothing")}
    assert report.counts["deliveries_skipped_quota"] == len(used)


async def test_a_failed_delivery_gives_its_place_back(db, database_url):
    """Also one that an earlier run made, and only once (SPEC B-7)."""
    user = add_user(db, "pro")
    fields = {"plan_quotas": {"pro": quota(2)}}
    events = [add_event(db) for _ in range(3)]
    await fan(database_url, fields=fields)
    db.execute("UPDATE user_alert_deliveries SET status = 'failed' WHERE alert_event_id = %s", [events[0]])
    later = [add_event(db) for _ in range(2)]
    report = await fan(database_url, fields=fields)
    assert {event for event, *_ in deliveries(db)} == {events[0], events[1], later[0]}
    assert report.counts["deliveries_skipped_quota"] == 1
    assert recipients(db, later[0]) == {user}


async def test_the_quota_is_new_at_local_midnight(db, database_url):
    """Not at midnight UTC, and not after 24 hours: this day has 25 (SPEC B-7)."""
    add_user(db, "pro")
    starts = datetime(2025, 10, 25, 22, tzinfo=UTC)
    runs = {starts - MINUTE: 1, starts: 1, starts + 2 * HOUR: 0, starts + 25 * HOUR - MINUTE: 0, starts + 25 * HOUR: 1}
    for now, created in runs.items():
        add_event(db, now - MINUTE)
        report = await fan(database_url, now=now, fields={"plan_quotas": {"pro": quota(1)}})
        assert report.counts["deliveries_created"] == created, now


async def test_a_quota_holds_when_an_event_is_fanned_out_again(db, database_url):
    """Nothing is made twice, and nothing beyond the cap (SPEC B-7)."""
    add_user(db, "pro")
    for severity in (3, 4, 5):
        add_event(db, severity=severity)
    fields = {"plan_quotas": {"pro": quota(2)}}
    await fan(database_url, fields=fields)
    before = deliveries(db)
    db.execute("UPDATE alert_events SET fanout_completed_at = NULL, fanout_position = 0")
    report = await fan(database_url, fields=fields, now=NOW + MINUTE)
    assert deliveries(db) == before
    assert len(before) == 2
    assert report.counts["deliveries_created"] == 0


async def test_quotas_hold_under_concurrent_runs(db, database_url, small_pages):
    """Four runners without the phase lock: each user gets the cap, of the most severe, once (SPEC B-7)."""
    users = [add_user(db, "pro") for _ in range(12)]
    severe = {add_event(db, severity=5) for _ in range(3)}
    for _ in range(5):
        add_event(db, severity=4)
    counts = [FanOutCounts() for _ in range(4)]
    async with AsyncExitStack() as stack:
        runners = [
            PhaseContext(
                await stack.enter_async_context(connect(database_url)),
                settings(database_url, plan_quotas={"pro": quota(3)}),
                f"run {number}",
                NOW,
            )
            for number in range(4)
        ]
        await asyncio.gather(*(fan_out(runner, own) for runner, own in zip(runners, counts, strict=True)))
    assert deliveries(db) == {(event, user, "email", "instant") for event in severe for user in users}
    assert sum(own.deliveries_created for own in counts) == len(severe) * len(users)
    assert sum(own.events_processed for own in counts) == 8
    assert len(completed(db)) == 8


# --- what a quota refuses moves to the digest -------------------------------------------------------------------------


def overflow(db) -> dict[tuple[int, int, str], tuple[str, bool | None]]:
    rows = db.execute(
        "SELECT alert_event_id, user_id, channel, delivery_kind, over_quota FROM user_alert_deliveries"
    ).fetchall()
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}


OVERFLOW = {"quota_overflow": "digest", "plan_quotas": {"pro": quota(2)}}


async def test_what_the_quota_refuses_goes_into_the_digest(db, database_url):
    """The least severe of the day, marked as such; it uses up nothing, and is made once (SPEC B-7)."""
    user = add_user(db, "pro")
    events = [add_event(db, severity=severity) for severity in (3, 5, 4)]
    report = await fan(database_url, fields=OVERFLOW)
    assert overflow(db) == {
        (events[0], user, "email"): ("digest", True),
        (events[1], user, "email"): ("instant", None),
        (events[2], user, "email"): ("instant", None),
    }
    counts = report.counts
    assert (counts["deliveries_created"], counts["created_digest"], counts["deliveries_moved_to_digest"]) == (3, 1, 1)
    assert counts["deliveries_skipped_quota"] == 0
    db.execute("UPDATE alert_events SET fanout_completed_at = NULL, fanout_position = 0")
    again = await fan(database_url, fields=OVERFLOW, now=NOW + MINUTE)
    assert (again.counts["deliveries_created"], len(overflow(db))) == (0, 3)


async def test_a_dry_run_counts_what_would_move_to_the_digest(db, database_url):
    """And makes nothing (SPEC B-7, X-1)."""
    add_user(db, "pro")
    for _ in range(3):
        add_event(db)
    report = await fan(database_url, fields=OVERFLOW, dry_run=True)
    assert report.counts["deliveries_moved_to_digest"] == 1
    assert overflow(db) == {}


async def test_what_moves_to_the_digest_holds_under_concurrent_runs(db, database_url, small_pages):
    """Each event once for each user: the cap at once, the rest in the digest (SPEC B-7)."""
    users = [add_user(db, "pro") for _ in range(12)]
    severe = {add_event(db, severity=5) for _ in range(2)}
    milder = {add_event(db, severity=4) for _ in range(5)}
    counts = [FanOutCounts() for _ in range(4)]
    async with AsyncExitStack() as stack:
        runners = [
            PhaseContext(
                await stack.enter_async_context(connect(database_url)), settings(database_url, **OVERFLOW),
                f"run {number}", NOW,
            )
            for number in range(4)
        ]  # fmt: skip
        await asyncio.gather(*(fan_out(runner, own) for runner, own in zip(runners, counts, strict=True)))
    assert overflow(db) == {
        **{(event, user, "email"): ("instant", None) for event in severe for user in users},
        **{(event, user, "email"): ("digest", True) for event in milder for user in users},
    }
    assert sum(own.deliveries_moved_to_digest for own in counts) == len(milder) * len(users)


# --- counts, and the allowlist --------------------------------------------------------------------------------------


async def test_the_counts_add_up(db, database_url, small_pages):
    """Three decisions for each event and user that is considered (SPEC B-8)."""
    for plan in ("free", "personal", "trader", "pro", "enterprise", None):
        add_user(db, plan, telegram="1")
        add_user(db, plan, phone="+31600000000", digest_only=True)
        add_preference(db, add_user(db, plan), region="Asia")
    add_user(db, "pro", verified=False)
    for alert_type in ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "HIGH_IMPACT_EVENT", "OUTAGE"):
        add_event(db, alert_type=alert_type)
    counts = (await fan(database_url, fields={"plan_quotas": {"pro": quota(1)}})).counts
    decisions = {name: value for name, value in counts.items() if name.startswith("deliveries_")}
    del decisions["deliveries_moved_to_digest"]  # they are among those that were created
    assert counts["events_processed"] == 4
    assert counts["users_considered"] == 4 * 18
    assert sum(decisions.values()) == 3 * counts["users_considered"]
    assert all(decisions.values())
    assert counts["created_instant"] + counts["created_digest"] == counts["deliveries_created"] == len(deliveries(db))
    assert counts["created_digest"] == sum(kind == "digest" for *_, kind in deliveries(db))


async def test_with_an_allowlist_only_its_users_get_deliveries(db, database_url):
    """The event is completed all the same, so that lifting the list floods nobody (SPEC B-10)."""
    chosen, other = add_user(db), add_user(db)
    event = add_event(db)
    report = await fan(database_url, fields={"send_allowlist_user_ids": (chosen, 10**9)})
    assert recipients(db, event) == {chosen}
    assert completed(db) == {event}
    assert report.counts["allowlist_active"] is True
    assert report.counts["users_skipped_allowlist"] == 1
    lifted = await fan(database_url, now=NOW + MINUTE)
    assert other not in recipients(db, event)
    assert lifted.counts["allowlist_active"] is False
