"""Strategies that draw small nasty worlds: one of everything, and four that press on one rule each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from alerts_engine.settings import PlanQuota
from alerts_engine.types import Channel, Kind, Status
from tests.support.oracle.fan_out import fan_out, world_after
from tests.support.oracle.world import Delivery, Event, PlanSettings, Preference, User, World, day_start

T = TypeVar("T")
Other = TypeVar("Other")


def _mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """``usual`` five times in six, and what a failing example shrinks to."""
    return st.sampled_from([usual] * 5 * len(others) + list(others))


def _usually(usual: st.SearchStrategy[T], other: st.SearchStrategy[Other]) -> st.SearchStrategy[T | Other]:
    """Draw from ``usual`` four times in five; ``|`` would not count a strategy that is named twice."""
    return st.integers(1, 5).flatmap(lambda number: other if number == 5 else usual)


def _minutes(minutes: int) -> timedelta:
    return timedelta(minutes=minutes)


# --- moments -----------------------------------------------------------------------------------------------

AMSTERDAM = "Europe/Amsterdam"
SCENES = (
    (AMSTERDAM, date(2022, 6, 15)),
    (AMSTERDAM, date(2022, 3, 26)),
    (AMSTERDAM, date(2022, 3, 27)),
    (AMSTERDAM, date(2022, 3, 28)),
    (AMSTERDAM, date(2022, 10, 29)),
    (AMSTERDAM, date(2022, 10, 30)),
    (AMSTERDAM, date(2022, 10, 31)),
    ("America/New_York", date(2022, 3, 13)),
    # Places where midnight exists twice, and where it does not exist.
    ("Atlantic/Azores", date(2022, 10, 30)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
)
"""Time zone and local day: ordinary, beside and on a change of the clocks."""

SINCE_MIDNIGHT = (12 * 60, 0, 1, 30, 59, 61, 119, 121, 150, 181, 23 * 60 - 1)
BEFORE_NOW = (5, 0, 1, 5, 5, 30, 45, 90, 600, 1425, 1505)
AROUND_COOLDOWN = (0, 1, 59, 60, 61, 119, 120, 121, 1439, 1440)
AROUND_MIDNIGHT = tuple(_minutes(minutes) for minutes in (-61, -60, -31, -1, 0, 1, 29, 60))


def _midnights(world: World) -> list[datetime]:
    today = world.now.astimezone(ZoneInfo(world.time_zone)).date()
    return [day_start(today + timedelta(days=days), world.time_zone) for days in (0, -1, 1)]


def _beside_midnight(world: World) -> st.SearchStrategy[datetime]:
    midnights = _midnights(world)
    offsets = (*AROUND_MIDNIGHT, timedelta(microseconds=-1))
    return st.sampled_from([midnight + offset for midnight in midnights for offset in offsets])


def _recently(world: World) -> st.SearchStrategy[datetime]:
    return st.sampled_from([world.now - _minutes(minutes) for minutes in AROUND_COOLDOWN])


@st.composite
def _empty_worlds(draw: st.DrawFn) -> World:
    """A moment and a place, and nobody there."""
    time_zone, day = draw(st.sampled_from(SCENES))
    now = day_start(day, time_zone) + _minutes(draw(st.sampled_from(SINCE_MIDNIGHT)))
    return World(now=now, time_zone=time_zone, users=(), events=())


# --- words -------------------------------------------------------------------------------------------------

ALERT_TYPES = ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE", "GAS_STORAGE_LOW")
PLANS = ("pro", "gold", "enterprise", "trader", "personal", "free")
BLANKS = (None, "", " ", "\t", " \n")


@dataclass(frozen=True, slots=True)
class _Pools:
    """The few words that one world is made of, so that its rows have to do with each other."""

    plans: list[str]
    types: list[str]
    regions: list[str]


def _some(words: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True)


_pools = st.builds(_Pools, plans=_some(PLANS), types=_some(ALERT_TYPES), regions=_some(("Europe", "Asia")))


# --- plans -------------------------------------------------------------------------------------------------


def _json_object(fields: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    """JSON text of an object with most of ``fields``, whose values are JSON text."""
    return st.fixed_dictionaries({name: _usually(value, st.none()) for name, value in fields.items()}).map(
        lambda values: "{" + ", ".join(f'"{name}": {value}' for name, value in values.items() if value) + "}"
    )


NONSENSE = st.sampled_from(['"5"', "null", "true", "[]", "{}"])
NUMBERS = st.sampled_from(["2", "1", "3.9", "0", "8", "-1", "-0.5", "3000000000", "1e400"])
NUMBERISH = _usually(NUMBERS, NONSENSE)
FLAGS = st.sampled_from(["true", "true", "true", "true", "false", "null", '"true"', "1"])
NOT_OBJECTS = st.sampled_from(["null", "[]", '"email"', "7", "true"])
SWITCH_CONFIG = _usually(_json_object({"enabled": FLAGS, "send_all": FLAGS}), NOT_OBJECTS)
EMAIL_CONFIG = _usually(_json_object({"max_per_day": NUMBERISH, "realtime_limit": NUMBERISH}), NOT_OBJECTS)
DELIVERY_CONFIG = _json_object({"email": EMAIL_CONFIG, "telegram": SWITCH_CONFIG, "sms": SWITCH_CONFIG})
ALLOWED_TYPES = _mostly(("ALL",), ("HIGH_IMPACT_EVENT", "ALL"), ALERT_TYPES[:2], (None, "ASSET_RISK_SPIKE"), (), None)
CAPS = st.sampled_from([1, 2, 1, 2, 3, 0, None, 10**10])

_plan_quotas = st.builds(
    PlanQuota,
    email=CAPS,
    telegram=CAPS,
    sms=CAPS,
    digests=_mostly(1, 0),
    alert_types=_mostly(("ALL",), ALERT_TYPES[:1], ALERT_TYPES[1:], ()),
)


@st.composite
def _plan_settings(draw: st.DrawFn, plan_code: str) -> PlanSettings:
    return PlanSettings(
        plan_code=plan_code,
        allowed_alert_types=draw(ALLOWED_TYPES),
        max_email_alerts_per_day=draw(st.sampled_from([2, 1, 0, 9, -3, None])),
        delivery_config=draw(_usually(DELIVERY_CONFIG, NOT_OBJECTS | st.none())),
        is_active=draw(_mostly(True, False, None)),
    )


@st.composite
def _plan_sources(draw: st.DrawFn, plans: list[str]) -> tuple[tuple[PlanSettings, ...], dict[str, PlanQuota]]:
    """Some of ``plans`` as settings rows and some as overrides; now and then one is both."""
    rows = [draw(_plan_settings(plan)) for plan in plans if draw(_mostly(True, False))]
    return tuple(rows), {plan: draw(_plan_quotas) for plan in plans if draw(st.booleans())}


# --- users -------------------------------------------------------------------------------------------------


def _eager(user_id: int, plan: str | None, *preferences: Preference) -> User:
    """A user whom every channel reaches."""
    return User(
        id=user_id,
        email=f"user{user_id}@example.test",
        telegram_chat_id=f"{100 + user_id}",
        phone_number=f"+3161234567{user_id}",
        plan=plan,
        preferences=preferences,
    )


EVERYTHING = tuple(Preference(region="global", alert_type=alert_type) for alert_type in ALERT_TYPES)


@st.composite
def _preferences(draw: st.DrawFn, pools: _Pools, cooldowns: tuple[int | None, ...]) -> Preference:
    region = st.sampled_from(pools.regions)
    return Preference(
        region=draw(_usually(region | region.map(str.upper), st.sampled_from(["global", " Global", "europe "]))),
        alert_type=draw(st.sampled_from(pools.types)),
        asset=draw(st.sampled_from([None, "gas", "oil"])),
        threshold=draw(st.sampled_from([None, None, None, 70.0, 70.1, 85.5, -1.0])),
        enabled=draw(_mostly(True, False, None)),
        cooldown_minutes=draw(st.sampled_from(cooldowns)),
    )


COOLDOWNS = (None, None, None, 60, 120, 1440, 0, -5, 2**31 - 1)


@st.composite
def _users(draw: st.DrawFn, user_id: int, pools: _Pools, cooldowns: tuple[int | None, ...]) -> User:
    return User(
        id=user_id,
        # Addresses are unique, blank ones too: as many blanks as the id says.
        email=draw(_mostly(f"user{user_id}@example.test", " " * (user_id - 1), "\t" * user_id)),
        telegram_chat_id=draw(_mostly(f"{100 + user_id}", *BLANKS)),
        phone_number=draw(_mostly(f"+3161234567{user_id}", *BLANKS)),
        email_verified=draw(_mostly(True, None, False)),
        plan=draw(st.sampled_from([*pools.plans * 3, None, "platinum"])),
        digest_only=draw(_mostly(None, False, True)),
        switches=tuple(draw(st.dictionaries(st.sampled_from(Channel), st.booleans(), max_size=2)).items()),
        preferences=tuple(draw(st.lists(_preferences(pools, cooldowns), max_size=3))),
        stops=draw(_mostly((), *(((one, kind),) for one in Channel for kind in pools.types))),
    )


# --- events and deliveries ---------------------------------------------------------------------------------

PAYLOADS = (
    '{"value": 70}', '{"value": 70.1}', '{"value": 90.5}', '{"value": -2}', '{"value": 1e400}', "{}", None,
    '{"value": "9"}', '{"value": null}', '{"value": true}', "[]", '"value"', "null",
)  # fmt: skip
FIRST_NEW_ID = 10


@st.composite
def _events(draw: st.DrawFn, event_id: int, now: datetime, pools: _Pools) -> Event:
    region = st.sampled_from(pools.regions)
    return Event(
        id=event_id,
        created_at=now - _minutes(draw(st.sampled_from(BEFORE_NOW))),
        alert_type=draw(st.sampled_from(pools.types)),
        scope_region=draw(_usually(region, st.sampled_from([None, "", "  ", "Global", " europe"]))),
        scope_assets=draw(st.sampled_from([("gas",), ("GAS", "Oil"), ("fx",), ()])),
        severity=draw(st.integers(1, 5)),
        cooldown_key=draw(st.sampled_from(["key", "other", f"own {event_id}"])),
        payload=draw(st.sampled_from(PAYLOADS)),
        fanned_out=event_id < FIRST_NEW_ID,
    )


def _new_events(now: datetime, pools: _Pools) -> st.SearchStrategy[tuple[Event, ...]]:
    counts = st.sampled_from([3, 1, 2, 4, 5])
    return counts.flatmap(lambda n: st.tuples(*(_events(FIRST_NEW_ID + i, now, pools) for i in range(n))))


def _earlier_events(now: datetime, pools: _Pools) -> st.SearchStrategy[tuple[Event, ...]]:
    counts = st.sampled_from([3, 0, 1, 2, 4])
    return counts.flatmap(lambda n: st.tuples(*(_events(1 + i, now, pools) for i in range(n))))


@st.composite
def _deliveries(draw: st.DrawFn, world: World, times: st.SearchStrategy[datetime]) -> Delivery:
    kind = draw(_mostly(Kind.INSTANT, Kind.DIGEST))
    # What belongs to a digest is never sent by itself: it waits or is batched (SPEC C-1, D-1).
    statuses = list(Status) if kind is Kind.INSTANT else [Status.QUEUED, Status.SKIPPED]
    earlier = [event.id for event in world.events if event.fanned_out]
    return Delivery(
        # Mostly of earlier events; now and then of a new one, as an interrupted run leaves it.
        event_id=draw(st.sampled_from([*earlier * 4, *(event.id for event in world.events)])),
        user_id=draw(st.sampled_from([user.id for user in world.users])),
        channel=draw(st.sampled_from([*(channel.value for channel in Channel), "account"])),
        kind=kind,
        status=draw(st.sampled_from(statuses)),
        created_at=draw(times),
    )


def _row_key(delivery: Delivery) -> tuple[int, int, str, Kind]:
    return delivery.event_id, delivery.user_id, delivery.channel, delivery.kind


@st.composite
def _with_deliveries(draw: st.DrawFn, world: World, times: st.SearchStrategy[datetime], most: int) -> World:
    least = draw(st.sampled_from([0, most // 2]))
    rows = st.lists(_deliveries(world, times), min_size=least, max_size=most)
    unique = {_row_key(row): row for row in draw(rows)}
    return replace(world, deliveries=tuple(unique.values()))


_overflow = st.sampled_from(["drop", "digest"])

# --- worlds ------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """One of everything: at most four users, five new events, four earlier ones."""
    empty, pools = draw(_empty_worlds()), draw(_pools)
    rows, quotas = draw(_plan_sources(list(dict.fromkeys([*pools.plans, "free"]))))
    world = replace(
        empty,
        users=tuple(draw(_users(1 + n, pools, COOLDOWNS)) for n in range(draw(st.sampled_from([3, 1, 2, 4])))),
        events=draw(_earlier_events(empty.now, pools)) + draw(_new_events(empty.now, pools)),
        plan_settings=rows,
        plan_quotas=quotas,
        allowlist=draw(_mostly(None, (1, 3), (2,), (9,))),
        since_hours=draw(_mostly(24, 1, 0)),
        quota_overflow=draw(_overflow),
    )
    times = _recently(world) | _beside_midnight(world)
    return draw(_with_deliveries(world, times, most=16))


@st.composite
def plan_worlds(draw: st.DrawFn) -> World:
    """Eight plans from settings and overrides, a user of each, and events that use up small allowances."""
    empty = draw(_empty_worlds())
    plans = [f"plan{n}" for n in range(1, 9)]
    rows, quotas = draw(_plan_sources(plans))
    types = draw(st.lists(st.sampled_from(ALERT_TYPES), min_size=4, max_size=10))
    return replace(
        empty,
        users=tuple(_eager(n, plan, *EVERYTHING) for n, plan in enumerate(plans, start=1)),
        events=tuple(
            Event(id=event_id, created_at=empty.now, alert_type=alert_type, cooldown_key=f"own {event_id}")
            for event_id, alert_type in enumerate(types, start=FIRST_NEW_ID)
        ),
        plan_settings=rows,
        plan_quotas=quotas,
        quota_overflow=draw(_overflow),
    )


@st.composite
def preference_worlds(draw: st.DrawFn) -> World:
    """Four users whom neither a plan nor a cooldown ever stops."""
    empty, pools = draw(_empty_worlds()), replace(draw(_pools), plans=["enterprise"])
    return replace(
        empty,
        users=tuple(replace(draw(_users(n, pools, (None,))), plan="enterprise") for n in range(1, 5)),
        events=draw(_new_events(empty.now, pools)),
    )


@st.composite
def cooldown_worlds(draw: st.DrawFn) -> World:
    """Three users whose rows differ in cooldown alone, and deliveries beside the cooldown's end."""
    empty = draw(_empty_worlds())
    pools = _Pools(plans=["enterprise"], types=[ALERT_TYPES[0]], regions=["Europe"])
    cooldowns = st.lists(st.sampled_from([60, 120, 1440, 0, None]), min_size=1, max_size=2)

    def rows() -> list[Preference]:
        minutes = draw(cooldowns)
        return [Preference("global", ALERT_TYPES[0], cooldown_minutes=one) for one in minutes]

    world = replace(
        empty,
        users=tuple(_eager(n, "enterprise", *rows()) for n in range(1, 4)),
        events=draw(_earlier_events(empty.now, pools)) + draw(_new_events(empty.now, pools)),
    )
    return draw(_with_deliveries(world, _recently(world), most=12))


@st.composite
def quota_worlds(draw: st.DrawFn) -> World:
    """Two users with small allowances, and deliveries around the midnights of three days."""
    empty = draw(_empty_worlds())
    pools = _Pools(plans=["gold"], types=list(ALERT_TYPES), regions=["Europe"])
    caps = st.sampled_from([3, 1, 2, 4, 5])
    digests = draw(st.sampled_from([1, 24, 0]))
    quota = PlanQuota(email=draw(caps), telegram=draw(caps), sms=draw(caps), digests=digests, alert_types=("ALL",))
    world = replace(
        empty,
        users=tuple(_eager(n, "gold", *EVERYTHING) for n in range(1, 3)),
        events=draw(_earlier_events(empty.now, pools)) + draw(_new_events(empty.now, pools)),
        plan_quotas={"gold": quota},
        quota_overflow=draw(_overflow),
    )
    return draw(_with_deliveries(world, _beside_midnight(world), most=24))


# --- histories ---------------------------------------------------------------------------------------------

SECOND_RUN_ID = 20


@st.composite
def histories(draw: st.DrawFn, first: st.SearchStrategy[World]) -> tuple[World, World]:
    """The worlds before two runs; between them time passes, sends end, events come."""
    before = draw(first)
    after = world_after(before, fan_out(before))
    now = after.now + _minutes(draw(st.sampled_from([10, 0, 61, 125, 720, 1441])))
    types = sorted({event.alert_type for event in after.events})
    pools = _Pools(plans=[], types=types, regions=["Europe"])
    new = [draw(_events(SECOND_RUN_ID + n, now, pools)) for n in range(draw(st.integers(0, 3)))]
    return before, replace(
        after,
        now=now,
        quota_overflow=draw(_overflow),
        events=(*(draw(_maybe_unmarked(event)) for event in after.events), *new),
        deliveries=tuple(draw(_maybe_settled(delivery)) for delivery in after.deliveries),
    )


def _maybe_unmarked(event: Event) -> st.SearchStrategy[Event]:
    return _mostly(event, replace(event, fanned_out=False)) if event.id >= FIRST_NEW_ID else st.just(event)


def _maybe_settled(delivery: Delivery) -> st.SearchStrategy[Delivery]:
    if delivery.kind is Kind.DIGEST or delivery.channel == "account":
        return st.just(delivery)
    settled = [replace(delivery, status=status) for status in (delivery.status, *Status)]
    return st.sampled_from([*settled, replace(delivery, status=Status.SKIPPED, bundled=True)])
