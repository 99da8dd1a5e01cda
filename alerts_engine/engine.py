"""The engine as an application or the command line has it: a facade over runs and operations (SPEC section 22)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Self

import structlog

from alerts_engine.database import Database, connect, database_now
from alerts_engine.errors import AlertsEngineError, NotOpenError, SchemaError, SettingsError
from alerts_engine.metering import count_outcome, measure_run
from alerts_engine.phases.context import Progress, no_progress
from alerts_engine.run import Run, RunRequest
from alerts_engine.settings import Settings, load_settings
from alerts_engine.tracing import span
from alerts_engine.types import SINCE_HOURS, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType
    from uuid import UUID

    from alerts_engine.database import Connection, Pool
    from alerts_engine.operations.delivery_life import Life
    from alerts_engine.operations.explain import Explanation
    from alerts_engine.operations.failures import FailureReport
    from alerts_engine.operations.health import HealthReport
    from alerts_engine.operations.preview import Previewed, PreviewKind
    from alerts_engine.operations.prune import Pruned
    from alerts_engine.operations.publish import Published, Publisher
    from alerts_engine.operations.retry_failed import RetriedFailed, RetryReason
    from alerts_engine.operations.rule_trial import RuleTrial
    from alerts_engine.operations.runs import RecordedRun, RunName
    from alerts_engine.operations.summary import QueueState
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.phases.send.claims import SourceName
    from alerts_engine.reports import RunReport
    from alerts_engine.statements import RuleFile
    from alerts_engine.types import SendOutcome


log = structlog.get_logger("alerts_engine")

_CONNECTIONS_OF_A_RUN, _CONNECTIONS_OF_A_DRY_RUN = 3, 7
"""A phase's lock, its statements and the clock; a dry run holds the locks of all phases to its end."""


class AlertsEngine:
    """The engine on one database. It can be opened again after it was closed.

    It belongs to the event loop that opened it; several engines in one process do not disturb each other.

    >>> async def main():
    ...     async with AlertsEngine(settings) as engine:
    ...         await engine.publish(event)
    ...         return await engine.run()
    >>> print(run(main()).status)
    success
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        pool: Pool | None = None,
        progress: Progress = no_progress,
        pace: float = 1.0,
    ) -> None:
        """``settings``: what :func:`load_settings` reads from the environment unless given.

        ``pool``: an asyncpg pool of the application's, open on the event loop that opens the engine. It is used instead
        of ``settings.database_url``, it is never closed, and its connections go back as they came. A run holds up to
        three of them, a dry run seven.

        ``pace``: how much longer messages to one destination wait for each other than the channel asks for.

        1 is what the channel asks for (a second for a Telegram chat); 0, no wait, only where nobody real reads them.
        """
        self.settings = settings if settings is not None else load_settings()
        self._pool = pool
        self._progress = progress
        self._pace = pace
        self._stack = AsyncExitStack()
        self._database: Database | None = None
        self._was_open = False
        self._runs: set[Run] = set()
        self._publisher: Publisher | None = None
        self._listeners: list[Callable[[SendOutcome], None]] = []

    async def __aenter__(self) -> Self:
        if self._database is not None:
            raise AlertsEngineError("the engine is open already: close it first, or make another AlertsEngine")
        self._database = await (self._connect() if self._pool is None else self._borrow(self._pool))
        self._was_open = True
        return self

    async def _connect(self) -> Database:
        if self.settings.database_url is None:
            raise SettingsError("DATABASE_URL is not set: set it, or use --embedded for a PostgreSQL of your own")
        return await self._stack.enter_async_context(connect(self.settings.database_url.get_secret_value()))

    async def _borrow(self, pool: Pool) -> Database:
        from alerts_engine.database.borrowed import BorrowedPool
        from alerts_engine.operations.publish import Publisher

        database = BorrowedPool(pool)
        await database.check()
        self._publisher = Publisher(database, self.settings)
        with suppress(SchemaError):  # whoever publishes or runs gets it, if nobody migrates meanwhile
            await self._publisher.find_table()
        return database

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database = self._publisher = None
        await self._stack.aclose()

    @property
    def database(self) -> Database:
        """The pool; only inside ``async with``. Raises :class:`NotOpenError` before and after."""
        if self._database is None:
            state = "not open any more: it was closed" if self._was_open else "not open"
            raise NotOpenError(f"the engine is {state}; use it inside 'async with AlertsEngine(settings) as engine'")
        return self._database

    # --- doing ------------------------------------------------------------------------------------------------------

    async def publish(self, event: NewEvent, *, connection: Connection | None = None) -> Published:
        """Publish an application's own event; the next run fans it out (SPEC A-7, I-1).

        ``connection`` is an asyncpg connection of the application's, to the same database: the event is inserted within
        its transaction, and is there exactly when that commits. What fails leaves that transaction usable. Without
        ``connection`` the event is committed at once.

        An event whose fingerprint is known is left alone: ``created`` is ``False`` then, and ``event_id`` the known
        one's. Raises :class:`DatabaseError` or :class:`DatabaseUnreachableError`; in a transaction that is repeatable
        read or serializable, its ``sqlstate`` may be ``40001``: begin that transaction again.

        >>> async def report(pool, engine, event):
        ...     async with pool.acquire() as connection, connection.transaction():
        ...         await connection.execute("INSERT INTO outages (plant) VALUES ('Freeport')")
        ...         return await engine.publish(event, connection=connection)
        >>> run(report(pool, engine, event)).created
        True
        """
        return (await self.publish_many([event], connection=connection))[0]

    async def publish_many(
        self, events: Sequence[NewEvent], *, connection: Connection | None = None
    ) -> list[Published]:
        """Publish several events in one statement: all of them or none. The results are in the order given.

        The rest is as with :meth:`publish`.

        >>> [published.created for published in run(engine.publish_many([event, event]))]
        [True, False]
        """
        from alerts_engine.operations.publish import Publisher

        if self._publisher is None:
            self._publisher = Publisher(self.database, self.settings)
        return await self._publisher.publish(events, connection)

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
        """Run ``phase`` and report. A phase's failure is in the report, and so is what may cost somebody an alert.

        ``dry_run`` shows what would be done, and does nothing. ``since_hours``: older events are not fanned out; 0 is
        no limit. ``batch_size``: most rows a claim takes. ``now`` (aware) replays another moment. Setting ``stopping``
        ends this run as :meth:`request_stop` does; a run that is cancelled instead leaves its claims to their leases.

        Raises :class:`SettingsError` for an argument out of range, :class:`SchemaError` or
        :class:`DatabaseUnreachableError` when nothing could be begun.

        >>> report = run(engine.run(Phase.ALL))
        >>> [(str(phase.phase), str(phase.status)) for phase in report.phases]
        [('a', 'success'), ('b', 'success'), ('d', 'success'), ('c', 'success')]
        >>> [message.destination for message in inbox.messages]
        ['a@example.com']
        """
        request = RunRequest(phase, dry_run, since_hours, batch_size, now)
        self.database.check_room(_CONNECTIONS_OF_A_DRY_RUN if dry_run else _CONNECTIONS_OF_A_RUN)
        run = Run(
            self.database,
            self.settings,
            request,
            stopping=stopping or asyncio.Event(),
            progress=self._progress,
            pace=self._pace,
            on_outcome=self._tell,
        )
        self._runs.add(run)
        try:
            with span("run", run_id=str(run.run_id), phase=phase, dry_run=dry_run) as note:
                report = await run.execute()
                note({"status": report.status})
            measure_run(report)
            return report
        finally:
            self._runs.discard(run)

    def request_stop(self) -> None:
        """End the runs under way, not those after them: stop claiming, finish what is in flight, close the record.

        Returns at once (SPEC CLI-7, I-3).

        >>> loop.add_signal_handler(signal.SIGTERM, engine.request_stop)
        """
        for run in self._runs:
            run.stopping.set()

    def on_outcome(self, callback: Callable[[SendOutcome], None]) -> None:
        """Call ``callback`` with what became of each message of this engine's runs, once that is known (SPEC I-5).

        A message that will be tried again comes again. ``callback`` is called on the event loop, so it should return at
        once, such as after a ``put_nowait``; what it raises is logged, and disturbs nothing. Rows that are ended as a
        set, without a look at each (a channel without credentials), are in the report's counts alone.

        >>> seen: list[SendOutcome] = []
        >>> engine.on_outcome(seen.append)
        >>> report = run(engine.run())
        >>> [(str(one.channel), type(one.outcome).__name__) for one in seen]
        [('email', 'Sent')]
        """
        self._listeners.append(callback)

    def _tell(self, outcome: SendOutcome) -> None:
        count_outcome(outcome)
        for listener in self._listeners:
            try:
                listener(outcome)
            except Exception as error:  # noqa: BLE001 - an application's callback must not stop a send
                log.error("on_outcome_failed", error=type(error).__name__)

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, stopping: asyncio.Event | None = None
    ) -> Pruned:
        """Delete what is finished, older than that, and needed by nothing; in batches that block nobody (SPEC K-1).

        Setting ``stopping`` ends it after the batch under way; the next call goes on. Raises :class:`SettingsError`
        for an age below a week.

        >>> pruned = run(engine.prune(timedelta(days=90)))
        >>> (pruned.events, pruned.deliveries, pruned.stopped)
        (0, 0, False)
        """
        from alerts_engine.operations.prune import prune

        return await prune(
            self.database,
            self.settings,
            older_than=older_than,
            now=await database_now(self.database),
            dry_run=dry_run,
            stopping=stopping or asyncio.Event(),
            progress=self._progress,
        )

    async def retry_failed(
        self,
        kind: SourceName,
        since_hours: float,
        *,
        reset_attempts: bool = False,
        reason: RetryReason | None = None,
        cause: str | None = None,
        channel: str | None = None,
        dry_run: bool = False,
        stopping: asyncio.Event | None = None,
    ) -> RetriedFailed:
        """Queue rows again that failed within the last hours, where another try can help (SPEC O-5).

        ``reset_attempts`` takes those too that used up their attempts. ``reason`` takes what was skipped for want of
        credentials instead. ``cause`` (a code) and ``channel`` narrow it. Twice is once; a sender may be at work.
        Raises :class:`SettingsError` for an argument that cannot be.

        >>> run(engine.retry_failed(SourceName.DELIVERIES, since_hours=24, dry_run=True)).count
        0
        """
        from alerts_engine.operations.retry_failed import retry_failed

        now = await database_now(self.database)
        return await retry_failed(
            self.database, self.settings, now, kind=kind, since_hours=since_hours, reset_attempts=reset_attempts,
            reason=reason, cause=cause, channel=channel, dry_run=dry_run, stopping=stopping,
        )  # fmt: skip

    # --- asking -----------------------------------------------------------------------------------------------------

    async def explain(self, user_id: int, event_id: int | None = None) -> list[Explanation]:
        """Why this user does or does not get the event, or the ten newest ones, per channel (SPEC B-9).

        Raises :class:`NotFoundError`.

        >>> (explanation,) = run(engine.explain(user_id=1, event_id=1))
        >>> {decision.channel: str(decision.verdict) for decision in explanation.decisions}
        {'email': 'deliver', 'telegram': 'missing_destination', 'sms': 'missing_destination'}
        """
        from alerts_engine.operations.explain import explain

        now = await database_now(self.database)
        return await explain(self.database, self.settings, user_id=user_id, event_id=event_id, now=now)

    async def user_named(self, name: str) -> int:
        """The id of a user, by id, email address (in any letter case), phone number or chat id.

        Raises :class:`NotFoundError`, or :class:`AmbiguousError`, which lists the ids.

        >>> run(engine.user_named("A@Example.com"))
        1
        """
        from alerts_engine.operations.users import user_named

        return await user_named(self.database, name)

    async def preview(self, kind: PreviewKind, row_id: int) -> Previewed:
        """What the message of a delivery, a digest or an event is made of. Raises :class:`NotFoundError`.

        >>> run(engine.preview(PreviewKind.EVENT, 1)).content.headline
        'Strike in the port'
        """
        from alerts_engine.operations.preview import preview

        return await preview(self.database, kind, row_id)

    async def try_rule(self, rule: RuleFile, *, now: datetime | None = None) -> RuleTrial:
        """The events that ``rule`` would create at ``now``; nothing is written. Raises :class:`RuleError`.

        >>> run(engine.try_rule(read_rule(folder / "strikes.sql"))).events
        ()
        """
        from alerts_engine.operations.rule_trial import try_rule

        moment = now or await database_now(self.database)
        return await try_rule(self.database, rule, now=moment, time_zone=self.settings.time_zone)

    async def recorded_runs(self, limit: int = 20, *, before: UUID | None = None) -> list[RecordedRun]:
        """The newest runs of the history first, each with its phases (SPEC O-1).

        ``before`` is the last run of the page before.

        >>> report = run(engine.run())
        >>> [str(recorded.run_id) == report.run_id for recorded in run(engine.recorded_runs(limit=1))]
        [True]
        """
        from alerts_engine.operations.runs import newest_runs

        return await newest_runs(self.database, limit, before)

    async def recorded_run(self, run_id: UUID) -> RecordedRun:
        """One run of the history. Raises :class:`NotFoundError`.

        >>> report = run(engine.run())
        >>> print(run(engine.recorded_run(UUID(report.run_id))).status)
        success
        """
        from alerts_engine.operations.runs import recorded_run

        return await recorded_run(self.database, run_id)

    async def named_run(self, name: RunName) -> RecordedRun:
        """One run by its id, by the first characters of it, or ``last``.

        Raises :class:`NotFoundError`, or :class:`AmbiguousError` when several begin so.

        >>> report = run(engine.run())
        >>> str(run(engine.named_run(RunName.of("last"))).run_id) == report.run_id
        True
        """
        from alerts_engine.operations.runs import named_run

        return await named_run(self.database, name)

    async def health(self) -> HealthReport:
        """How the engine is: what it did, what waits, and what is wrong (SPEC O-4).

        It is quick however many deliveries there have been; its ``status`` follows from its ``problems``.

        >>> report = run(engine.run())
        >>> found = run(engine.health())
        >>> print(found.status, found.deliveries["24h"]["email"]["instant"].sent, found.last_run.status)
        ok 1 success
        """
        from alerts_engine.operations.health import health

        return await health(self.database, self.settings, await database_now(self.database))

    async def failures(
        self,
        *,
        since_hours: float = 24,
        channel: str | None = None,
        cause: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> FailureReport:
        """What is wrong now, by cause: since when, whom it touches, and what helps (SPEC O-6).

        ``cause`` (a code) lists its rows as well, ``limit`` of each kind and page; ``cursor`` is what the page before
        gave. Raises :class:`SettingsError` for an argument that cannot be.

        >>> run(engine.failures(channel="email")).causes
        ()
        """
        from alerts_engine.operations.failures import failures

        now = await database_now(self.database)
        return await failures(
            self.database, self.settings, now,
            since_hours=since_hours, channel=channel, cause=cause, limit=limit, cursor=cursor,
        )  # fmt: skip

    async def delivery_life(self, delivery_id: int) -> Life:
        """What became of a delivery: created, each attempt and what came of it, its end. Raises :class:`NotFoundError`.

        >>> report = run(engine.run())
        >>> [str(step.step) for step in run(engine.delivery_life(1)).steps]
        ['event', 'created', 'begun', 'sent']
        """
        from alerts_engine.operations.delivery_life import delivery_life

        return await delivery_life(self.database, self.settings, delivery_id)

    async def digest_life(self, digest_id: int) -> Life:
        """The same of a digest. Raises :class:`NotFoundError`.

        >>> run(engine.digest_life(1))
        Traceback (most recent call last):
        alerts_engine.errors.NotFoundError: there is no digest 1: alerts-engine failures and explain name some
        """
        from alerts_engine.operations.delivery_life import digest_life

        return await digest_life(self.database, self.settings, digest_id)

    async def metrics(self) -> str:
        """What Prometheus reads (SPEC P-5).

        >>> [line for line in run(engine.metrics()).splitlines() if line.startswith("alerts_engine_events_waiting")]
        ['alerts_engine_events_waiting 1.0']
        """
        from alerts_engine.operations.metrics import metrics

        return await metrics(self.database, self.settings, await database_now(self.database))

    async def queue_state(self) -> QueueState:
        """What waits now: for how long the oldest that is due, and how many digests (SPEC R-4).

        >>> run(engine.queue_state()).digests_queued
        0
        """
        from alerts_engine.operations.summary import queue_state

        return await queue_state(self.database, await database_now(self.database))
