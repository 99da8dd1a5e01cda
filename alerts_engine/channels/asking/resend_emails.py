"""Was an email accepted? Resend's list shows recipients and times, and each email on its own its tags (SPEC C-17)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from alerts_engine.channels.asking.lists import iso_time, mail_time
from alerts_engine.types import Found, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts_engine.channels.asking.lists import ListReader
    from alerts_engine.channels.http import Answer, JsonObject
    from alerts_engine.types import AskAnswer, Question

TAG_NAME: Final = "alerts_engine"
"""The tag whose value is the row's key (SPEC C-12)."""

PAGE_SIZE: Final = 100
PAGES: Final = 20
"""Most pages of the list that are read in one go: the team's newest 2,000 emails."""

LOOKED_AT: Final = 20
"""Most emails to one recipient that are looked at for one question, each with a call of its own."""

CLOCK_MARGIN: Final = timedelta(minutes=5)
"""How far apart the database's clock and Resend's may be. It can be generous: the tag decides, not the time."""

SHORTEST_RETENTION: Final = timedelta(hours=23)
"""How far back the list surely goes. By its plan Resend keeps emails for 1, 3 or 7 days: where a list ends, an older
email may have been there."""

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ListedEmail:
    """An email in Resend's list."""

    id: str
    recipients: frozenset[str] = field(repr=False)
    created: datetime | None

    def may_be(self, question: Question) -> bool:
        """Whether its recipient and its time allow it to be the email in question."""
        if self.created is not None and self.created < question.sent_after - CLOCK_MARGIN:
            return False
        # A name outside ASCII may be listed in another spelling.
        return not question.destination.isascii() or question.destination.strip().casefold() in self.recipients


class EmailList:
    """The team's newest emails, read once; each one's tags are read when they are needed."""

    def __init__(self, reader: ListReader, url: str, emails: Sequence[ListedEmail], complete_since: datetime) -> None:
        self._reader = reader
        self._url = url
        self._emails = emails
        self._complete_since = complete_since
        self._keys: dict[str, str | None] = {}

    @classmethod
    async def read(cls, reader: ListReader, url: str, since: datetime) -> EmailList:
        """Read back to ``since``, or as far as the list goes, or as it may be read."""
        emails: list[ListedEmail] = []
        query: dict[str, object] = {"limit": PAGE_SIZE}
        for _ in range(PAGES):
            page = await reader.page(f"{url}?{urlencode(query)}")
            emails += (_listed(row, reader) for row in reader.objects(page, "data"))
            oldest = min((email.created for email in emails if email.created is not None), default=_now(page))
            match page.body.get("has_more"):
                case False:
                    return cls(reader, url, emails, min(oldest, _now(page) - SHORTEST_RETENTION))
                case True if emails and oldest >= since - CLOCK_MARGIN:
                    query["after"] = emails[-1].id
                case True if emails:
                    return cls(reader, url, emails, oldest)
                case _:
                    raise reader.cannot_tell("unreadable")
        raise reader.cannot_tell("too_many")

    async def answer(self, questions: Sequence[Question]) -> list[AskAnswer]:
        """One answer for each of the questions, which are about one key."""
        return [await self._answer(question) for question in questions]

    async def _answer(self, question: Question) -> AskAnswer:
        """The email with the key's tag, the oldest first: the one in question was made just after it was sent."""
        fitting = [email for email in self._emails if email.may_be(question)]
        fitting.sort(key=lambda email: (email.created is None, email.created or _LAST))
        for email in fitting[:LOOKED_AT]:
            if await self._key_of(email) == str(question.idempotency_key):
                return Found(email.id, email.created)
        if len(fitting) > LOOKED_AT:
            raise self._reader.cannot_tell("too_many")
        if self._complete_since > question.sent_after - CLOCK_MARGIN:
            raise self._reader.cannot_tell("not_covered")
        return NotFound()

    async def _key_of(self, email: ListedEmail) -> str | None:
        if email.id not in self._keys:
            page = await self._reader.page(f"{self._url}/{email.id}")
            self._keys[email.id] = self._key_in(page.body)
        return self._keys[email.id]

    def _key_in(self, email: JsonObject) -> str | None:
        """Our tag's value; without any list of tags, nothing can be told of the email."""
        match email.get("tags", ...):
            case None:
                return None
            case [*tags]:
                values = [tag.get("value") for tag in tags if isinstance(tag, dict) and tag.get("name") == TAG_NAME]
                return next((value for value in values if isinstance(value, str)), None)
            case _:
                raise self._reader.cannot_tell("no_tags")


def _listed(row: JsonObject, reader: ListReader) -> ListedEmail:
    match row.get("id"):
        case str(known) if _ID.fullmatch(known):
            return ListedEmail(known, _addresses(row.get("to")), iso_time(row.get("created_at")))
        case _:
            raise reader.cannot_tell("unreadable")


def _addresses(to: object) -> frozenset[str]:
    listed = [to] if isinstance(to, str) else to if isinstance(to, list) else []
    return frozenset(parseaddr(one)[1].casefold() for one in listed if isinstance(one, str))


def _now(page: Answer) -> datetime:
    """The time by Resend's own clock, which made the times in the list, too."""
    return mail_time(page.headers.get("Date")) or datetime.now(UTC)
