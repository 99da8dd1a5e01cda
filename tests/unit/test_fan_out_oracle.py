"""Worked examples from the specification that pin the oracle of fan-out, on which the property test rests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings

from alerts_engine.settings import PlanQuota
from alerts_engine.types import Channel, Kind, Status
from tests.support.oracle.fan_out import Verdict, fan_out, world_after
from tests.support.oracle.plans import from_settings
from tests.support.oracle.strategies import worlds
from tests.support.oracle.world import Delivery, Event, PlanSettings, Preference, User, World, day_start

NOW = datetime(2022, 6, 15, 10, tzinfo=UTC)
HIGH_IMPACT, REGIONAL, ASSET = "HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE"
EVERYTHING = tuple(Preference(region="global", alert_type=one) for one in (HIGH_IMPACT, REGIONAL, ASSET, "CUSTOM"))
USER = User(
    id=1,
    email="someone@example.test",
    telegram_chat_id="123",
    phone_number="+31612345678",
    plan="enterprise",
    preferences=EVERYTHING,
)


def _event(event_id: int = 10, minutes_ago: float = 5, **fields: object) -> Event:
    event = Event(id=event_id, created_at=NOW - timedelta(minutes=minutes_ago), cooldown_key=f"own {event_id}")
    return replace(event, **fields)


def _world(*events: Event, user: User = USER, **fields: object) -> World:
    return replace(World(now=NOW, users=(user,), events=events or (_event(),)), **fields)


def _answers(world: World, channel: Channel = Channel.EMAIL) -> list[str]:
    """The verdict for each event in order of id; what is delivered by its kind."""
    decisions = [one for one in fan_out(world).decisions if one.channel is channel]
    return [
        one.kind if one.verdict is Verdict.DELIVER else one.verdict
        for one in sorted(decisions, key=lambda one: one.event.id)
    ]


def _answer(user: User, event: Event | None = None) -> str:
    (answer,) = _answers(_world(event or _event(), user=user))
    return answer


def _earlier(minutes_ago: float, key: str = "key", **fields: object) -> tuple[Event, Delivery]:
    event = _event(1, minutes_ago, cooldown_key=key, fanned_out=True)
    delivery = Delivery(1, USER.id, "email", Kind.INSTANT, Status.SENT, event.created_at)
    return event, replace(delivery, **fields)


# --- plans -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "email", "telegram", "sms"),
    [
        (None, "digest", "digest", "plan"),
        ("unheard of", "digest", "digest", "plan"),
        ("free", "digest", "digest", "plan"),
        ("personal", "instant", "digest", "plan"),
        ("trader", "instant", "instant", "plan"),
        ("pro", "instant", "instant", "instant"),
        ("enterprise", "instant", "instant", "instant"),
    ],
)
def test_each_built_in_plan_has_its_kind_on_each_channel(plan, email, telegram, sms):
    """SPEC B-5 and B-6: the table, read for a type that every plan allows."""
    world = _world(user=replace(USER, plan=plan))
    assert [_answers(world, channel) for channel in Channel] == [[email], [telegram], [sms]]


@pytest.mark.parametrize(
    ("plan", "allowed"),
    [
        ("free", {HIGH_IMPACT}),
        ("personal", {HIGH_IMPACT, REGIONAL}),
        ("trader", {HIGH_IMPACT, REGIONAL, ASSET}),
        ("pro", {HIGH_IMPACT, REGIONAL, ASSET, "CUSTOM"}),
        ("enterprise", {HIGH_IMPACT, REGIONAL, ASSET, "CUSTOM"}),
    ],
)
def test_each_built_in_plan_allows_its_types(plan, allowed):
    """SPEC B-5: the column of allowed types."""
    user = replace(USER, plan=plan)
    types = (HIGH_IMPACT, REGIONAL, ASSET, "CUSTOM")
    assert {one for one in types if _answer(user, _event(alert_type=one)) != "plan"} == allowed


def test_an_active_settings_row_comes_before_the_override_and_that_before_the_built_in_map():
    """SPEC B-5: where a plan is looked up."""
    user = replace(USER, plan="pro")
    row = PlanSettings("pro", allowed_alert_types=())
    override = {"pro": PlanQuota(email=0, alert_types=("ALL",))}
    assert _answers(_world(user=user, plan_settings=(row,), plan_quotas=override)) == ["plan"]
    inactive = (replace(row, is_active=False),)
    assert _answers(_world(user=user, plan_settings=inactive, plan_quotas=override)) == ["digest"]
    assert _answers(_world(user=user, plan_settings=inactive)) == ["instant"]


def test_an_unknown_plan_is_the_free_plan_wherever_that_is_defined():
    """SPEC B-5: `free` is resolved like every other plan."""
    world = _world(user=replace(USER, plan=None), plan_settings=(PlanSettings("free", allowed_alert_types=()),))
    assert _answers(world) == ["plan"]


def test_free_is_digest_only_whatever_its_settings_say():
    """SPEC B-6, restated by the legacy schema."""
    row = PlanSettings("free", max_email_alerts_per_day=8, delivery_config='{"sms": {"enabled": true}}')
    world = _world(user=replace(USER, plan="free"), plan_settings=(row,))
    assert [_answers(world, channel) for channel in Channel] == [["digest"], ["plan"], ["plan"]]


def test_a_plan_without_digests_allows_none():
    """SPEC B-5: 0 digests a day are counted under `plan`."""
    quotas = {"gold": PlanQuota(email=0, telegram=5, digests=0, alert_types=("ALL",))}
    world = _world(user=replace(USER, plan="gold"), plan_quotas=quotas)
    assert [_answers(world, channel) for channel in Channel] == [["plan"], ["instant"], ["plan"]]


LEGACY_CONFIG = (
    '{"email": {"mode": "limited", "max_per_day": 8, "realtime_limit": 3},'
    ' "telegram": {"enabled": true, "send_all": true},'
    ' "sms": {"enabled": false, "send_all": false}, "account": {"show_all": true}}'
)


@pytest.mark.parametrize(
    ("config", "instant", "digests"),
    [
        (LEGACY_CONFIG, (3, 8, None), 2),
        ('{"email": {"max_per_day": 8}, "telegram": {"enabled": true}}', (8, 8, None), 2),
        ('{"email": {"realtime_limit": 3}, "sms": {"enabled": true, "send_all": true}}', (3, None, 5), 1),
        ('{"email": {"max_per_day": "8", "realtime_limit": true}}', (5, None, None), 1),
        ('{"email": {"max_per_day": 2.9, "realtime_limit": -1}}', (0, None, None), 1),
        ('{"email": {"max_per_day": 3000000000}}', (2**31 - 1, None, None), (2**31 - 1) // 4),
        ('{"email": [8], "telegram": {"enabled": "true"}, "sms": true}', (5, None, None), 1),
        ("[]", (5, None, None), 1),
        (None, (5, None, None), 1),
    ],
)
def test_plan_settings_are_read_as_the_legacy_schema_says(config, instant, digests):
    """The mapping of `delivery_config`, with `max_email_alerts_per_day` = 5."""
    plan = from_settings(PlanSettings("gold", max_email_alerts_per_day=5, delivery_config=config))
    assert (tuple(plan.instant.values()), plan.digests) == (instant, digests)


# --- who and where -----------------------------------------------------------------------------------------


def test_only_an_unverified_address_keeps_a_user_out():
    """SPEC B-4: considered is who is not `false`."""
    considered = {
        verified: fan_out(_world(user=replace(USER, email_verified=verified))).counts["users_considered"]
        for verified in (True, None, False)
    }
    assert considered == {True: 1, None: 1, False: 0}


def test_users_outside_the_allowlist_are_counted_and_get_nothing():
    """SPEC B-8 and B-10: the event is completed all the same."""
    outcome = fan_out(_world(allowlist=(2,)))
    assert outcome.decisions == ()
    assert outcome.completed_event_ids == {10}
    counts = {name: count for name, count in outcome.counts.items() if count}
    assert counts == {
        "events_processed": 1,
        "users_considered": 1,
        "users_skipped_allowlist": 1,
        "allowlist_active": True,
    }


def test_the_first_reason_that_applies_is_the_one_that_counts():
    """SPEC B-4: plan, then prefs, then missing destination, then quota."""
    quota = {"gold": PlanQuota(email=0, telegram=None, sms=1, alert_types=(HIGH_IMPACT,))}
    nowhere = replace(USER, plan="gold", email=" ", phone_number="\t")
    off = replace(nowhere, switches=((Channel.EMAIL, False),))
    assert [_answers(_world(user=nowhere, plan_quotas=quota), one) for one in Channel] == [
        ["missing_dest"],
        ["plan"],
        ["missing_dest"],
    ]
    assert _answers(_world(user=off, plan_quotas=quota)) == ["prefs"]
    assert _answers(_world(_event(alert_type=REGIONAL), user=off, plan_quotas=quota)) == ["plan"]


@pytest.mark.parametrize(("minutes_ago", "processed"), [(24 * 60 - 1, 1), (24 * 60 + 1, 0)])
def test_an_event_outside_the_window_is_counted_and_left(minutes_ago, processed):
    """SPEC B-1."""
    outcome = fan_out(_world(_event(10, minutes_ago)))
    assert (outcome.counts["events_processed"], outcome.counts["events_outside_window"]) == (processed, 1 - processed)
    assert fan_out(_world(_event(10, minutes_ago), since_hours=0)).counts["events_processed"] == 1


def test_digest_only_users_get_digests_and_no_sms():
    """SPEC B-6."""
    world = _world(user=replace(USER, digest_only=True))
    assert [_answers(world, channel) for channel in Channel] == [["digest"], ["digest"], ["plan"]]


# --- preferences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "scope_region", "matches"),
    [
        ("Europe", "europe", True),
        (" EUROPE ", "Europe", True),
        ("GLOBAL", "Asia", True),
        ("Asia", "Europe", False),
        ("Asia", None, True),
        ("Asia", " ", True),
        ("Europe", "Global", False),
    ],
)
def test_regions_compare_without_letter_case_and_global_takes_all(region, scope_region, matches):
    """SPEC B-4: the region of a preference row."""
    user = replace(USER, preferences=(Preference(region, HIGH_IMPACT),))
    assert _answer(user, _event(scope_region=scope_region)) == ("instant" if matches else "prefs")


@pytest.mark.parametrize(
    ("payload", "matches"),
    [
        ('{"value": 70.1}', True),
        ('{"value": 71}', True),
        ('{"value": 70}', False),
        ('{"value": "1"}', True),
        ('{"value": null}', True),
        ("[1]", True),
        (None, True),
    ],
)
def test_a_threshold_holds_back_only_a_smaller_number(payload, matches):
    """SPEC B-4: an event without such a value passes."""
    user = replace(USER, preferences=(Preference("global", HIGH_IMPACT, threshold=70.1),))
    assert _answer(user, _event(payload=payload)) == ("instant" if matches else "prefs")


@pytest.mark.parametrize(
    ("alert_type", "asset", "matches"),
    [(ASSET, None, True), (ASSET, "gas", True), (ASSET, "oil", False), (REGIONAL, "oil", True)],
)
def test_the_asset_matters_to_asset_alerts_alone(alert_type, asset, matches):
    """SPEC B-4: NULL is any asset."""
    user = replace(USER, preferences=(Preference("global", alert_type, asset=asset),))
    event = _event(alert_type=alert_type, scope_assets=("fx", "GAS"))
    assert _answer(user, event) == ("instant" if matches else "prefs")


@pytest.mark.parametrize(
    ("preferences", "alert_type", "scope_region", "matches"),
    [
        ((), HIGH_IMPACT, "Europe", True),
        ((), HIGH_IMPACT, None, True),
        ((), HIGH_IMPACT, "Asia", False),
        ((), REGIONAL, "Europe", False),
        ((Preference("global", HIGH_IMPACT, enabled=False),), HIGH_IMPACT, "Europe", False),
        ((Preference("global", HIGH_IMPACT, enabled=None),), HIGH_IMPACT, "Europe", False),
    ],
)
def test_defaults_are_for_users_who_have_no_rows_at_all(preferences, alert_type, scope_region, matches):
    """SPEC B-4: one whose rows are all disabled gets nothing."""
    user = replace(USER, preferences=preferences)
    event = _event(alert_type=alert_type, scope_region=scope_region)
    assert _answer(user, event) == ("instant" if matches else "prefs")


def test_a_row_matches_as_a_whole():
    """SPEC B-4: two rows that match half each are no match."""
    rows = (Preference("Asia", HIGH_IMPACT), Preference("Europe", REGIONAL))
    assert _answer(replace(USER, preferences=rows)) == "prefs"


# --- cooldown ----------------------------------------------------------------------------------------------

COOLING = replace(USER, preferences=(Preference("global", HIGH_IMPACT, cooldown_minutes=60),))


@pytest.mark.parametrize(
    ("minutes_ago", "key", "changes", "matches"),
    [
        (59, "key", {}, False),
        (60, "key", {}, True),
        (59, "other", {}, True),
        (59, "key", {"channel": "telegram", "kind": Kind.DIGEST, "status": Status.SKIPPED}, False),
        (59, "key", {"channel": "account"}, True),
        (59, "key", {"user_id": 2}, True),
    ],
)
def test_a_cooldown_looks_at_deliveries_of_the_same_matter_on_any_channel(minutes_ago, key, changes, matches):
    """SPEC B-4: of another event with the same key, in the last minutes of the cooldown."""
    event, delivery = _earlier(minutes_ago, key, **changes)
    world = _world(event, _event(cooldown_key="key"), user=COOLING, deliveries=(delivery,))
    assert _answers(world) == ["instant" if matches else "prefs"]


def test_within_a_run_the_older_event_goes_first():
    """SPEC B-4: and of two of the same age the one with the smaller id."""
    events = [_event(event_id, minutes, cooldown_key="key") for event_id, minutes in ((10, 5), (11, 9), (12, 9))]
    assert _answers(_world(*events, user=COOLING)) == ["prefs", "instant", "prefs"]
    uncooled = replace(COOLING, preferences=(*COOLING.preferences, Preference("global", HIGH_IMPACT)))
    assert _answers(_world(*events, user=uncooled)) == ["instant"] * 3


def test_an_older_event_that_reaches_the_user_nowhere_cools_nothing_down():
    """SPEC B-4: only what passes plan, preferences and destination on some channel."""
    older, younger = _event(10, 9, cooldown_key="key", scope_region="Asia"), _event(11, 5, cooldown_key="key")
    user = replace(COOLING, preferences=(Preference("Europe", HIGH_IMPACT, cooldown_minutes=60),))
    assert _answers(_world(older, younger, user=user)) == ["prefs", "instant"]


def test_the_cooldown_within_a_run_is_decided_before_the_quota():
    """SPEC B-4: the order of the checks; a younger event does not take the place of one at the cap."""
    events = [_event(10, 9, cooldown_key="key"), _event(11, 5, cooldown_key="key", severity=5)]
    other = _event(12, 7, severity=5)
    quotas = {"gold": PlanQuota(email=1, alert_types=("ALL",))}
    world = _world(*events, other, user=replace(COOLING, plan="gold"), plan_quotas=quotas)
    assert _answers(world) == ["quota", "prefs", "instant"]


# --- quota -------------------------------------------------------------------------------------------------

CAPPED = {"user": replace(USER, plan="gold"), "plan_quotas": {"gold": PlanQuota(email=2, alert_types=("ALL",))}}


def test_what_the_quota_refuses_moves_to_the_digest_where_it_is_asked_to():
    """SPEC B-7: only where the plan and the channel have digests, and it uses up nothing."""
    events = [_event(10 + n, 9 - n, severity=5 - n) for n in range(3)]
    for digests, answers in ((1, ["instant", "instant", "digest"]), (0, ["instant", "instant", "quota"])):
        quotas = {"gold": PlanQuota(email=2, sms=2, digests=digests, alert_types=("ALL",))}
        world = _world(*events, user=CAPPED["user"], plan_quotas=quotas, quota_overflow="digest")
        assert _answers(world) == answers
        assert _answers(world, Channel.SMS) == ["instant", "instant", "quota"]
        assert fan_out(world).counts["deliveries_moved_to_digest"] == answers.count("digest")
        assert [one.event_id for one in fan_out(world).created if one.over_quota] == [12] * digests


def test_the_more_severe_events_get_the_remaining_quota_then_the_older():
    """SPEC B-7."""
    events = [_event(10, 9, severity=3), _event(11, 5, severity=5), _event(12, 12, severity=3), _event(13, 12)]
    assert _answers(_world(*events, **CAPPED)) == ["quota", "instant", "instant", "quota"]


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({}, True),
        ({"status": Status.QUEUED}, True),
        ({"status": Status.SENDING}, True),
        ({"status": Status.FAILED}, False),
        ({"status": Status.SKIPPED}, False),
        ({"kind": Kind.DIGEST, "status": Status.QUEUED}, False),
        ({"channel": "telegram"}, False),
        ({"user_id": 2}, False),
        # 10:00 UTC is noon in Amsterdam: the day there began at 22:00 UTC.
        ({"created_at": datetime(2022, 6, 14, 22, 0, tzinfo=UTC)}, True),
        ({"created_at": datetime(2022, 6, 14, 21, 59, tzinfo=UTC)}, False),
    ],
)
def test_the_quota_counts_instant_deliveries_of_the_local_day_that_went_or_will_go(changes, used):
    """SPEC B-7."""
    event, delivery = _earlier(5, **changes)
    world = _world(event, _event(10), _event(11), deliveries=(delivery,), **CAPPED)
    assert _answers(world) == ["instant", "quota" if used else "instant"]


@pytest.mark.parametrize(("day", "hours"), [(date(2022, 3, 27), 23), (date(2022, 10, 30), 25), (date(2022, 6, 15), 24)])
def test_a_local_day_has_the_hours_that_its_clocks_say(day, hours):
    """SPEC D-2, on which the quota's day rests too."""
    start, end = (day_start(day + timedelta(days=days), "Europe/Amsterdam") for days in (0, 1))
    assert end - start == timedelta(hours=hours)


def test_a_midnight_that_exists_twice_begins_the_day_once():
    """In the Azores the clocks go from 1:00 back to 0:00: the day begins at the first of the two."""
    assert day_start(date(2022, 10, 30), "Atlantic/Azores") == datetime(2022, 10, 30, 0, 0, tzinfo=UTC)


# --- runs --------------------------------------------------------------------------------------------------


def test_what_was_delivered_is_decided_no_more():
    """SPEC B-2: a re-run repeats nothing and counts nothing twice."""
    delivery = Delivery(10, USER.id, "email", Kind.DIGEST, Status.SKIPPED, NOW)
    assert [_answers(_world(deliveries=(delivery,)), channel) for channel in Channel] == [[], ["instant"], ["instant"]]


@settings(max_examples=100, deadline=None)
@given(world=worlds())
def test_a_second_run_over_the_same_events_creates_nothing(world):
    """SPEC B-2, whatever the world: markers lost, deliveries kept."""
    after = replace(world_after(world, fan_out(world)), events=world.events)
    assert fan_out(after).created == frozenset()


@settings(max_examples=100, deadline=None)
@given(world=worlds())
def test_every_event_user_and_channel_is_counted_once(world):
    """SPEC B-8: the counts add up to the decisions."""
    outcome = fan_out(world)
    counts = outcome.counts
    skipped = [f"deliveries_skipped_{reason}" for reason in ("plan", "prefs", "missing_dest", "quota")]
    assert sum(counts[name] for name in ("deliveries_created", *skipped)) == len(outcome.decisions)
    pairs = (counts["users_considered"] - counts["users_skipped_allowlist"]) * len(Channel)
    new_ids = {event.id for event in world.events if event.id in outcome.completed_event_ids}
    users = {user.id for user in world.users if user.email_verified is not False}
    reachable = users if world.allowlist is None else users & set(world.allowlist)
    decided_before = {
        (old.event_id, old.user_id, old.channel)
        for old in world.deliveries
        if old.channel in list(Channel) and old.event_id in new_ids and old.user_id in reachable
    }
    assert len(outcome.decisions) == pairs - len(decided_before)
