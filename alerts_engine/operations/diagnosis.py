"""What is wrong, how bad it is, and what helps: from the signs that `health` has read (SPEC O-4, O-4a). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from alerts_engine.channels import channels
from alerts_engine.types import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from alerts_engine.operations.due import DueState
    from alerts_engine.operations.health import (
        Housekeeping,
        LastRun,
        NewestPhase,
        UncertainRows,
        UnconfiguredRows,
    )
    from alerts_engine.settings import Settings


class HealthStatus(StrEnum):
    """How the engine is (SPEC O-4)."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, but somebody should look at it in the next hours."""
    FAILING = "failing"
    """Alerts do not go out."""


class Severity(StrEnum):
    """How bad a problem is; a note says what somebody has set, and makes nothing worse."""

    FAILING = "failing"
    DEGRADED = "degraded"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one sentence, and the command that helps."""

    code: str
    severity: Severity
    message: str
    command: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is a problem."""

    due_degraded_minutes: float = 30
    """Three runs of a cron of ten minutes had the chance to send it."""
    due_failing_minutes: float = 120
    """An alert that is two hours late is of no use to most readers."""
    least_attempts: int = 10
    """Fewer attempts in two hours say nothing about a channel."""
    bad_share_degraded: float = 0.2
    """Of the attempts of two hours, those that were no success. A few bad addresses are usual."""
    bad_share_failing: float = 0.8
    """More than bad addresses can explain: the provider, or the way to it."""
    uncertain_minutes: float = 60
    """Providers are asked after one minute, and again every ten: after an hour something keeps them from answering."""
    no_run_degraded_minutes: float = 30
    """GitHub starts a run every ten minutes, and is often late, seldom by three."""
    no_run_failing_minutes: float = 120
    """Everything due since then is late."""
    long_run_minutes: float = 60
    """The workflow ends a run after ten; by hand, an hour is a very large fan-out."""
    no_success_failing_minutes: float = 120
    """A phase that fails, and has not succeeded for this long, does not heal by itself."""
    transaction_minutes: float = 30
    """Nothing of the engine's takes that long; what is updated meanwhile leaves dead rows that every claim reads."""
    dead_rows: int = 100_000
    """Autovacuum is set to begin at a hundredth of the table …"""
    dead_share: float = 0.2
    """… so a fifth of it means that it does not come to its end."""
    clock_seconds: float = 5
    """Leases and retries go by the database's clock, log lines by ours: further apart, they contradict each other."""


THRESHOLDS = Thresholds()


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known, before it is judged."""

    settings: Settings
    now: datetime
    recent: Mapping[str, Mapping[str, int]]
    """Outcomes of the last two hours, by channel."""
    due: Sequence[DueState]
    events_outside_window: int
    uncertain: Sequence[UncertainRows]
    unconfigured: Sequence[UnconfiguredRows]
    """What was skipped in the last day, since its channel had no credentials."""
    sent_lately: frozenset[str]
    """The channels that sent anything in the last week."""
    last_run: LastRun | None
    is_locked: bool
    """Whether somebody holds the lock of a phase."""
    phases: Mapping[str, Sequence[NewestPhase]]
    """By phase, its newest ends, the newest first."""
    housekeeping: Housekeeping
    clock_apart_seconds: float

    def minutes_since(self, moment: datetime) -> float:
        return (self.now - moment) / timedelta(minutes=1)


def problems_of(signs: Signs, limits: Thresholds = THRESHOLDS) -> tuple[Problem, ...]:
    """The worst first."""
    found = [problem for check in _CHECKS for problem in check(signs, limits)]
    order = list(Severity)
    return tuple(sorted(found, key=lambda problem: order.index(problem.severity)))


def status_of(problems: Sequence[Problem]) -> HealthStatus:
    """The status that the worst problem makes."""
    severities = {problem.severity for problem in problems}
    if Severity.FAILING in severities:
        return HealthStatus.FAILING
    return HealthStatus.DEGRADED if Severity.DEGRADED in severities else HealthStatus.OK


# --- what each sign means -------------------------------------------------------------------------------------------


def _channels_down(signs: Signs, _: Thresholds) -> Iterator[Problem]:
    newest = _newest_end(signs, Phase.C)
    for channel, cause in sorted((newest.channels_down or {}).items() if newest is not None else ()):
        if channel not in signs.settings.channels_paused:
            yield Problem(
                "channel_down", Severity.FAILING,
                f"{channel} is down: {_DOWN.get(cause, cause)} ({cause}); its messages wait",
                "alerts-engine preflight --check-credentials",
            )  # fmt: skip


_DOWN = {
    "auth_failed": "the provider refuses the key",
    "out_of_credit": "the provider's account is out of credit",
    "quota_exhausted": "the provider's quota is used up",
    "queue_full": "the provider's queue is full",
}


def _late(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    """What is due and not sent; not what waits on purpose."""
    for state in signs.due:
        for what, minutes in (("delivery", state.delivery_minutes), ("digest", state.digest_minutes)):
            if minutes is None or minutes < limits.due_degraded_minutes or _waits_on_purpose(signs, state.channel):
                continue
            severity = Severity.FAILING if minutes >= limits.due_failing_minutes else Severity.DEGRADED
            message = f"the oldest {state.channel} {what} that is due has waited for {_ago(minutes)}"
            if signs.settings.send_allowlist_user_ids:
                message += "; rows of users outside ALERTS_SEND_ALLOWLIST_USER_IDS wait until it is unset"
                severity = Severity.DEGRADED
            yield Problem(f"{what}_late", severity, message, "alerts-engine failures")


def _waits_on_purpose(signs: Signs, channel: str) -> bool:
    settings = signs.settings
    spec = channels().get(channel)
    is_configured = spec is not None and spec.is_configured(settings)
    return channel in settings.channels_paused or (settings.fail_open_on_channel_missing and not is_configured)


def _bad_share(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    for channel, outcomes in sorted(signs.recent.items()):
        bad = outcomes.get("failed", 0) + outcomes.get("retry", 0) + outcomes.get("uncertain", 0)
        attempts = bad + outcomes.get("sent", 0)
        if attempts < limits.least_attempts or bad < limits.bad_share_degraded * attempts:
            continue
        severity = Severity.FAILING if bad >= limits.bad_share_failing * attempts else Severity.DEGRADED
        yield Problem(
            "many_failures", severity,
            f"{bad:,} of the {attempts:,} sends by {channel} in the last two hours did not succeed",
            f"alerts-engine failures --channel {channel}",
        )  # fmt: skip


def _uncertain(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    for rows in signs.uncertain:
        minutes = signs.minutes_since(rows.oldest)
        if minutes >= limits.uncertain_minutes:
            yield Problem(
                "uncertain", Severity.DEGRADED,
                f"{_many(rows.rows, rows.channel + ' send')} may have been accepted or not, the oldest for "
                f"{_ago(minutes)}: the provider could not be asked yet",
                f"alerts-engine failures --channel {rows.channel}",
            )  # fmt: skip


def _unconfigured(signs: Signs, _: Thresholds) -> Iterator[Problem]:
    """A channel that sent before has lost its credentials; one that never did may be meant to have none."""
    for rows in signs.unconfigured:
        lost = rows.channel in signs.sent_lately
        verb = "was" if rows.rows == 1 else "were"
        yield Problem(
            "skipped_unconfigured", Severity.DEGRADED if lost else Severity.NOTE,
            f"{_many(rows.rows, rows.channel + ' message')} of the last day {verb} skipped: the channel had no "
            "credentials",
            "alerts-engine retry-failed --kind deliveries --since-hours 24 --reason channel_not_configured",
        )  # fmt: skip


def _no_run(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    if not signs.settings.enabled:
        yield Problem(
            "disabled", Severity.NOTE, "ALERTS_V2_ENABLED is off: runs do nothing", "alerts-engine config show"
        )
        return
    if signs.last_run is None:
        yield Problem("no_run", Severity.DEGRADED, "there has been no run yet", "alerts-engine run --phase all")
        return
    minutes = signs.minutes_since(signs.last_run.finished_at or signs.last_run.started_at)
    if minutes >= limits.no_run_degraded_minutes and signs.last_run.status != "running":
        severity = Severity.FAILING if minutes >= limits.no_run_failing_minutes else Severity.DEGRADED
        yield Problem(
            "no_run", severity, f"the last run ended {_ago(minutes)} ago: is the schedule on?", "alerts-engine runs"
        )


def _run_state(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    run = signs.last_run
    if run is None:
        return
    if run.status == "running":
        yield from _running(signs, run, limits)
    elif run.error_summary == "interrupted":
        yield Problem(
            "interrupted", Severity.DEGRADED,
            f"the last run was interrupted: its process{_where(run)} was killed or lost",
            "alerts-engine runs show last",
        )  # fmt: skip


def _running(signs: Signs, run: LastRun, limits: Thresholds) -> Iterator[Problem]:
    minutes = signs.minutes_since(run.started_at)
    lease = signs.settings.send_lease_seconds / 60
    if minutes > lease and not signs.is_locked:
        yield Problem(
            "interrupted", Severity.DEGRADED,
            f"the last run began {_ago(minutes)} ago and holds nothing: its process{_where(run)} was killed or lost",
            "alerts-engine run --phase all",
        )  # fmt: skip
    elif minutes >= limits.long_run_minutes:
        yield Problem(
            "long_run", Severity.DEGRADED, f"a run has been running for {_ago(minutes)}{_where(run)}",
            "alerts-engine runs show last",
        )  # fmt: skip


def _where(run: LastRun) -> str:
    return "" if run.host is None else f" (host {run.host}, process {run.pid})"


def _failed_phases(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    for name, ends in signs.phases.items():
        newest = ends[0]
        if newest.status != "failed" or newest.channels_down:
            continue
        success = next((one for one in ends if one.status == "success"), None)
        minutes = None if success is None else signs.minutes_since(success.started_at)
        is_long = minutes is not None and minutes >= limits.no_success_failing_minutes
        last = "it has never succeeded" if minutes is None else f"it last succeeded {_ago(minutes)} ago"
        yield Problem(
            "phase_failed", Severity.FAILING if is_long else Severity.DEGRADED,
            f"phase {name} failed: {_short(newest.error_summary)}; {last}",
            "alerts-engine runs show last",
        )  # fmt: skip


def _short(text: str | None) -> str:
    line = " ".join((text or "no reason was kept").split())
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 1]}…"


_LONGEST_REASON = 200


def _outside_window(signs: Signs, _: Thresholds) -> Iterator[Problem]:
    count = signs.events_outside_window
    if count:
        verb = "was" if count == 1 else "were"
        yield Problem(
            "events_outside_window", Severity.DEGRADED,
            f"{_many(count, 'event')} {verb} not fanned out in time and will not be, unless the window is made longer",
            "alerts-engine run --phase b --since-hours 0",
        )  # fmt: skip


def _housekeeping(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    kept = signs.housekeeping
    oldest = max(kept.oldest_transaction_seconds or 0, kept.oldest_prepared_seconds or 0) / 60
    if oldest >= limits.transaction_minutes:
        yield Problem(
            "old_transaction", Severity.DEGRADED,
            f"a transaction has been open for {_ago(oldest)}: vacuum cannot clean up behind it, and sending slows down",
            'psql "$DATABASE_URL" -c "SELECT pid, usename, application_name, xact_start FROM pg_stat_activity '
            'WHERE backend_xmin IS NOT NULL ORDER BY xact_start LIMIT 5"',
        )  # fmt: skip
    if kept.dead_rows >= limits.dead_rows and kept.dead_rows >= limits.dead_share * max(kept.live_rows, 1):
        yield Problem(
            "dead_rows", Severity.DEGRADED,
            f"{kept.dead_rows:,} dead rows lie among {kept.live_rows:,} deliveries and digests: autovacuum does not "
            "keep up",
            'psql "$DATABASE_URL" -c "VACUUM (ANALYZE, VERBOSE) user_alert_deliveries, user_alert_digests"',
        )  # fmt: skip


def _clock(signs: Signs, limits: Thresholds) -> Iterator[Problem]:
    if signs.clock_apart_seconds > limits.clock_seconds:
        yield Problem(
            "clock", Severity.DEGRADED,
            f"the clocks of the database and of this computer are {signs.clock_apart_seconds:,.0f} s apart",
            "timedatectl status",
        )  # fmt: skip


def _set_on_purpose(signs: Signs, _: Thresholds) -> Iterator[Problem]:
    settings = signs.settings
    if settings.channels_paused:
        names = ", ".join(sorted(settings.channels_paused))
        yield Problem(
            "paused", Severity.NOTE, f"paused by ALERTS_CHANNELS_PAUSED: {names}; what is due there waits",
            "alerts-engine config show",
        )  # fmt: skip
    if settings.send_allowlist_user_ids:
        count = len(settings.send_allowlist_user_ids)
        yield Problem(
            "allowlist", Severity.NOTE,
            f"only {_many(count, 'user')} can get alerts: ALERTS_SEND_ALLOWLIST_USER_IDS is set",
            "alerts-engine preflight",
        )  # fmt: skip


_CHECKS: tuple[Callable[[Signs, Thresholds], Iterator[Problem]], ...] = (
    _channels_down, _failed_phases, _bad_share, _late, _no_run, _run_state, _uncertain, _unconfigured, _outside_window,
    _housekeeping, _clock, _set_on_purpose,
)  # fmt: skip
"""In the order in which a reader wants to know."""


def _newest_end(signs: Signs, phase: Phase) -> NewestPhase | None:
    ends = signs.phases.get(phase)
    return ends[0] if ends else None


def _many(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


_HOUR_MINUTES, _DAY_MINUTES = 120, 48 * 60


def _ago(minutes: float) -> str:
    """How long, as a person says it."""
    if minutes < _HOUR_MINUTES:
        return _many(max(round(minutes), 0), "minute")
    return _many(round(minutes / 60), "hour") if minutes < _DAY_MINUTES else _many(round(minutes / 1440), "day")
