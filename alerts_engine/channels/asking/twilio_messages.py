"""Was an SMS accepted? Twilio's list of the messages to a number tells, by their bodies and times (SPEC C-17)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from alerts_engine.channels.asking.lists import mail_time
from alerts_engine.channels.outcomes import usable_id
from alerts_engine.types import CannotTell, Found, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts_engine.channels.asking.lists import ListReader
    from alerts_engine.channels.http import JsonObject
    from alerts_engine.types import AskAnswer, Question

PAGE_SIZE: Final = 200
PAGES: Final = 5
"""Most pages of the messages to one number that are read."""

CLOCK_DIFFERENCE: Final = timedelta(seconds=10)
"""How far behind the database's clock Twilio's may be. Hosts that keep their time agree within a second, and Twilio
cuts the fraction off; with much more, an earlier message of the same body would be taken for this one."""

TRIAL_PREFIX: Final = "Sent from your Twilio trial account - "
"""What Twilio puts before every message of a trial account, in its list too."""

_FORMATTING = re.compile(r"[\s().\-/]")
_E164 = re.compile(r"\+[1-9][0-9]{4,14}")
_URL = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """A message in Twilio's list, whatever its status: what failed later was accepted, too."""

    sid: str | None
    digests: frozenset[bytes] = field(repr=False)
    """Of its body, with and without what Twilio puts before it; empty when the list does not show the body."""
    created: datetime | None

    def fits(self, question: Question) -> bool:
        """Whether its body is the one in question, and its time and its id allow it to be that message."""
        return self.created is not None and self._allows(question) and question.body_digest in self.digests

    def leaves_in_doubt(self, question: Question) -> bool:
        """Whether it might be the message in question, but the list does not show its body or its time."""
        hidden = not self.digests or (self.created is None and question.body_digest in self.digests)
        return hidden and self._allows(question)

    def _allows(self, question: Question) -> bool:
        if self.sid in question.taken:
            return False
        return self.created is None or self.created >= question.sent_after - CLOCK_DIFFERENCE


class MessageList:
    """Reads the messages to a number, newest first."""

    def __init__(self, reader: ListReader, base_url: str, path: str) -> None:
        self._reader = reader
        self._base_url = base_url
        self._path = path

    async def answer(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """One answer for each of the questions, which are about one number."""
        number = e164(questions[0].destination)
        if number is None or any(question.body_digest is None for question in questions):
            raise self._reader.cannot_tell("no_search")
        since = min(question.sent_after for question in questions) - CLOCK_DIFFERENCE
        answers = match_one_to_one(questions, await self._messages_to(number, since))
        return [self._illegible() if answer is None else answer for answer in answers]

    async def _messages_to(self, number: str, since: datetime) -> list[ListedMessage]:
        """All that were created since then, and older ones. ``DateSent`` cannot limit them: a queued one has none."""
        messages: list[ListedMessage] = []
        uri: object = f"{self._path}?{urlencode({'To': number, 'PageSize': PAGE_SIZE})}"
        for _ in range(PAGES):
            page = await self._reader.page(self._base_url + self._checked(uri))
            rows = self._reader.objects(page, "messages")
            messages += map(_listed, rows)
            uri = page.body.get("next_page_uri", "")
            if uri is None or (rows and all(_is_older(row, since) for row in rows)):
                return messages
        raise self._reader.cannot_tell("too_many")

    def _checked(self, uri: object) -> str:
        """The next page's URI, where it is one of this very list: the credentials go nowhere else."""
        if isinstance(uri, str) and uri.startswith(f"{self._path}?") and _URL.fullmatch(uri):
            return uri
        raise self._reader.cannot_tell("unreadable")

    def _illegible(self) -> CannotTell:
        return self._reader.cannot_tell("illegible").answer


def match_one_to_one(questions: Sequence[Question], messages: Sequence[ListedMessage]) -> list[AskAnswer | None]:
    """Answers such that no message answers two questions; ``None`` where an illegible message might be the one.

    The question that began last chooses first: whatever may answer it may answer the earlier ones of the same body,
    but not the other way round. So as many as possible are found.
    """
    free = list(messages)
    answers: dict[int, AskAnswer | None] = {}
    for index in sorted(range(len(questions)), key=lambda index: questions[index].sent_after, reverse=True):
        question = questions[index]
        earliest = min(
            ((one.created, place) for place, one in enumerate(free) if one.created and one.fits(question)), default=None
        )
        if earliest is not None:
            answers[index] = Found(free.pop(earliest[1]).sid, earliest[0])
        else:
            answers[index] = None if any(one.leaves_in_doubt(question) for one in free) else NotFound()
    return [answers[index] for index in range(len(questions))]


def e164(number: str) -> str | None:
    """The number as Twilio lists it, ``+`` and digits; ``None`` when it cannot be told."""
    bare = _FORMATTING.sub("", number)
    return bare if _E164.fullmatch(bare) else None


def _listed(row: JsonObject) -> ListedMessage:
    body = row.get("body")
    texts = {body, body.removeprefix(TRIAL_PREFIX)} if isinstance(body, str) and body else set()
    digests = frozenset(sha256(text.encode("utf-8", "replace")).digest() for text in texts)
    return ListedMessage(usable_id(row.get("sid")), digests, mail_time(row.get("date_created")))


def _is_older(row: JsonObject, since: datetime) -> bool:
    """Whether it was sent before then, or else created: the list is in this order, the newest first."""
    times = [time for name in ("date_sent", "date_created") if (time := mail_time(row.get(name))) is not None]
    return bool(times) and max(times) < since
