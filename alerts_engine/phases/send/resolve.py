"""Asking the providers what became of uncertain sends (SPEC C-17): beside the senders, never in their way."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from alerts_engine.phases.send.claims import SOURCES, SourceName, Verdict, idempotency_key
from alerts_engine.phases.send.outcome_writer import ASK_AFTER
from alerts_engine.types import CannotTell, Failed, Found, NotFound, Question, SendOutcome, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.phases.send.claims import Resolved, Source, UncertainRow
    from alerts_engine.phases.send.limits import SendState
    from alerts_engine.types import AskAnswer, Outcome

log = structlog.get_logger("alerts_engine.send")

ASK_AGAIN = timedelta(minutes=10)
"""Until the next question about a row that the provider could not tell about."""
LONGEST_ASKING = timedelta(hours=24)
"""A row that nobody could tell about for this long is left to ``ALERTS_UNCERTAIN_SEND``."""
_BATCH = 10
"""Questions in one call of an adapter."""
_POSTPONED = 500
"""Rows that are put off at once, where asking is in vain."""
_NOBODY = CannotTell("provider_not_configured", refused=True)


class Resolver:
    """Asks about the uncertain rows of one channel, each of its providers about its own."""

    def __init__(self, state: SendState, adapter: ChannelAdapter, askers: Mapping[str, ChannelAdapter]) -> None:
        """``adapter`` carries the channel now; ``askers`` are all of its providers that can be asked, by name."""
        self._state = state
        self._context = context = state.context
        self._adapter = adapter
        self._askers = askers
        self._left = Counter(dict.fromkeys(askers, context.settings.ask_per_run))
        self._refused: set[str] = set()
        self.made_due = False
        """Whether rows became due by an answer: they were not accepted, or may be sent again."""

    async def run(self) -> None:
        """Ask as much as may be asked in this run. Raises what the database raises."""
        for source in SOURCES:
            while not self._must_stop() and await self._resolve_some(source):
                pass

    def _must_stop(self) -> bool:
        context = self._context
        late = context.deadline is not None and asyncio.get_running_loop().time() >= context.deadline
        return late or context.stopping.is_set() or context.is_lock_lost

    async def _resolve_some(self, source: Source) -> bool:
        """One batch of questions and what came of them; false when there is nothing more to ask."""
        rows = await self._next(source)
        askable = [row for row in rows if self._may_ask(row.sent_by)]
        if not askable:
            return False
        answers: dict[int, AskAnswer] = {}
        for provider in {row.sent_by for row in askable}:
            about = [row for row in askable if row.sent_by == provider]
            answers |= await self._ask(source, provider, about)
        return await self._write(source, askable, answers)

    def _may_ask(self, provider: str) -> bool:
        """Whether a question may be put; where it is in vain the rows are put off, which costs the provider nothing."""
        return provider not in self._askers or provider in self._refused or self._left[provider] > 0

    async def _next(self, source: Source) -> list[UncertainRow]:
        context, adapter = self._context, self._adapter
        in_vain = self._refused or not self._askers
        return await context.database.rows(
            source.statements.uncertain,
            channel=adapter.channel,
            now=context.replayed_now,
            allowlist=context.allowlist,
            provider=adapter.provider,
            key_life=adapter.key_life,
            max_attempts=context.settings.max_attempts,
            ask_after=ASK_AFTER,
            most=_POSTPONED if in_vain else _BATCH,
        )

    async def _ask(self, source: Source, provider: str, rows: list[UncertainRow]) -> dict[int, AskAnswer]:
        asker = self._askers.get(provider)
        if asker is None or provider in self._refused:
            return dict.fromkeys((row.id for row in rows), _NOBODY)
        asked = rows[: self._left[provider]]
        self._left[provider] -= len(asked)
        answers = await asker.ask([_question(source, row) for row in asked])
        refusal = next((one for one in answers if isinstance(one, CannotTell) and one.refused), None)
        if refusal is not None:
            self._refused.add(provider)
            log.warning("cannot_ask", provider=provider, error=refusal.error)
            self._state.counts.cannot_ask[provider] = refusal.error
        return {row.id: answer for row, answer in zip(asked, answers, strict=True)}

    async def _write(self, source: Source, rows: list[UncertainRow], answers: dict[int, AskAnswer]) -> bool:
        told = [(row, answers[row.id]) for row in rows if row.id in answers]
        settings = self._context.settings
        resolved = await self._context.database.rows(
            source.statements.resolve,
            now=self._context.replayed_now,
            ids=[row.id for row, _ in told],
            attempts=[row.attempts for row, _ in told],
            found=[_is_found(answer) for _, answer in told],
            provider_message_ids=[
                answer.provider_message_id if isinstance(answer, Found) else None for _, answer in told
            ],
            accepted_at=[answer.accepted_at if isinstance(answer, Found) else None for _, answer in told],
            max_attempts=settings.max_attempts,
            ask_again=ASK_AGAIN,
            longest=LONGEST_ASKING,
            give_up=settings.uncertain_send == "fail",
        )
        self._count(source, Counter(row.verdict for row in resolved))
        for row in resolved:
            self._tell(source, row, answers[row.id])
        return bool(resolved)

    def _tell(self, source: Source, row: Resolved, answer: AskAnswer) -> None:
        """Whoever listens gets what is known now; what stays open was told when it became uncertain."""
        outcome = _outcome(row, answer)
        if outcome is not None:
            self._context.on_outcome(SendOutcome(source.name, row.id, self._adapter.channel, outcome))

    def _count(self, source: Source, verdicts: Counter[Verdict]) -> None:
        counts = self._state.counts
        counts.confirmed += verdicts[Verdict.SENT]
        failed = verdicts[Verdict.NOT_SENT] + verdicts[Verdict.GIVE_UP] + verdicts[Verdict.EXHAUSTED]
        if source.name is SourceName.DIGESTS:
            counts.digests.failed += failed
        else:
            counts.failed += failed
        self.made_due |= verdicts[Verdict.AGAIN] + verdicts[Verdict.REPEAT] > 0


def _question(source: Source, row: UncertainRow) -> Question:
    return Question(
        idempotency_key=idempotency_key(source.kind, row.id, row.created_at, row.identity),
        destination=row.destination or "",
        body_digest=row.body_digest,
        sent_after=row.uncertain_since,
        taken=frozenset(row.taken),
    )


def _is_found(answer: AskAnswer) -> bool | None:
    match answer:
        case Found():
            return True
        case NotFound():
            return False
        case CannotTell():
            return None


def _outcome(row: Resolved, answer: AskAnswer) -> Outcome | None:
    match row.verdict:
        case Verdict.SENT:
            return Sent(answer.provider_message_id if isinstance(answer, Found) else None)
        case Verdict.NOT_SENT | Verdict.GIVE_UP | Verdict.EXHAUSTED:
            return Failed(row.last_error or "send_uncertain")
        case Verdict.AGAIN | Verdict.LATER | Verdict.REPEAT:
            return None
