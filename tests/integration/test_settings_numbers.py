"""Every number among the settings has bounds, and at its bounds everything works (SPEC section 4)."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine import AlertsEngine, Phase, PlanQuota
from alerts_engine.errors import SettingsError
from alerts_engine.settings import MOST_ROWS_A_CLAIM, Settings, Variables, accepted, variable_name
from alerts_engine.settings.variables import read_variables
from alerts_engine.types import EARLIEST_NOW, LATEST_NOW, MOST_SINCE_HOURS
from tests.support import ground
from tests.support.world import settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from tests.support.sending import World

NUMBERS = {name: one for name, one in Settings.model_fields.items() if " number " in accepted(one)}
TINY = 1e-9
"""A number above 0, when 0 is not allowed."""


def bounds(field: FieldInfo) -> tuple[float, float]:
    """The least and the most that a field accepts."""
    found = {name: getattr(one, name) for one in field.metadata for name in ("ge", "gt", "le") if hasattr(one, name)}
    return found.get("ge", TINY), found["le"]


def fitting(name: str, value: float) -> dict[str, Any]:
    """The field at ``value``, and what must then be otherwise for the lease to outlive a send."""
    match name:
        case "send_lease_seconds" if value == 1:
            return {name: value, "send_timeout_seconds": 0.2, "shutdown_seconds": 0}
        case "send_timeout_seconds" | "shutdown_seconds":
            return {name: value, "send_lease_seconds": 86_400}
        case _:
            return {name: value}


def test_numbers_are_all_found():
    """Whatever the type says is a number, and only that."""
    numeric = {
        name for name, one in Settings.model_fields.items() if {"int", "float"} & set(str(one.annotation).split(" | "))
    }
    numeric |= {name for name, one in Settings.model_fields.items() if one.annotation in {int, float}}
    assert set(NUMBERS) == numeric
    assert len(NUMBERS) > 15


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_bounds_is_a_clear_error(name: str):
    """What no statement and no clock could work with, and what is no number at all."""
    variable, (least, most) = variable_name(name), bounds(NUMBERS[name])
    assert Settings(_variables=read_variables([variable], {variable: f"{most}"}, None), **_lease(name))
    impossible = ["inf", "-inf", "nan", "1e15", "1e400", "-1", "-0.5", "0x10", "1,000", "one", "1 2", "٣", "9" * 400]
    for text in [*impossible, str(2**31), str(2**63), str(most + 1), *(["0"] if least else [])]:
        with pytest.raises(SettingsError) as raised:
            Settings(_variables=read_variables([variable], {variable: text}, None))
        assert str(raised.value) == f"{variable} must be {accepted(NUMBERS[name])}"
        assert str(most) in str(raised.value)


def _lease(name: str) -> dict[str, Any]:
    return {} if name == "send_lease_seconds" else {"send_lease_seconds": 86_400}


async def test_a_number_at_its_bounds_is_one_that_every_statement_can_work_with(world: World):
    """A whole run that builds digests, takes back, claims, sends, is refused, and writes when to try again."""
    for name, value in [(one, value) for one, field in NUMBERS.items() for value in bounds(field)]:
        _fill(world)
        async with AlertsEngine(ground.settings(world.url, world.sandbox.url, **fitting(name, value))) as engine:
            report = await engine.run(Phase.ALL)
        assert [(phase.phase, phase.status, phase.error) for phase in report.phases] == [
            (phase, "success", None) for phase in Phase.ALL.steps
        ], (name, value)
        found = Counter(row.status for row in world.rows)
        assert found["queued"] + found["failed"] == found.total(), f"{name}: a refused send is not left on its way"


def _fill(world: World) -> None:
    """On each channel one row that is due: a digest, a delivery, and one that a killed run has left behind.

    Not two, since the slowest rate is one a minute. And there is a digest item that phase D has not seen.
    """
    world.sandbox.faults.clear()
    world.fault("*", status=500)
    with closing(ground.connect(world.url)) as db:
        for table in ("user_alert_digest_items", "user_alert_digests", "user_alert_deliveries"):
            db.execute(f"DELETE FROM {table}")
    user, other = world.users(2)
    ground.add_digests(world.url, [user], "email")
    ground.add_deliveries(world.url, [other], "email", "digest")
    world.alert([user], "telegram")
    world.alert([user], "sms")
    world.execute(
        "UPDATE user_alert_deliveries SET status = 'sending', claimed_by = 'gone', lease_expires_at = now(),"
        " send_started_at = now() - interval '1 minute' WHERE channel = 'sms'"
    )


async def test_quotas_of_any_size_can_be_worked_with(world: World):
    """More a day than PostgreSQL's integer holds is as good as that (B-5)."""
    quota = PlanQuota(email=10**30, telegram=0, sms=2**31, digests=2**63, alert_types=("ALL",))
    fields = {"plan_quotas": {"pro": quota, "free": PlanQuota(email=2**31 - 1, alert_types=("A" * 100,))}}
    world.users(3)
    world.execute("INSERT INTO user_plans (user_id, plan) SELECT id, 'pro' FROM users")
    world.execute("UPDATE alert_events SET fanout_completed_at = NULL")
    async with AlertsEngine(settings(world.url, **fields)) as engine:
        (phase,) = (await engine.run(Phase.B)).phases
    assert (phase.status, phase.counts["created_instant"], phase.counts["created_digest"]) == ("success", 60, 30)


@pytest.mark.parametrize(
    ("order", "named"),
    [
        *(({"since_hours": hours}, "since_hours") for hours in (-1, math.inf, math.nan, 1e15, MOST_SINCE_HOURS + 1)),
        *(({"now": datetime(year, 1, 1, tzinfo=UTC)}, "now") for year in (1, 1969, 2101, 9999)),
        *(({"batch_size": size}, "batch_size") for size in (0, -1, 2**31, 2**63, MOST_ROWS_A_CLAIM + 1)),
    ],
)  # fmt: skip
async def test_what_a_run_is_asked_for_has_bounds_too(database_url: str, order: dict[str, Any], named: str):
    """For an application that calls ``run`` itself."""
    async with AlertsEngine(Settings(_variables=Variables(), database_url=database_url)) as engine:
        with pytest.raises(SettingsError, match=f"^{named} must be .*(from|between) "):
            await engine.run(Phase.ALL, **order)


@pytest.mark.parametrize(
    "order",
    [
        {"since_hours": MOST_SINCE_HOURS, "now": EARLIEST_NOW},
        {"since_hours": TINY, "now": LATEST_NOW, "phase": Phase.C},
        {"batch_size": MOST_ROWS_A_CLAIM},
    ],
)
async def test_a_run_at_its_bounds_works(world: World, order: dict[str, Any]):
    """A century of hours, next to none, the first and the last moment, and the largest batch."""
    _fill(world)
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        report = await engine.run(**order)
    assert report.status == "success"
