"""What the overview shows, put together from the operations (SPEC P-4, P-4a)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.admin.dashboard.charts import HOUR, SLOT, Strip, marks, strips
from alerts_engine.channels import channels
from alerts_engine.database import database_now
from alerts_engine.operations.activity import activity
from alerts_engine.operations.causes import FailureState
from alerts_engine.operations.failures import failures
from alerts_engine.operations.health import judged, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from alerts_engine.admin.dashboard.charts import Mark
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.operations.activity import Activity, Decided
    from alerts_engine.operations.failures import FailureReport
    from alerts_engine.operations.health import HealthReport, Reading
    from alerts_engine.operations.runs import RecordedRun
    from alerts_engine.settings import Settings

RUNS_SHOWN = 12
CAN_RETRY = frozenset({FailureState.EXHAUSTED, FailureState.NOT_CONFIGURED})
"""What a press of a button takes up again; the rest goes on by itself, or cannot."""


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One channel: its queue now, and its hours."""

    name: str
    state: str | None
    """``paused``, ``down`` or ``not configured``; ``None``: it works."""
    waiting: int
    sending: int
    uncertain: int
    oldest_minutes: float | None
    strip: Strip


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the decisions: how many went that way, and where the bar begins and ends, in per cent."""

    name: str
    count: int
    kind: str
    begins: float
    width: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The day in numbers, deliveries and digests together."""

    sent: int
    failed: int
    skipped: int
    waiting: int
    uncertain: int
    next_due: datetime | None
    due_ahead: int


@dataclass(frozen=True, slots=True)
class Overview:
    now: datetime
    health: HealthReport
    totals: Totals
    channels: tuple[ChannelRow, ...]
    failures: FailureReport
    steps: tuple[Step, ...]
    decided: Decided
    activity: Activity
    lanes: dict[str, list[Mark]]
    runs: Sequence[RecordedRun]

    @property
    def now_x(self) -> float:
        """Where the present stands among the hours."""
        return round(SLOT * ((self.now - self.activity.since) / HOUR), 2)

    @property
    def quarters(self) -> tuple[datetime, ...]:
        """Where the labels below the lanes stand, but for the last one, which is now."""
        since, whole = self.activity.since, self.now - self.activity.since
        return tuple(since + whole * number / 4 for number in range(4))


async def overview(engine: AlertsEngine) -> Overview:
    """Everything at a glance; nothing in it takes longer because there is more history."""
    now = await database_now(engine.database)
    found = await read(engine.database, now)
    report = judged(found, engine.settings)
    seen = await activity(engine.database, now)
    wrong = await failures(engine.database, engine.settings, now)
    rows = _channel_rows(_states(engine.settings, wrong), found, strips(seen))
    return Overview(
        now=now,
        health=report,
        totals=_totals(report, rows, seen),
        channels=rows,
        failures=wrong,
        steps=_steps(seen.decided),
        decided=seen.decided,
        activity=seen,
        lanes=marks(seen.phases, seen.since, now),
        runs=await engine.recorded_runs(RUNS_SHOWN),
    )


def _channel_rows(states: dict[str, str], found: Reading, drawn: Iterable[Strip]) -> tuple[ChannelRow, ...]:
    ages = {one.channel: [age for age in (one.delivery_minutes, one.digest_minutes) if age] for one in found.due}
    uncertain = {one.channel: one.rows for one in found.uncertain}
    return tuple(
        ChannelRow(
            name=strip.channel,
            state=states.get(strip.channel),
            waiting=_live(found, strip.channel, "queued"),
            sending=_live(found, strip.channel, "sending"),
            uncertain=uncertain.get(strip.channel, 0),
            oldest_minutes=max(ages.get(strip.channel, ()), default=None),
            strip=strip,
        )
        for strip in drawn
    )


def _live(found: Reading, channel: str, status: str) -> int:
    return sum(row.rows for row in found.live if row.channel == channel and row.status == status)


def _states(settings: Settings, wrong: FailureReport) -> dict[str, str]:
    """The most serious one of each channel."""
    missing = {name: "not configured" for name, spec in channels().items() if not spec.is_configured(settings)}
    down = {one.channel: "down" for one in wrong.causes if one.state is FailureState.CHANNEL_DOWN}
    return missing | down | dict.fromkeys(settings.channels_paused, "paused")


def _totals(report: HealthReport, rows: Iterable[ChannelRow], seen: Activity) -> Totals:
    kinds = [counts for kinds in report.deliveries["24h"].values() for counts in kinds.values()]
    counted = [*kinds, *report.digests["24h"].values()]
    return Totals(
        sent=sum(one.sent for one in counted),
        failed=sum(one.failed for one in counted),
        skipped=sum(one.skipped for one in counted),
        waiting=sum(row.waiting + row.sending for row in rows),
        uncertain=sum(row.uncertain for row in rows),
        next_due=min((one.hour for one in seen.due), default=None),
        due_ahead=sum(one.rows for one in seen.due),
    )


_REFUSALS = (
    ("plan", "the plan does not allow it"), ("preferences", "not wanted"), ("suppressed", "destination suppressed"),
    ("missing_destination", "no destination"), ("quota", "the day's quota is used up"),
)  # fmt: skip


def _steps(decided: Decided) -> tuple[Step, ...]:
    """From all decisions down to what became a delivery, each bar beginning where the one above it ended."""
    made = decided.instant + decided.digest
    refused = [(words, getattr(decided, name), name) for name, words in _REFUSALS]
    total = made + sum(count for _, count, _ in refused)
    if not total:
        return ()
    steps, left = [Step("decisions", total, "all", 0.0, 100.0)], 100.0
    for words, count, kind in refused:
        if count:
            width = 100.0 * count / total
            left -= width
            steps.append(Step(words, count, kind, round(left, 3), round(width, 3)))
    steps.append(Step("deliveries", made, "made", 0.0, round(100.0 * made / total, 3)))
    return tuple(steps)
