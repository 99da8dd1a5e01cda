"""Which message in Twilio's list answers which question (SPEC C-17)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import permutations
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.channels.asking.twilio_messages import ListedMessage, match_one_to_one
from alerts_engine.types import Found, NotFound, Question

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODIES = ["a", "b"]


def digest(body: str) -> bytes:
    return sha256(body.encode()).digest()


def question(body: str, minute: int, taken: frozenset[str] = frozenset()) -> Question:
    return Question(UUID(int=0), "+31612345678", digest(body), NOON + timedelta(minutes=minute), taken)


def listed(sid: int, body: str, minute: int) -> ListedMessage:
    return ListedMessage(f"SM{sid}", frozenset({digest(body)}), NOON + timedelta(minutes=minute))


QUESTIONS = st.lists(st.builds(question, st.sampled_from(BODIES), st.integers(0, 4)), max_size=4)
MESSAGES = st.lists(st.tuples(st.sampled_from(BODIES), st.integers(-1, 5)), max_size=4).map(
    lambda rows: [listed(sid, body, minute) for sid, (body, minute) in enumerate(rows)]
)


def most_that_fit(questions: list[Question], messages: list[ListedMessage]) -> int:
    """By trying every way to give the messages out."""
    padded = [*messages, *[None] * len(questions)]
    return max(
        sum(one is not None and one.fits(asked) for one, asked in zip(way, questions, strict=True))
        for way in permutations(padded, len(questions))
    )


@given(QUESTIONS, MESSAGES)
def test_as_many_as_possible_are_found_and_none_by_anothers_message(
    questions: list[Question], messages: list[ListedMessage]
) -> None:
    """C-17: no message answers two questions, each fits its own, and no more could be found."""
    answers = match_one_to_one(questions, messages)
    by_sid = {message.sid: message for message in messages}
    found = [(asked, one) for asked, one in zip(questions, answers, strict=True) if isinstance(one, Found)]
    assert len({one.provider_message_id for _, one in found}) == len(found)
    assert all(by_sid[one.provider_message_id].fits(asked) for asked, one in found)
    assert len(found) == most_that_fit(questions, messages)


def test_each_send_is_confirmed_by_its_own_message_where_times_tell() -> None:
    """C-17: two sends an hour apart, two messages an hour apart."""
    questions = [question("a", 0), question("a", 60)]
    messages = [listed(2, "a", 60), listed(1, "a", 0)]
    assert match_one_to_one(questions, messages) == [
        Found("SM1", NOON),
        Found("SM2", NOON + timedelta(minutes=60)),
    ]


def test_a_message_of_another_send_is_nobodys_answer() -> None:
    """C-17: its id stands on another row already."""
    assert match_one_to_one([question("a", 0, frozenset({"SM1"}))], [listed(1, "a", 1)]) == [NotFound()]
