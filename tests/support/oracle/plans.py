"""What a plan allows, by SPEC B-5 and the mapping of ``plan_settings`` in the legacy schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from alerts_engine.types import Channel

if TYPE_CHECKING:
    from alerts_engine.settings import PlanQuota
    from tests.support.oracle.world import PlanSettings, User, World

LARGEST = 2**31 - 1
FREE = "free"


@dataclass(frozen=True, slots=True)
class Plan:
    """``instant`` has the instant messages a day by channel; ``None``: the channel is not allowed."""

    name: str
    instant: dict[Channel, int | None]
    digests: int
    alert_types: tuple[str | None, ...]

    def allows(self, alert_type: str) -> bool:
        return "ALL" in self.alert_types or alert_type in self.alert_types


def _plan(name: str, caps: tuple[int | None, int | None, int | None], digests: int, types: tuple[str, ...]) -> Plan:
    return Plan(name, dict(zip(Channel, caps, strict=True)), digests, types)


# The table of SPEC B-5, copied by hand: the product's own map is on trial too.
BUILT_IN = {
    "free": _plan("free", (0, 0, None), 1, ("HIGH_IMPACT_EVENT",)),
    "personal": _plan("personal", (4, 0, None), 1, ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE")),
    "trader": _plan("trader", (8, 8, None), 1, ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE")),
    "pro": _plan("pro", (20, 20, 2), 24, ("ALL",)),
    "enterprise": _plan("enterprise", (100, 100, 20), 24, ("ALL",)),
}


def plan_of(user: User, world: World) -> Plan:
    """The user's plan; without plan, or with an unknown one, the free plan."""
    known = _find(user.plan, world) if user.plan is not None else None
    free = _find(FREE, world)
    assert free is not None
    return known or free


def _find(name: str, world: World) -> Plan | None:
    for row in world.plan_settings:
        if row.plan_code == name and row.is_active is not False:
            return from_settings(row)
    if name in world.plan_quotas:
        return _from_quota(name, world.plan_quotas[name])
    return BUILT_IN.get(name)


def _from_quota(name: str, quota: PlanQuota) -> Plan:
    return _plan(name, (quota.email, quota.telegram, quota.sms), quota.digests, quota.alert_types)


def from_settings(row: PlanSettings) -> Plan:
    """Read a ``plan_settings`` row; whatever does not have the expected JSON type counts as missing."""
    config = parse_object(row.delivery_config)
    email = as_object(config.get("email"))
    max_per_day = _first_number(email.get("max_per_day"), Decimal(row.max_email_alerts_per_day or 0))
    realtime = _first_number(email.get("realtime_limit"), Decimal(max_per_day))

    def by_switch(channel: Channel) -> int | None:
        switch = as_object(config.get(channel.value))
        if switch.get("enabled") is not True:
            return None
        return max_per_day if switch.get("send_all") is True else realtime

    instant = {
        Channel.EMAIL: realtime,
        Channel.TELEGRAM: by_switch(Channel.TELEGRAM),
        Channel.SMS: by_switch(Channel.SMS),
    }
    return Plan(row.plan_code, instant, max(1, max_per_day // 4), row.allowed_alert_types or ())


def _first_number(value: object, otherwise: Decimal) -> int:
    number = value if isinstance(value, Decimal) else otherwise
    return int(max(Decimal(0), min(number, Decimal(LARGEST))))


def parse_object(text: str | None) -> dict[str, object]:
    """The JSON object in ``text``, its numbers as ``Decimal``; ``{}`` when it is anything else."""
    return as_object(json.loads(text, parse_int=Decimal, parse_float=Decimal)) if text is not None else {}


def as_object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
