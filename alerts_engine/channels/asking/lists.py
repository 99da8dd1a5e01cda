"""What all providers' lists have in common: how they are read, and how questions share a reading (SPEC C-17)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from alerts_engine.channels.http import Answer, NoAnswer, get
from alerts_engine.types import CannotTell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

    from aiohttp import ClientSession

    from alerts_engine.channels.http import JsonObject
    from alerts_engine.types import AskAnswer, Question

REFUSALS: Final = frozenset({401, 403, 429})
"""Whoever answers so would answer the next question in the same way."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Most that is read of a page. The longest are Twilio's: 200 messages of 1600 characters, six bytes each in JSON."""


class CannotTellError(Exception):
    """Ends the reading of a provider's lists; never leaves the package."""

    def __init__(self, answer: CannotTell) -> None:
        super().__init__(answer.error)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class ListReader:
    """Reads a provider's lists page by page, each page within the send timeout."""

    provider: str
    session: ClientSession
    headers: Mapping[str, str] = field(repr=False)
    timeout_seconds: float

    async def page(self, url: str) -> Answer:
        """One page, an object; raises :class:`CannotTellError` for whatever else comes, or does not."""
        answer = await get(
            self.session, url, timeout_seconds=self.timeout_seconds, headers=self.headers, body_limit=PAGE_BYTES
        )
        if isinstance(answer, NoAnswer):
            raise self.cannot_tell(answer.error)
        if not answer.accepted:
            raise self.cannot_tell(str(answer.status), refused=answer.status in REFUSALS)
        if not answer.readable:
            raise self.cannot_tell("unreadable")
        return answer

    def objects(self, page: Answer, name: str) -> list[JsonObject]:
        """The objects of the page's list ``name``; a page without that list tells nothing."""
        listed = page.body.get(name)
        if isinstance(listed, list) and all(isinstance(row, dict) for row in listed):
            return listed
        raise self.cannot_tell("unreadable")

    def cannot_tell(self, why: str, *, refused: bool = False) -> CannotTellError:
        """The error that says why; ``why`` is a short code."""
        return CannotTellError(CannotTell(f"{self.provider}_ask_{why}", refused))


async def ask_in_groups(
    questions: Sequence[Question],
    group_of: Callable[[Question], Hashable],
    ask_group: Callable[[Sequence[Question]], Awaitable[Sequence[AskAnswer]]],
    *,
    at_once: int,
) -> list[AskAnswer]:
    """One answer per question, in their order; questions of one group go into one call of ``ask_group``.

    At most ``at_once`` groups are asked about at a time. What ends the asking for one group leaves the others
    alone, but for a refusal: then nobody is asked any more.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(group_of(question), []).append(index)
    gate = asyncio.Semaphore(at_once)
    refusals: list[CannotTell] = []

    async def answers_for(members: Sequence[Question]) -> Sequence[AskAnswer]:
        async with gate:
            if refusals:
                return [refusals[0]] * len(members)
            try:
                return await ask_group(members)
            except CannotTellError as error:
                if error.answer.refused:
                    refusals.append(error.answer)
                return [error.answer] * len(members)

    asked = await asyncio.gather(*(answers_for([questions[index] for index in group]) for group in groups.values()))
    answers = {
        index: answer
        for group, told in zip(groups.values(), asked, strict=True)
        for index, answer in zip(group, told, strict=True)
    }
    return [answers[index] for index in range(len(questions))]


def iso_time(text: object) -> datetime | None:
    """An aware time in UTC, or ``None`` for what is none, or does not say its zone."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return _in_utc(moment)


def mail_time(text: object) -> datetime | None:
    """A time as RFC 2822 writes it (``Fri, 24 May 2019 17:44:46 +0000``), aware, in UTC; ``None`` for anything else."""
    try:
        moment = parsedate_to_datetime(text) if isinstance(text, str) else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _in_utc(moment)


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None
