"""When something is a problem, how bad it is, and what helps (SPEC O-4, O-4a)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from alerts_engine import HealthStatus, LastRun, Thresholds
from alerts_engine.operations.diagnosis import THRESHOLDS, Signs, problems_of, status_of
from alerts_engine.operations.due import DueState
from alerts_engine.operations.health import Housekeeping, NewestPhase, UncertainRows, UnconfiguredRows
from tests.support.world import settings

NOW = datetime(2025, 11, 10, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEPT = Housekeeping(NOW, None, None, 0, 0)
RUN = LastRun(UUID(int=1), "all", "success", "local", NOW, NOW, 10, None, "box", 7, None)
WELL = Signs(
    settings("postgresql://nobody@localhost/x"), NOW, {}, (), 0, (), (), frozenset(), RUN, False, {}, KEPT, 0.0
)  # fmt: skip


def found(**signs: object) -> dict[str, str]:
    return {problem.code: str(problem.severity) for problem in problems_of(replace(WELL, **signs))}


def end(status: str, minutes: float, **fields: object) -> NewestPhase:
    return replace(NewestPhase("c", status, NOW - minutes * MINUTE, NOW, 5, "because", None), **fields)


def test_when_all_is_well_there_is_no_problem():
    assert problems_of(WELL) == ()
    assert status_of(()) is HealthStatus.OK


@pytest.mark.parametrize(
    ("signs", "problems"),
    [
        ({"due": [DueState("email", 29, None)]}, {}),
        ({"due": [DueState("email", 30, None)]}, {"delivery_late": "degraded"}),
        ({"due": [DueState("email", None, 120)]}, {"digest_late": "failing"}),
        ({"recent": {"email": {"sent": 79, "failed": 20}}}, {"many_failures": "degraded"}),
        ({"recent": {"email": {"sent": 81, "retry": 19}}}, {}),
        ({"recent": {"email": {"sent": 2, "retry": 7, "uncertain": 1}}}, {"many_failures": "failing"}),
        ({"recent": {"email": {"failed": 9}}}, {}),
        ({"recent": {"email": {"skipped": 500, "sent": 10}}}, {}),
        ({"uncertain": [UncertainRows("sms", 3, NOW - 59 * MINUTE)]}, {}),
        ({"uncertain": [UncertainRows("sms", 3, NOW - 60 * MINUTE)]}, {"uncertain": "degraded"}),
        ({"unconfigured": [UnconfiguredRows("sms", 3)]}, {"skipped_unconfigured": "note"}),
        (
            {"unconfigured": [UnconfiguredRows("sms", 3)], "sent_lately": frozenset({"sms"})},
            {"skipped_unconfigured": "degraded"},
        ),
        ({"last_run": None}, {"no_run": "degraded"}),
        ({"last_run": replace(RUN, finished_at=NOW - 29 * MINUTE)}, {}),
        ({"last_run": replace(RUN, finished_at=NOW - 30 * MINUTE)}, {"no_run": "degraded"}),
        ({"last_run": replace(RUN, finished_at=NOW - 120 * MINUTE)}, {"no_run": "failing"}),
        ({"last_run": replace(RUN, status="failed", error_summary="interrupted")}, {"interrupted": "degraded"}),
        ({"events_outside_window": 1}, {"events_outside_window": "degraded"}),
        ({"phases": {"c": (end("failed", 1), end("success", 119))}}, {"phase_failed": "degraded"}),
        ({"phases": {"c": (end("failed", 1), end("success", 121))}}, {"phase_failed": "failing"}),
        ({"phases": {"c": (end("failed", 1),)}}, {"phase_failed": "degraded"}),
        ({"phases": {"c": (end("success", 1), end("failed", 2))}}, {}),
        ({"phases": {"c": (end("failed", 1, channels_down={"sms": "auth_failed"}),)}}, {"channel_down": "failing"}),
        ({"housekeeping": replace(KEPT, oldest_transaction_seconds=1799)}, {}),
        ({"housekeeping": replace(KEPT, oldest_transaction_seconds=1800)}, {"old_transaction": "degraded"}),
        ({"housekeeping": replace(KEPT, oldest_prepared_seconds=9000)}, {"old_transaction": "degraded"}),
        ({"housekeeping": replace(KEPT, dead_rows=100_000, live_rows=500_000)}, {"dead_rows": "degraded"}),
        ({"housekeeping": replace(KEPT, dead_rows=100_000, live_rows=500_001)}, {}),
        ({"housekeeping": replace(KEPT, dead_rows=99_999, live_rows=1)}, {}),
        ({"clock_apart_seconds": 5.0}, {}),
        ({"clock_apart_seconds": 5.1}, {"clock": "degraded"}),
    ],
    ids=str,
)
def test_each_threshold_is_where_it_is_documented(signs: dict[str, object], problems: dict[str, str]):
    assert found(**signs) == problems


def running(minutes: float) -> LastRun:
    return replace(RUN, status="running", finished_at=None, duration_ms=None, started_at=NOW - minutes * MINUTE)


@pytest.mark.parametrize(
    ("minutes", "is_locked", "problems"),
    [
        (4, False, {}),
        (6, False, {"interrupted": "degraded"}),
        (59, True, {}),
        (61, True, {"long_run": "degraded"}),
    ],
)
def test_a_run_that_runs_is_told_from_one_that_is_gone(minutes: float, is_locked: bool, problems: dict[str, str]):
    """By its lease and the locks (SPEC O-2)."""
    assert found(last_run=running(minutes), is_locked=is_locked) == problems


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"channels_paused": ("email",)}, {"paused": "note"}),
        ({"enabled": False}, {"disabled": "note"}),
        ({"send_allowlist_user_ids": (1,)}, {"allowlist": "note"}),
    ],
)
def test_what_is_set_on_purpose_makes_nothing_worse(fields: dict[str, object], problems: dict[str, str]):
    """A note; and what it explains is no problem."""
    chosen = settings("postgresql://nobody@localhost/x", **fields)
    signs = replace(WELL, settings=chosen, last_run=None if "enabled" in fields else RUN)
    notes = problems_of(signs)
    assert {one.code: str(one.severity) for one in notes} == problems
    assert status_of(notes) is HealthStatus.OK


def test_the_worst_comes_first_and_makes_the_status():
    signs = replace(
        WELL, events_outside_window=2, due=(DueState("email", 500, None),),
        settings=settings("postgresql://nobody@localhost/x", channels_paused=("sms",)),
    )  # fmt: skip
    problems = problems_of(signs)
    assert [one.severity for one in problems] == ["failing", "degraded", "note"]
    assert status_of(problems) is HealthStatus.FAILING
    assert all(one.command and not one.message.endswith(".") for one in problems)


def test_other_thresholds_may_be_given():
    assert problems_of(replace(WELL, events_outside_window=0, clock_apart_seconds=3), Thresholds(clock_seconds=2)) != ()
    assert Thresholds() == THRESHOLDS
