"""Adding up what was counted, now and then, so that a look at the counters reads few rows (SPEC O-4a)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from alerts_engine.errors import AlertsEngineError
from alerts_engine.statements import command

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext

log = structlog.get_logger("alerts_engine.send")

FOLD_SECONDS = 30.0
"""Each batch of outcomes leaves a row or two: a thousand sends a second would leave some thousand rows by then."""
_HOURS_KEPT = timedelta(days=35)
"""After that, days are enough."""

fold_outcomes = command("phase_c_send", "fold_outcomes")


async def fold(context: PhaseContext) -> None:
    """Add up; what cannot be added up now is added up the next time, and is counted all the same."""
    try:
        await context.database.run(fold_outcomes, days_from=context.now - _HOURS_KEPT)
    except AlertsEngineError as error:
        log.warning("not_folded", error=str(error))


async def fold_on(context: PhaseContext) -> None:
    """Add up every now and then, until cancelled."""
    while True:
        await asyncio.sleep(FOLD_SECONDS)
        await fold(context)
