"""What each plan allows (SPEC B-5), as phases B and D hand it to their statements."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.channels import channels
from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.database import Executor
    from alerts_engine.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What one plan allows."""

    plan: str
    per_day: dict[str, int | None]
    """Instant messages a day per channel; ``None``: not allowed."""
    digests: int
    alert_types: list[str]


resolve_plans = statement("plans", "resolve_plans", Plan)


async def plans_as_json(database: Executor, settings: Settings) -> list[dict[str, Any]]:
    """Every plan: ``plan_settings`` first, then the built-in map with ``ALERTS_PLAN_QUOTAS`` laid over it."""
    built_in = [
        {"plan": name, "per_day": quota.per_day, "digests": quota.digests, "alert_types": list(quota.alert_types)}
        for name, quota in settings.plans.items()
    ]
    return [asdict(plan) for plan in await database.rows(resolve_plans, built_in=built_in, channels=list(channels()))]


def channels_as_json() -> list[dict[str, Any]]:
    """The registry's channels, each with a bit of its own, as the fan-out's statement takes them."""
    return [
        {"channel": name, "bit": 1 << number, "has_digests": spec.has_digests}
        for number, (name, spec) in enumerate(channels().items())
    ]
