"""What every phase is given: where, when, for whom, and how it is told to stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from alerts_engine.types import SINCE_HOURS, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.database import Executor
    from alerts_engine.locks import PhaseLock
    from alerts_engine.phases.counts import PhaseCounts
    from alerts_engine.rendering import Renderer
    from alerts_engine.settings import Settings
    from alerts_engine.types import SendOutcome


LOCK_PATIENCE, STATEMENT_PATIENCE = "20s", "60s"
"""How long a page or a batch may wait for a lock, and how long one of its statements may take. A page takes about a
second. The first is the shorter one, so that waiting is never taken for work that must be divided."""


class Progress(Protocol):
    """Told how long work goes on; ``total`` is ``None`` while nobody knows (SPEC CLI-6)."""

    def __call__(self, label: str, done: int, total: int | None, /) -> None: ...


def no_progress(_label: str, _done: int, _total: int | None) -> None:
    """Nobody looks."""


def nobody_listens(_outcome: SendOutcome) -> None:
    """No application has asked for outcomes."""


@dataclass(frozen=True, slots=True)
class PhaseContext:
    database: Executor
    settings: Settings
    run_id: str
    now: datetime
    """The phase's moment: ``--now``, or the database's clock when the phase began (SPEC C-14)."""
    replayed_now: datetime | None = None
    """``--now`` alone; ``None`` lets each statement of phase C read the database's clock."""
    dry_run: bool = False
    since_hours: float = SINCE_HOURS
    batch_size: int | None = None
    lock: PhaseLock | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    deadline: float | None = None
    """When nothing more is begun (``ALERTS_MAX_RUN_SECONDS``), on the event loop's clock."""
    progress: Progress = no_progress
    pace: float = 1.0
    """Times the wait that a channel asks for between two messages to one destination."""
    on_outcome: Callable[[SendOutcome], None] = nobody_listens
    """Told what became of each message."""
    warnings: list[str] = field(default_factory=list)
    """What the run should say although the phase succeeds (SPEC CLI-6c)."""

    @property
    def since(self) -> timedelta | None:
        """The window of ``--since-hours``; 0 hours is no limit."""
        return timedelta(hours=self.since_hours) if self.since_hours else None

    @property
    def stop_reason(self) -> StopReason | None:
        """Why nothing more may be begun, if so; what is done is committed, and the next run goes on."""
        if self.stopping.is_set():
            return StopReason.SIGNAL
        if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
            return StopReason.MAX_RUN_SECONDS
        return None

    def must_stop(self, counts: PhaseCounts) -> bool:
        """Whether nothing more may be begun; notes the reason in ``counts``."""
        reason = self.stop_reason
        if reason is not None:
            counts.stop(reason)
        return reason is not None

    @property
    def allowlist(self) -> list[int] | None:
        """The only users that may get anything, or ``None`` for everybody (SPEC B-10, C-15)."""
        ids = self.settings.send_allowlist_user_ids
        return None if ids is None else list(ids)

    @property
    def is_lock_lost(self) -> bool:
        """Whether another runner may have taken over (SPEC L-2)."""
        return self.lock is not None and self.lock.lost.is_set()

    def check_lock(self) -> None:
        """Raise :class:`~alerts_engine.errors.LockLostError` when another runner may have taken over."""
        if self.lock is not None:
            self.lock.check()


@dataclass(frozen=True, slots=True)
class Transports:
    """How phase C reaches the world."""

    adapters: Mapping[str, ChannelAdapter]
    askers: Mapping[str, Mapping[str, ChannelAdapter]]
    """Per channel, its providers that can be asked what became of a send, by their names."""
    renderer: Renderer


def renderer_for(settings: Settings) -> Renderer:
    """The renderer of these settings; what it makes is what is sent. Loads the template engine."""
    from alerts_engine.channels import channels
    from alerts_engine.rendering import Renderer

    return Renderer(
        forms={name: spec.form for name, spec in channels().items()},
        time_zone=settings.time_zone,
        app_base_url=settings.app_base_url,
        templates_dir=settings.templates_dir,
    )
