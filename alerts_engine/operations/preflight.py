"""What would keep a run from doing its work, found before it starts: every problem at once (SPEC R-1, R-2).

It names variables, never values; it works with the database down, and it changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from alerts_engine.channels import build_adapters, channels
from alerts_engine.channels.credential_check import Verdict, check_credentials
from alerts_engine.channels.http import create_session
from alerts_engine.operations.findings import Findings
from alerts_engine.operations.preflight_database import inspect_database
from alerts_engine.operations.templates import template_problems
from alerts_engine.settings import variable_name
from alerts_engine.statements import rule_files
from alerts_engine.types import Channel, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alerts_engine.settings import SettingProblem, Settings


async def preflight(
    settings: Settings,
    phase: Phase = Phase.ALL,
    *,
    dry_run: bool = False,
    problems: Sequence[SettingProblem] = (),
    ask_providers: bool = False,
) -> Findings:
    """Look for whatever would keep a run of ``phase`` from doing its work; raises nothing.

    ``problems`` tells which settings cannot be used, so that ``settings`` has their defaults. With ``ask_providers``
    each configured provider is asked whether it takes its credentials.
    """
    broken = frozenset(variable for problem in problems for variable in problem.variables)
    findings = Findings(channels_configured={name: spec.is_configured(settings) for name, spec in channels().items()})
    findings.warn(
        *settings.warnings,
        *_unset(settings, broken),
        *_restraints(settings),
        *_half_configured(settings, broken),
        *_half_linked(settings, broken),
    )
    findings.fail(*(problem.text for problem in problems))
    _check_any_channel(findings, settings, sends=Phase.C in phase.steps, dry_run=dry_run)
    rules = rule_files(settings.rules_dir) if Phase.A in phase.steps else []
    # A warning: a rule that fails keeps no other from running.
    findings.warn(*(f"rule {rule.path.name}: {rule.problem}" for rule in rules if rule.problem))
    if Phase.C in phase.steps:
        findings.warn(*_broken_templates(settings))
    if ask_providers:
        await _check_credentials(findings, settings)
    if settings.database_url is not None:
        usable = [rule for rule in rules if not rule.problem]
        await inspect_database(findings, settings, usable)
    elif "DATABASE_URL" not in broken:
        findings.fail("DATABASE_URL is not set: set it, or use --embedded for a PostgreSQL of your own")
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


def _half_linked(settings: Settings, broken: frozenset[str]) -> Iterator[str]:
    """Links by which readers stop alerts need both settings, and mail programs need https (SPEC U-1)."""
    names = {name: variable_name(name) for name in ("link_secret", "public_base_url")}
    unset = [variable for name, variable in names.items() if getattr(settings, name) is None]
    if len(unset) == 1 and unset[0] not in broken:
        (given,) = set(names.values()) - set(unset)
        yield f"{given} is set and {unset[0]} is not: emails have no unsubscribe link until both are"
    if settings.public_base_url is not None and not settings.public_base_url.startswith("https://"):
        yield f"{names['public_base_url']} does not begin with https://: mail programs show no unsubscribe button"


def _check_any_channel(findings: Findings, settings: Settings, *, sends: bool, dry_run: bool) -> None:
    if not sends or any(findings.channels_configured.values()):
        return
    ways = ", or ".join(" and ".join(spec.credentials(settings)) for spec in channels().values())
    problem = f"no channel is configured, so nothing can be sent: set {ways}"
    rehearses = dry_run or not settings.enabled
    (findings.warn if rehearses else findings.fail)(problem)


async def _check_credentials(findings: Findings, settings: Settings) -> None:
    async with create_session() as session:
        checks = await check_credentials(build_adapters(settings, session).values())
    findings.credentials = {one.channel: one.verdict for one in checks}
    for one in checks:
        variables, provider = " and ".join(one.variables), one.provider.capitalize()
        match one.verdict:
            case Verdict.GOOD:
                pass
            case Verdict.BAD:
                findings.fail(f"{provider} refuses {variables} ({one.detail}): set what its console shows")
            case Verdict.NOT_ALLOWED:
                findings.warn(
                    f"{provider} does not let {variables} ask about the account ({one.detail}): it may still send"
                )
            case Verdict.NO_ANSWER:
                findings.warn(
                    f"{provider} could not be asked about {variables} ({one.detail}): try again, or look at "
                    f"{one.provider.upper()}_BASE_URL and the network"
                )
            case _:
                assert_never(one.verdict)


def _broken_templates(settings: Settings) -> Iterator[str]:
    """Warnings, because a broken template's message is made by the built-in one."""
    for problem in template_problems(settings.templates_dir):
        line = "" if problem.line is None else f", line {problem.line}"
        yield f"template {problem.file}{line}: {problem.problem}; the built-in one is used"
