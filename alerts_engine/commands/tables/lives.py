"""What ``delivery show`` and ``digest show`` show to people: what it is, and what happened, in the order of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Facts, Table
from alerts_engine.commands.tables.words import many, moment_text
from alerts_engine.operations.causes import cause_of
from alerts_engine.operations.delivery_life import Step
from alerts_engine.types import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.delivery_life import Life, LifeStep

_STEPS = {
    Step.EVENT: "the event happened",
    Step.CREATED: "created",
    Step.BATCHED: "batched into a digest",
    Step.BEGUN: "send begun",
    Step.RETRY: "failed for now",
    Step.UNCERTAIN: "uncertain",
    Step.FOUND: "the provider has it",
    Step.NOT_FOUND: "the provider does not have it",
    Step.NOBODY_CAN_TELL: "nobody can tell",
    Step.FAILED: "failed",
    Step.RETRIED_BY_HAND: "had failed; retry-failed took it up",
    Step.SENT: "sent",
    Step.SKIPPED: "skipped",
    Step.CLAIMED: "claimed by a run",
    Step.WAITING: "due",
}
_RUN_ID_SHOWN = 8
_TROUBLE = {Step.RETRY, Step.UNCERTAIN, Step.FAILED, Step.SKIPPED}


def life_blocks(life: Life) -> Iterator[Block]:
    """What it is, what happened, what comes next."""
    yield Facts(f"{life.source} {life.row.id}", list(_facts(life)))
    is_permanent = life.row.failure_kind is FailureKind.PERMANENT
    rows = [(_when(step), _what(step), _detail(step, is_permanent=is_permanent)) for step in life.steps]
    yield Table("", ("when (UTC)", "what", "detail"), rows, f"next: {life.next}")


def _facts(life: Life) -> Iterator[tuple[str, str]]:
    row = life.row
    yield "status", row.status + (f" ({row.failure_kind})" if row.failure_kind else "")
    yield "for", f"user {row.user_id} by {row.channel}, {row.kind}"
    if life.event is not None:
        event = life.event
        yield "event", f"{event.id}: {event.headline} ({event.alert_type}, severity {event.severity})"
    if life.window_start is not None and life.window_end is not None:
        yield "window", f"{moment_text(life.window_start)} to {moment_text(life.window_end)} UTC"
    if life.items is not None:
        shown = ", ".join(map(str, life.delivery_ids[:_RUN_ID_SHOWN]))
        more = ", …" if life.items > _RUN_ID_SHOWN else ""
        yield "deliveries", f"{life.items:,}" + (f": {shown}{more}" if shown else "")
    if row.attempts:
        yield "attempts", many(row.attempts, "attempt")
    if row.uncertain_since is not None:
        who = row.sent_by or "nobody"
        yield "uncertain", f"since {moment_text(row.uncertain_since)} UTC; {who} can tell"


def _when(step: LifeStep) -> str:
    if step.at is None:
        return "now" if step.step in {Step.WAITING, Step.CLAIMED} else "not known"
    return moment_text(step.at)


def _what(step: LifeStep) -> str:
    words = _STEPS[step.step]
    return f"{words} (attempt {step.attempt})" if step.attempt and step.step is Step.BEGUN else words


def _detail(step: LifeStep, *, is_permanent: bool) -> str:
    parts = [step.detail] if step.detail else []
    if step.step in _TROUBLE and step.detail:
        last = is_permanent and step.step is Step.FAILED
        parts = [f"{step.detail}: {cause_of(step.detail, is_permanent=last).meaning}"]
    if step.run_id and step.step is not Step.BEGUN:
        parts.append(f"run {step.run_id[:_RUN_ID_SHOWN]}")
    return ", ".join(parts)
