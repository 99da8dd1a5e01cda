"""Phase C's dry run: what would be sent now, and what waits and why (SPEC X-1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.statements import statement

if TYPE_CHECKING:
    from alerts_engine.phases.context import PhaseContext, Transports
    from alerts_engine.phases.send.counts import SendCounts

_MOST_IDS_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class Sendable:
    kind: str
    channel: str
    state: str
    count: int
    ids: list[int] | None


sendable_now = statement("phase_c_send", "sendable_now", Sendable)


async def list_sendable(context: PhaseContext, counts: SendCounts, transports: Transports) -> None:
    """The dry run of phase C: what would be sent now, and what waits and why; nothing is touched (X-1)."""
    rows = await context.database.rows(
        sendable_now, now=context.replayed_now, allowlist=context.allowlist, most_ids=_MOST_IDS_SHOWN
    )
    counts.would_send, counts.waiting = {}, {}
    for row in rows:
        state = _state(row, context, transports)
        if state == "due":
            counts.would_send.setdefault(row.channel, {})[_plural(row.kind)] = {
                "count": row.count,
                "ids": row.ids or [],
            }
        else:
            reasons = counts.waiting.setdefault(row.channel, {})
            reasons[state] = reasons.get(state, 0) + row.count


def _state(row: Sendable, context: PhaseContext, transports: Transports) -> str:
    if row.state == "due" and row.channel in context.settings.channels_paused:
        return "channel_paused"
    if row.state == "due" and row.channel not in transports.adapters:
        return "channel_not_configured"
    return row.state


def _plural(kind: str) -> str:
    return "deliveries" if kind == "delivery" else "digests"
