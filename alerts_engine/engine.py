"""The engine as an application or the command line has it: a facade over runs and operations (SPEC section 22)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from alerts_engine.database import Database, connect, database_now
from alerts_engine.errors import NotOpenError, SettingsError
from alerts_engine.phases.context import Progress, no_progress
from alerts_engine.run import Run, RunRequest
from alerts_engine.settings import Settings, load_settings
from alerts_engine.types import SINCE_HOURS, Phase

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from uuid import UUID

    from alerts_engine.operations.explain import Explanation
    from alerts_engine.operations.preview import Previewed, PreviewKind
    from alerts_engine.operations.rule_trial import RuleTrial
    from alerts_engine.operations.runs import RecordedRun
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.reports import RunReport
    from alerts_engine.statements import RuleFile


class AlertsEngine:
    """The engine on one database: ``async with AlertsEngine(settings) as engine: await engine.run(Phase.ALL)``.

    It can be opened again after it was closed.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        progress: Progress = no_progress,
        pace: float = 1.0,
    ) -> None:
        """``pace``: how much longer messages to one destination wait for each other than the channel asks for.

        1 is what the channel asks for (a second for a Telegram chat); 0, no wait, only where nobody real reads them.
        """
        self.settings = settings if settings is not None else load_settings()
        self._progress = progress
        self._pace = pace
        self._stack = AsyncExitStack()
        self._database: Database | None = None
        self._was_open = False
        self._runs: set[Run] = set()

    async def __aenter__(self) -> Self:
        if self.settings.database_url is None:
            raise SettingsError("DATABASE_URL is not set: set it, or use --embedded for a PostgreSQL of your own")
        self._database = await self._stack.enter_async_context(connect(self.settings.database_url.get_secret_value()))
        self._was_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database = None
        await self._stack.aclose()

    @property
    def database(self) -> Database:
        """The pool; only inside ``async with``. Raises :class:`NotOpenError` before and after."""
        if self._database is None:
            state = "not open any more: it was closed" if self._was_open else "not open"
            raise NotOpenError(f"the engine is {state}; use it inside 'async with AlertsEngine(settings) as engine'")
        return self._database

    # --- doing ------------------------------------------------------------------------------------------------------

    async def publish(self, event: NewEvent) -> tuple[int, bool]:
        """Insert an application's own event: its id, and whether it is new (SPEC A-7).

        Raises :class:`RuleError` when the event is not one.
        """
        from alerts_engine.phases.generate import publish_event

        return await publish_event(self.database, event, await database_now(self.database))

    async def run(
        self,
        phase: Phase = Phase.ALL,
        *,
        dry_run: bool = False,
        since_hours: float = SINCE_HOURS,
        batch_size: int | None = None,
        now: datetime | None = None,
        stopping: asyncio.Event | None = None,
    ) -> RunReport:
        """Run ``phase`` and report; ``now`` (aware) replays another moment. A phase's failure is in the report.

        Setting ``stopping`` ends this run as :meth:`request_stop` does. Raises :class:`SettingsError` for an argument
        out of range, :class:`SchemaError` or :class:`DatabaseUnreachableError` when nothing could be begun.
        """
        run = Run(
            self.database,
            self.settings,
            RunRequest(phase, dry_run, since_hours, batch_size, now),
            stopping=stopping or asyncio.Event(),
            progress=self._progress,
            pace=self._pace,
        )
        self._runs.add(run)
        try:
            return await run.execute()
        finally:
            self._runs.discard(run)

    def request_stop(self) -> None:
        """End the runs under way, not those after them: stop claiming, finish what is in flight, close the record.

        Returns at once (SPEC CLI-7, I-3).
        """
        for run in self._runs:
            run.stopping.set()

    # --- asking -----------------------------------------------------------------------------------------------------

    async def explain(self, user_id: int, event_id: int | None = None) -> list[Explanation]:
        """Why this user does or does not get the event, or the ten newest ones, per channel (SPEC B-9).

        Raises :class:`NotFoundError`.
        """
        from alerts_engine.operations.explain import explain

        now = await database_now(self.database)
        return await explain(self.database, self.settings, user_id=user_id, event_id=event_id, now=now)

    async def preview(self, kind: PreviewKind, row_id: int) -> Previewed:
        """What the message of a delivery, a digest or an event is made of. Raises :class:`NotFoundError`."""
        from alerts_engine.operations.preview import preview

        return await preview(self.database, kind, row_id)

    async def try_rule(self, rule: RuleFile, *, now: datetime | None = None) -> RuleTrial:
        """The events that ``rule`` would create at ``now``; nothing is written. Raises :class:`RuleError`."""
        from alerts_engine.operations.rule_trial import try_rule

        moment = now or await database_now(self.database)
        return await try_rule(self.database, rule, now=moment, time_zone=self.settings.time_zone)

    async def recorded_runs(self, limit: int = 20) -> list[RecordedRun]:
        """The newest runs of the history first, each with its phases (SPEC O-1)."""
        from alerts_engine.operations.runs import newest_runs

        return await newest_runs(self.database, limit)

    async def recorded_run(self, run_id: UUID) -> RecordedRun:
        """One run of the history. Raises :class:`NotFoundError`."""
        from alerts_engine.operations.runs import recorded_run

        return await recorded_run(self.database, run_id)
