"""Was an email accepted? Brevo's events tell, by the tag that the email carries (SPEC C-17)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from alerts_engine.channels.asking.lists import iso_time
from alerts_engine.channels.outcomes import usable_id
from alerts_engine.types import Found, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts_engine.channels.asking.lists import ListReader
    from alerts_engine.channels.http import JsonObject
    from alerts_engine.types import AskAnswer, Question

EVENTS_PER_PAGE: Final = 100
PAGES: Final = 20
"""Most pages of one recipient's events that are read for one question: an email has about five events."""

LONGEST_DAYS: Final = 28
"""How far back is asked: unless it is told otherwise, Brevo shows the events of 30 days."""


class EventList:
    """Finds emails among the account's events."""

    def __init__(self, reader: ListReader, url: str) -> None:
        self._reader = reader
        self._url = url

    async def answer(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """One answer for each of the questions, which are about one key."""
        return [await self._answer(question) for question in questions]

    async def _answer(self, question: Question) -> AskAnswer:
        """By the tag, then among the recipient's events: only what both do not show is not there.

        The way to write the filter by tag that Brevo's reference gives ("serialized array") was seen to find
        nothing at all. The plain tag works, but a filter whose mistakes look like an empty list is not relied on.
        """
        key = str(question.idempotency_key)
        days = _days_since(question.sent_after)
        if days > LONGEST_DAYS:
            raise self._reader.cannot_tell("too_old")
        if own := _bearing(key, await self._events(tags=key)):
            return _found(own)
        for page in range(PAGES):
            events = await self._events(email=question.destination, days=days, offset=page * EVENTS_PER_PAGE)
            if own := _bearing(key, events):
                return _found(own)
            if len(events) < EVENTS_PER_PAGE:
                return NotFound()
        raise self._reader.cannot_tell("too_many")

    async def _events(self, **query: str | int) -> list[JsonObject]:
        answer = await self._reader.page(f"{self._url}?{urlencode({'limit': EVENTS_PER_PAGE, **query})}")
        # Brevo leaves the list out, or makes it null, when there is nothing in it.
        if not answer.body or answer.body == {"events": None}:
            return []
        return self._reader.objects(answer, "events")


def _days_since(moment: datetime) -> int:
    """Days to ask for: today is one of them, and the account's day may have begun before, or not yet."""
    return max((datetime.now(UTC) - moment).days, 0) + 3


def _bearing(key: str, events: Sequence[JsonObject]) -> list[JsonObject]:
    return [event for event in events if _has_tag(event, key)]


def _has_tag(event: JsonObject, key: str) -> bool:
    """Several tags come as a list, as the text of one, or with commas."""
    match event.get("tag"):
        case str(tags):
            return key in re.split(r'[\s,"\[\]]+', tags)
        case [*tags]:
            return key in tags
        case _:
            return False


def _found(events: Sequence[JsonObject]) -> Found:
    """Any event of an email shows that it was accepted, also one that says it bounced."""
    ids = (usable_id(event.get("messageId")) for event in events)
    times = [time for event in events if (time := iso_time(event.get("date"))) is not None]
    return Found(next((known for known in ids if known is not None), None), min(times, default=None))
