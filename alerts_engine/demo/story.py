"""The demo as a story: weeks of real history, a few runs a day, and what came of it (SPEC F-1, F-2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SecretStr

from alerts_engine.demo import ground
from alerts_engine.demo.audience import AUDIENCE
from alerts_engine.demo.history import replay
from alerts_engine.engine import AlertsEngine
from alerts_engine.errors import AlertsEngineError
from alerts_engine.settings import Settings, Variables
from alerts_engine.types import Phase

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping
    from datetime import date

    from alerts_engine.demo.ground import Received, Totals
    from alerts_engine.demo.history import Day
    from alerts_engine.phases.context import Progress
    from alerts_engine.reports import PhaseReport

APP_BASE_URL = "https://app.example.com"
"""Where the buttons in the demo's messages lead: a name that is reserved for examples."""
PUBLIC_BASE_URL = "https://alerts.example.com"
"""Where the links to stop lead: so, too."""
BUNDLE_FROM = 4
"""Who would get more alerts than this at once gets them as one message."""
MORNING = (time(6, 10), time(7, 20))
"""UTC. By the first the scores of 06:00 are there and yesterday's daily digests are due; by the second, hourly ones."""
NEWS = (time(11, 10), time(12, 20))
"""UTC, on days with news: by the first it is there, with the scores of 11:00; by the second, hourly digests are due."""


@dataclass(slots=True)
class PhaseTotals:
    """One phase over all runs of the replay."""

    phase: Phase
    status: str = "success"
    duration_ms: int = 0
    counts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def add(self, report: PhaseReport) -> None:
        """Sum up; what failed once has failed."""
        self.duration_ms += report.duration_ms
        _add_up(self.counts, report.counts)
        if report.status != "success":
            self.status = report.status
            self.error = report.error or report.reason


@dataclass(frozen=True, slots=True)
class Guest:
    """One of the audience, and how many messages reached them; without their address."""

    who: str
    plan: str | None
    email: int
    telegram: int
    sms: int
    digests: int
    digest_items: int

    @classmethod
    def of(cls, who: str, got: Received) -> Guest:
        """What the database says of ``who``."""
        return cls(who, got.plan, got.email, got.telegram, got.sms, got.digests, got.digest_items)


@dataclass(frozen=True, slots=True)
class Played:
    """What the replay came to."""

    JSON_ALSO: ClassVar = ("status",)

    days: int
    runs: int
    phases: tuple[PhaseTotals, ...]
    totals: Totals
    audience: tuple[Guest, ...]

    @property
    def status(self) -> str:
        """``success`` when every phase of every run was one."""
        return "success" if all(phase.status == "success" for phase in self.phases) else "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the replay, and what the application writes of a day before it."""

    now: datetime
    phase: Phase
    morning_of: Day | None = None
    news_of: Day | None = None


async def play(database_url: str, sandbox: Mapping[str, str], *, progress: Progress, stopping: asyncio.Event) -> Played:
    """Replay the default weeks from a clean slate; everything is sent to the sandbox with these settings of its.

    ``database_url`` is a migrated database that is the demo's own. Raises when it is not, or when ``stopping`` is set.
    """
    values: dict[str, Any] = {name.lower(): value for name, value in sandbox.items()}
    # The defaults, whatever the environment says: nothing can turn the demo off, or send it to a real provider.
    settings = Settings(
        _variables=Variables(),
        database_url=SecretStr(database_url),
        app_base_url=APP_BASE_URL,
        bundle_from=BUNDLE_FROM,
        link_secret=SecretStr("the-secret-of-a-demo-whose-links-lead-nowhere"),
        public_base_url=PUBLIC_BASE_URL,
        **values,
    )
    totals = {phase: PhaseTotals(phase) for phase in Phase.ALL.steps}
    steps = list(_steps())
    # Telegram's pace of a message a second per chat is real time: three weeks of alerts would take minutes.
    async with AlertsEngine(settings, pace=0.0) as engine:
        await ground.prepare(engine.database)
        for number, step in enumerate(steps):
            progress("replaying", number, len(steps))
            if stopping.is_set():
                raise AlertsEngineError("the demo was stopped: the next one begins again")
            if step.morning_of is not None:
                await ground.write_morning(engine.database, step.morning_of)
            if step.news_of is not None:
                await ground.write_news(engine.database, step.news_of)
            report = await engine.run(step.phase, now=step.now)
            for phase in report.phases:
                totals[phase.phase].add(phase)
        got = {one.address: one for one in await engine.database.rows(ground.received)}
        return Played(
            days=sum(step.morning_of is not None for step in steps),
            runs=len(steps),
            phases=tuple(totals.values()),
            totals=await engine.database.row(ground.count_rows),
            audience=tuple(Guest.of(user.who, got[user.email]) for user in AUDIENCE),
        )


def _steps() -> Iterator[Step]:
    """Each day's runs; the morning after, the last day's digests go out, and nothing is left in a queue."""
    early, later = MORNING
    for day in replay():
        yield Step(_at(day.date, early), Phase.ALL, morning_of=day)
        yield Step(_at(day.date, later), Phase.ALL)
        if day.events:
            told, digested = NEWS
            yield Step(_at(day.date, told), Phase.ALL, news_of=day)
            yield Step(_at(day.date, digested), Phase.ALL)
        morning_after = _at(day.date + timedelta(days=1), early)
    yield Step(morning_after, Phase.C)


def _at(day: date, tick: time) -> datetime:
    return datetime.combine(day, tick, tzinfo=UTC)


def _add_up(sums: dict[str, Any], counts: dict[str, Any]) -> None:
    """Add numbers to numbers, also in nested counts; words and flags stay as they were last."""
    for name, value in counts.items():
        if isinstance(value, dict):
            _add_up(sums.setdefault(name, {}), value)
        elif isinstance(value, int) and not isinstance(value, bool):
            sums[name] = sums.get(name, 0) + value
        else:
            sums[name] = value
