"""What may cost somebody an alert although a run succeeded (SPEC CLI-6c): sentences for its report and its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alerts_engine.reports import PhaseSkip
from alerts_engine.types import Phase, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alerts_engine.reports import PhaseReport
    from alerts_engine.settings import Settings

_REFUSED = {
    Refusal.PLAN: "by the plan",
    Refusal.PREFS: "by preferences",
    Refusal.MISSING_DESTINATION: "without a destination",
    Refusal.QUOTA: "over the quota",
}
REFUSALS = {reason.count_name: _REFUSED[reason] for reason in Refusal}
"""Why the fan-out made no delivery, by the count of it (SPEC B-8)."""


def warnings_of(settings: Settings, reports: Sequence[PhaseReport]) -> tuple[str, ...]:
    """What the phases' reports and the settings warn of, in the order of the phases."""
    return (*settings.warnings, *(line for report in reports for line in _of_phase(settings, report)))


def _of_phase(settings: Settings, report: PhaseReport) -> Iterator[str]:
    if report.reason is PhaseSkip.LOCK_NOT_ACQUIRED:
        yield (
            f"phase {report.phase} was skipped: another run holds its lock; what that run leaves undone waits for "
            "the next one"
        )
    if report.phase is Phase.B and report.counts.get("events_processed") and not report.counts["deliveries_created"]:
        yield _reached_nobody(report.counts)
    if report.phase is Phase.C and not _any_channel(settings):
        yield _no_channel(settings)


def _any_channel(settings: Settings) -> bool:
    from alerts_engine.channels import channels  # phase C has imported it already; other phases need not

    return any(spec.is_configured(settings) for spec in channels().values())


def _reached_nobody(counts: Mapping[str, Any]) -> str:
    """It may be right, and looks the same when a plan or a setting is wrong for everybody."""
    events, users = counts["events_processed"], counts["users_considered"]
    whom = "1 event" if events == 1 else f"{events} events"
    if not users:
        return f"{whom} fanned out, and there was no user to look at: nobody gets any alert"
    refused = ", ".join(f"{counts[name]} {words}" for name, words in REFUSALS.items() if counts.get(name))
    passed = counts.get("users_skipped_allowlist")
    why = [*([f"refused {refused}"] if refused else []), *([f"{passed} not in the allowlist"] if passed else [])]
    told = f" ({'; '.join(why)})" if why else ""
    return (
        f"{whom} fanned out, and nobody gets any alert{told}: that may be right, "
        "and alerts-engine explain --user ID says why for one user"
    )


def _no_channel(settings: Settings) -> str:
    left = "stays queued" if settings.fail_open_on_channel_missing else "is skipped for good (a dry run skips nothing)"
    return (
        f"no channel is configured: nothing can be sent, and what is due {left}; "
        "alerts-engine preflight says what to set"
    )
