"""What would keep a run from doing its work, found before it starts: every problem at once (SPEC R-1, R-2).

It names variables, never values; it works with the database down, and it changes nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from alerts_engine.channels import channels
from alerts_engine.database import connect, database_now
from alerts_engine.errors import AlertsEngineError, DatabaseError, DatabaseUnreachableError, RuleError, SchemaError
from alerts_engine.phases.fan_out import events_outside_window
from alerts_engine.phases.rules import find_events
from alerts_engine.rendering import check_templates
from alerts_engine.schema import check_migrated
from alerts_engine.session_locks import try_session_locks
from alerts_engine.settings import variable_name
from alerts_engine.statements import migration_ids, rule_files, statement
from alerts_engine.types import SINCE_HOURS, Channel, Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence
    from datetime import datetime

    from alerts_engine.database import Database
    from alerts_engine.settings import SettingProblem, Settings
    from alerts_engine.statements import RuleFile

_RECORD = "_yoyo_migration"
_TABLES = (
    "events", "risk_events", "risk_indices", "asset_risk", "users", "user_plans", "plan_settings", "user_alert_prefs",
    "alert_events", "user_alert_deliveries", "user_alert_quotas", "user_alert_digests", "user_alert_digest_items",
    "user_notification_settings", "user_channel_preferences", "alerts_engine_runs", "alerts_engine_run_items",
)  # fmt: skip
"""SPEC DB-5 and DB-6, and what the quotas are counted in."""


@dataclass(frozen=True, slots=True)
class TableName:
    name: str


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


missing_tables = statement("preflight", "missing_tables", TableName)
held_deliveries = statement("preflight", "held_deliveries", Held)
unknown_users = statement("preflight", "unknown_users", UnknownUser)
odd_plans = statement("preflight", "odd_plans", OddPlan)


@dataclass(slots=True)
class Findings:
    """What preflight found; :meth:`as_json` is the JSON of ``preflight --json`` (SPEC R-1)."""

    db_ok: bool = False
    migrations_ok: bool = False
    channels_configured: dict[str, bool] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether a run may start."""
        return not self.errors

    def as_json(self) -> dict[str, Any]:
        """Plain values; each warning and error is one line, and there once."""
        return asdict(self) | {"warnings": _lines(self.warnings), "errors": _lines(self.errors)}


def _lines(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(" ".join(text.split()) for text in texts))


async def preflight(
    settings: Settings, phase: Phase = Phase.ALL, *, dry_run: bool = False, problems: Sequence[SettingProblem] = ()
) -> Findings:
    """Look for whatever would keep a run of ``phase`` from doing its work; raises nothing.

    ``problems`` tells which settings cannot be used, so that ``settings`` has their defaults.
    """
    broken = frozenset(variable for problem in problems for variable in problem.variables)
    findings = Findings(
        channels_configured={name: spec.is_configured(settings) for name, spec in channels().items()},
        warnings=[*_unset(settings, broken), *_restraints(settings), *_half_configured(settings, broken)],
        errors=[problem.text for problem in problems],
    )
    _check_any_channel(findings, settings, sends=Phase.C in phase.steps, dry_run=dry_run)
    rules = rule_files(settings.rules_dir) if Phase.A in phase.steps else []
    # A warning: a rule that fails keeps no other from running.
    findings.warnings += [f"rule {rule.path.name}: {rule.problem}" for rule in rules if rule.problem]
    if Phase.C in phase.steps:
        findings.warnings += _broken_templates(settings)
    if settings.database_url is not None:
        usable = [rule for rule in rules if not rule.problem]
        await _Inspection(findings, settings, usable).inspect(settings.database_url.get_secret_value())
    elif "DATABASE_URL" not in broken:
        findings.errors.append("DATABASE_URL is not set: set it, or use --embedded for a PostgreSQL of your own")
    return findings


# --- settings -------------------------------------------------------------------------------------------------------


def _unset(settings: Settings, broken: frozenset[str]) -> Iterator[str]:
    for name, otherwise in (
        ("time_zone", f"days begin at midnight in {settings.time_zone}"),
        ("app_base_url", "messages have no “View in app” link"),
    ):
        variable = variable_name(name)
        if name not in settings.model_fields_set and variable not in broken:
            yield f"{variable} is not set: {otherwise}"


def _restraints(settings: Settings) -> Iterator[str]:
    if not settings.enabled:
        yield "ALERTS_V2_ENABLED is not true: run does nothing"
    if settings.channels_paused:
        paused = ", ".join(dict.fromkeys(settings.channels_paused))
        yield f"ALERTS_CHANNELS_PAUSED is set: messages of {paused} stay queued"
    if settings.send_allowlist_user_ids is not None:
        count = len(set(settings.send_allowlist_user_ids))
        yield f"ALERTS_SEND_ALLOWLIST_USER_IDS is set: only {count} user(s) get alerts"


def _half_configured(settings: Settings, broken: frozenset[str]) -> Iterator[str]:
    for channel, spec in channels().items():
        credentials = spec.credentials(settings)
        missing = [name for name, is_set in credentials.items() if not is_set and name not in broken]
        provider_unknown = channel == Channel.EMAIL and "EMAIL_PROVIDER" in broken
        if missing and any(credentials.values()) and not provider_unknown:
            yield f"{channel} is half configured: {', '.join(missing)} not set"


def _check_any_channel(findings: Findings, settings: Settings, *, sends: bool, dry_run: bool) -> None:
    if not sends or any(findings.channels_configured.values()):
        return
    ways = ", or ".join(" and ".join(spec.credentials(settings)) for spec in channels().values())
    problem = f"no channel is configured, so nothing can be sent: set {ways}"
    rehearses = dry_run or not settings.enabled
    (findings.warnings if rehearses else findings.errors).append(problem)


def _broken_templates(settings: Settings) -> Iterator[str]:
    """Warnings, because a broken template's message is made by the built-in one."""
    for problem in check_templates(settings.templates_dir) if settings.templates_dir else []:
        line = "" if problem.line is None else f", line {problem.line}"
        yield f"template {problem.file}{line}: {problem.problem}; the built-in one is used"


# --- database -------------------------------------------------------------------------------------------------------


class _Inspection:
    """Looks into the database; what goes wrong at one place keeps no other from being looked at."""

    def __init__(self, findings: Findings, settings: Settings, rules: Sequence[RuleFile]) -> None:
        self._findings = findings
        self._settings = settings
        self._rules = rules

    async def inspect(self, url: str) -> None:
        try:
            async with connect(url, most_connections=2) as database:
                self._findings.db_ok = True
                await self._inspect(database)
        except AlertsEngineError as error:
            self._report(error)

    async def _inspect(self, database: Database) -> None:
        await self._try(self._schema(database))
        await self._try(self._locks(database))
        if self._findings.migrations_ok:
            await self._try(self._waiting(database))
            await self._try(self._allowlist(database))
            await self._try(self._plans(database))
            await self._try(self._try_rules(database))

    async def _try(self, look: Awaitable[None]) -> None:
        try:
            await look
        except AlertsEngineError as error:
            self._report(error)

    def _report(self, error: AlertsEngineError) -> None:
        self._findings.db_ok &= not isinstance(error, DatabaseUnreachableError)
        self._findings.errors.append(str(error))

    async def _schema(self, database: Database) -> None:
        missing = [table.name for table in await database.rows(missing_tables, names=[_RECORD, *_TABLES])]
        if _RECORD in missing:
            raise SchemaError(f"all {len(migration_ids())} migrations are pending: run alerts-engine migrate")
        await check_migrated(database)
        if missing:
            raise SchemaError(
                f"table(s) missing although no migration is pending: {', '.join(missing)}; restore them from a backup"
            )
        self._findings.migrations_ok = True

    async def _locks(self, database: Database) -> None:
        await try_session_locks(database)

    async def _waiting(self, database: Database) -> None:
        now = await database_now(database)
        outside = (await database.row(events_outside_window, now=now, since=timedelta(hours=SINCE_HOURS))).count
        if outside:
            self._findings.warnings.append(
                f"{outside} event(s) were never fanned out and are older than {SINCE_HOURS} hours: "
                "run --phase b --since-hours 0 fans them out"
            )
        held = (await database.row(held_deliveries)).deliveries
        if held:
            self._findings.warnings.append(
                f"{held} queued deliveries from before the engine are held (next_retry_at = 'infinity'): set their "
                "next_retry_at to NULL to have them sent, or their status to 'skipped'"
            )

    async def _allowlist(self, database: Database) -> None:
        allowed = self._settings.send_allowlist_user_ids or ()
        unknown = await database.rows(unknown_users, user_ids=sorted(set(allowed)))
        if unknown:
            ids = ", ".join(str(user.user_id) for user in unknown)
            self._findings.warnings.append(f"ALERTS_SEND_ALLOWLIST_USER_IDS names users that do not exist: {ids}")

    async def _plans(self, database: Database) -> None:
        for odd in await database.rows(odd_plans):
            self._findings.warnings.append(
                f"plan_settings of {odd.plan}: delivery_config cannot be understood at {', '.join(odd.parts)}, "
                "which counts as missing"
            )

    async def _try_rules(self, database: Database) -> None:
        now, zone = await database_now(database), self._settings.time_zone
        for rule in self._rules:
            try:
                await _try_rule(database, rule, now, zone)
            except (RuleError, DatabaseError) as error:
                self._findings.warnings.append(f"rule {rule.path.name}: {error}")


async def _try_rule(database: Database, rule: RuleFile, now: datetime, zone: str) -> None:
    """Try ``rule`` without its rows, since they may take long: what is wrong with it is known without them.

    What does not work inside another query, such as a comment after the semicolon, is then run as it stands.
    """
    text = f"SELECT * FROM (\n{rule.text}\n) AS found LIMIT 0"  # noqa: S608 - the operator's own file
    try:
        await find_events(database, replace(rule, text=text), now=now, time_zone=zone)
    except (RuleError, DatabaseError):
        await find_events(database, rule, now=now, time_zone=zone)
