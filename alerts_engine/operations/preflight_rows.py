"""What preflight finds in a migrated database's rows, and what its server says of the rules: warnings, each a look."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from alerts_engine.database import database_now
from alerts_engine.errors import DatabaseError, RuleError
from alerts_engine.phases.fan_out import events_outside_window
from alerts_engine.phases.rules import find_events
from alerts_engine.statements import statement
from alerts_engine.types import SINCE_HOURS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from alerts_engine.database import Database
    from alerts_engine.settings import Settings
    from alerts_engine.statements import RuleFile


@dataclass(frozen=True, slots=True)
class Held:
    deliveries: int


@dataclass(frozen=True, slots=True)
class UnknownUser:
    user_id: int


@dataclass(frozen=True, slots=True)
class OddPlan:
    plan: str
    parts: list[str]


@dataclass(frozen=True, slots=True)
class UserCount:
    users: int


@dataclass(frozen=True, slots=True)
class BareSource:
    name: str
    remedy: str


bare_sources = statement("preflight", "bare_sources", BareSource)
reachable_users = statement("preflight", "reachable_users", UserCount)
held_deliveries = statement("preflight", "held_deliveries", Held)
unknown_users = statement("preflight", "unknown_users", UnknownUser)
odd_plans = statement("preflight", "odd_plans", OddPlan)


async def _late_events(database: Database, _settings: Settings, _rules: Sequence[RuleFile]) -> AsyncIterator[str]:
    now = await database_now(database)
    outside = (await database.row(events_outside_window, now=now, since=timedelta(hours=SINCE_HOURS))).count
    if outside:
        yield (
            f"{outside} event(s) were never fanned out and are older than {SINCE_HOURS} hours: "
            "run --phase b --since-hours 0 fans them out"
        )


async def _held_deliveries(database: Database, _settings: Settings, _rules: Sequence[RuleFile]) -> AsyncIterator[str]:
    held = (await database.row(held_deliveries)).deliveries
    if held:
        yield (
            f"{held} queued deliveries from before the engine are held (next_retry_at = 'infinity'): set their "
            "next_retry_at to NULL to have them sent, or their status to 'skipped'"
        )


async def who_may_get_alerts(database: Database, settings: Settings) -> AsyncIterator[str]:
    """A note, not a warning: without an allowlist, how many users there are for the fan-out (SPEC R-1)."""
    if settings.send_allowlist_user_ids is None:
        users = (await database.row(reachable_users)).users
        yield f"no allowlist: {users:,} user{'' if users == 1 else 's'} may get alerts"


async def missing_indexes(database: Database, _settings: Settings) -> AsyncIterator[str]:
    """Notes: what would make phase A faster. The tables are the application's, so nothing is wrong."""
    for source in await database.rows(bare_sources):
        yield f"{source.name} is large, and phase A reads all of it at every run: {source.remedy}"


async def _unknown_users(database: Database, settings: Settings, _rules: Sequence[RuleFile]) -> AsyncIterator[str]:
    allowed = settings.send_allowlist_user_ids or ()
    unknown = await database.rows(unknown_users, user_ids=sorted(set(allowed)))
    if unknown:
        ids = ", ".join(str(user.user_id) for user in unknown)
        yield f"ALERTS_SEND_ALLOWLIST_USER_IDS names users that do not exist: {ids}"


async def _odd_plans(database: Database, _settings: Settings, _rules: Sequence[RuleFile]) -> AsyncIterator[str]:
    for odd in await database.rows(odd_plans):
        yield (
            f"plan_settings of {odd.plan}: delivery_config cannot be understood at {', '.join(odd.parts)}, "
            "which counts as missing"
        )


async def _broken_rules(database: Database, settings: Settings, rules: Sequence[RuleFile]) -> AsyncIterator[str]:
    now = await database_now(database)
    for rule in rules:
        try:
            await _try_rule(database, rule, now, settings.time_zone)
        except (RuleError, DatabaseError) as error:
            yield f"rule {rule.path.name}: {error}"


NOTES = (who_may_get_alerts, missing_indexes)
LOOKS = (_late_events, _held_deliveries, _unknown_users, _odd_plans, _broken_rules)


async def _try_rule(database: Database, rule: RuleFile, now: datetime, zone: str) -> None:
    """Try ``rule`` without its rows, since they may take long: what is wrong with it is known without them.

    What does not work inside another query, such as a comment after the semicolon, is then run as it stands.
    """
    text = f"SELECT * FROM (\n{rule.text}\n) AS found LIMIT 0"  # noqa: S608 - the operator's own file
    try:
        await find_events(database, replace(rule, text=text), now=now, time_zone=zone)
    except (RuleError, DatabaseError):
        await find_events(database, rule, now=now, time_zone=zone)
