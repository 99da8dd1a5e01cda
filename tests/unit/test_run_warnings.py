"""What a run warns of although it succeeds (SPEC CLI-6c)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alerts_engine.reports import PhaseReport, PhaseSkip
from alerts_engine.run_warnings import warnings_of
from alerts_engine.types import Phase
from tests.support.world import settings

NOW = datetime(2026, 3, 29, tzinfo=UTC)
NOBODY = {"events_processed": 2, "users_considered": 24, "deliveries_created": 0}
TELEGRAM = {"telegram_bot_token": "123456:token"}


def report(phase: Phase, counts: dict[str, Any] | None = None, reason: PhaseSkip | None = None) -> PhaseReport:
    return PhaseReport.of(phase, NOW, NOW, locked=reason is None, counts=counts, reason=reason)


def warned(*reports: PhaseReport, **fields: Any) -> tuple[str, ...]:
    return warnings_of(settings("postgresql://h/d", **fields), reports)


def test_no_channel_at_all_is_warned_of_where_phase_c_ran():
    """It says what becomes of what is due, and where to read what to set."""
    (warning,) = warned(report(Phase.B), report(Phase.C))
    assert warning.startswith("no channel is configured")
    assert "for good" in warning
    assert "alerts-engine preflight" in warning
    (kept,) = warned(report(Phase.C), fail_open_on_channel_missing=True)
    assert "stays queued" in kept
    assert warned(report(Phase.A), report(Phase.B), report(Phase.D)) == ()
    assert warned(report(Phase.C), **TELEGRAM) == ()


def test_a_lock_that_another_run_holds_is_warned_of_by_phase():
    """Each phase that was left out."""
    skipped = report(Phase.A, reason=PhaseSkip.LOCK_NOT_ACQUIRED)
    (warning,) = warned(skipped, report(Phase.B))
    assert warning.startswith("phase a was skipped: another run holds its lock")


def test_events_that_reach_nobody_are_warned_of_with_the_reasons():
    """Carefully: it may be right, and it looks the same when a plan is wrong for everybody."""
    refused = {"deliveries_skipped_plan": 20, "deliveries_skipped_quota": 4, "users_skipped_allowlist": 9}
    (warning,) = warned(report(Phase.B, NOBODY | refused))
    assert warning.startswith(
        "2 events fanned out, and nobody gets any alert (refused 20 by the plan, 4 over the quota; "
        "9 not in the allowlist): that may be right"
    )
    (empty,) = warned(report(Phase.B, NOBODY | {"events_processed": 1, "users_considered": 0}))
    assert empty == "1 event fanned out, and there was no user to look at: nobody gets any alert"


def test_a_fan_out_that_reached_somebody_or_had_no_event_is_no_warning():
    """Nor one that could not count."""
    for counts in (NOBODY | {"deliveries_created": 1}, NOBODY | {"events_processed": 0}, {}):
        assert warned(report(Phase.B, counts)) == ()
