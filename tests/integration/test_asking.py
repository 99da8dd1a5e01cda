"""Was it accepted? The providers that can be asked, asked over real HTTP (SPEC C-17)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from alerts_engine.channels import build_adapters, create_session
from alerts_engine.channels.asking import brevo_events, resend_emails, twilio_messages
from alerts_engine.channels.base import body_digest
from alerts_engine.sandbox import Fault, Sandbox
from alerts_engine.sandbox import Provider as Played
from alerts_engine.types import AskAnswer, CannotTell, Channel, Envelope, Found, NotFound, Question, SmsMessage
from tests.support.providers import DESTINATIONS, KEY, KEYS, MESSAGES, SECRETS, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alerts_engine.channels import ChannelAdapter
    from tests.support.providers import Provider

ASKABLE = [("brevo", Channel.EMAIL), ("resend", Channel.EMAIL), ("twilio", Channel.SMS)]
every_askable = pytest.mark.parametrize(("provider", "channel"), ASKABLE)

HOUR = timedelta(hours=1)


@asynccontextmanager
async def adapter_of(
    base_url: str, provider: str, channel: Channel, **overrides: object
) -> AsyncIterator[ChannelAdapter]:
    async with create_session() as session:
        yield build_adapters(settings(base_url, provider, **overrides), session)[channel]


def question(channel: Channel, key: UUID = KEY, *, ago: timedelta = timedelta(seconds=2), **changes: Any) -> Question:
    asked = Question(key, DESTINATIONS[channel], body_digest(MESSAGES[channel]), datetime.now(UTC) - ago)
    return replace(asked, **changes)


def letter(channel: Channel, key: UUID = KEY) -> Envelope:
    return Envelope(DESTINATIONS[channel], MESSAGES[channel], key)


async def ask(
    base_url: str, provider: str, channel: Channel, *questions: Question, **overrides: object
) -> list[AskAnswer]:
    async with adapter_of(base_url, provider, channel, **overrides) as adapter:
        return await adapter.ask(questions)


# --- what the sandbox kept ------------------------------------------------------------------------------------------


@every_askable
async def test_an_accepted_message_is_found_under_the_providers_id(provider: str, channel: Channel) -> None:
    """C-17: the answer was lost, and the provider's lists show the message, its id and its time."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        sandbox.faults.add(Fault(accept=True, reset=True, times=1))
        asked = question(channel, ago=timedelta(0))
        await adapter.send(letter(channel))
        for key in (uuid4(), uuid4()):
            await adapter.send(replace(letter(channel, key), message=other_text(channel)))
        (found,) = await adapter.ask([asked])
    message = sandbox.messages[0]
    assert isinstance(found, Found)
    assert found.provider_message_id == message.provider_message_id
    assert found.accepted_at is not None
    assert abs(found.accepted_at - message.received_at) <= timedelta(seconds=1)


def other_text(channel: Channel) -> Any:
    return SmsMessage("another text", encoding="GSM-7", segments=1) if channel is Channel.SMS else MESSAGES[channel]


@every_askable
async def test_a_message_that_never_arrived_is_not_found(provider: str, channel: Channel) -> None:
    """C-17: the lists cover the time of the send, and it is not in them."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        await adapter.send(replace(letter(channel, uuid4()), message=other_text(channel)))
        sandbox.faults.add(Fault(reset=True, times=1))
        await adapter.send(letter(channel))
        assert await adapter.ask([question(channel)]) == [NotFound()]


@every_askable
async def test_a_list_that_lags_shows_the_message_later(provider: str, channel: Channel) -> None:
    """C-17: this is why nobody is asked sooner than a minute after the send."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        sandbox.asking.lag_seconds = 60
        asked = question(channel)
        await adapter.send(letter(channel))
        assert await adapter.ask([asked]) == [NotFound()]
        sandbox.advance(61)
        (found,) = await adapter.ask([asked])
    assert isinstance(found, Found)


@every_askable
async def test_every_question_gets_its_own_answer_in_order(provider: str, channel: Channel) -> None:
    """C-17: accepted and lost sends to several users, asked about in one batch."""
    keys = [uuid4() for _ in range(6)]
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        wheres = [place(channel, number) for number in range(len(keys))]
        for number, (key, where) in enumerate(zip(keys, wheres, strict=True)):
            sandbox.faults.add(Fault(where, accept=number % 2 == 0, reset=True))
            await adapter.send(replace(letter(channel, key), destination=where))
        asked = [question(channel, key, destination=where) for key, where in zip(keys, wheres, strict=True)]
        answers = await adapter.ask(asked)
        assert await adapter.ask([]) == []
    ids = {message.destination: message.provider_message_id for message in sandbox.messages}
    told = [answer.provider_message_id if isinstance(answer, Found) else answer for answer in answers]
    assert told == [ids.get(where, NotFound()) for where in wheres]


def place(channel: Channel, number: int) -> str:
    return f"+3161234567{number}" if channel is Channel.SMS else f"user{number}@example.com"


@every_askable
@pytest.mark.parametrize("status", [401, 403, 429])
async def test_a_refusal_holds_for_all_questions(provider: str, channel: Channel, status: int) -> None:
    """C-17: a key that may not read, or no more reads: asking on would be in vain, so nobody does."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        sandbox.faults.add(Fault(status=status, when_asked=True))
        questions = [question(channel, uuid4(), destination=place(channel, number)) for number in range(8)]
        answers = await adapter.ask(questions)
    assert answers == [CannotTell(f"{provider}_ask_{status}", refused=True)] * 8
    assert len(sandbox.asking.questions) <= 4


CANNOT_TELL: dict[str, tuple[dict[str, Any], str]] = {
    "500": ({"status": 500}, "500"),
    "404": ({"status": 404}, "404"),
    "reset": ({"reset": True}, "connection_reset"),
    "half an answer": ({"truncate": True, "status": 200}, "unreadable_answer"),
    "html": ({"status": 200, "body": "<html>", "content_type": "text/html"}, "unreadable"),
    "no list": ({"status": 200, "body": '{"message": "welcome"}'}, "unreadable"),
    "no objects": ({"status": 200, "body": '{"events": [1], "data": [1], "messages": [1]}'}, "unreadable"),
    "no array": ({"status": 200, "body": '{"events": 1, "data": {}, "messages": "x"}'}, "unreadable"),
    "oversize": ({"size": 5 * 1024 * 1024}, "unreadable"),
    "redirect": ({"redirect_to": "https://example.com/"}, "302"),
}


@every_askable
@pytest.mark.parametrize("name", CANNOT_TELL)
async def test_a_provider_that_does_not_answer_cannot_tell(provider: str, channel: Channel, name: str) -> None:
    """C-17: whatever cannot be read says neither that it was accepted nor that it was not."""
    fault, why = CANNOT_TELL[name]
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        await adapter.send(letter(channel))
        sandbox.faults.add(Fault(when_asked=True, **fault))
        assert await adapter.ask([question(channel)]) == [CannotTell(f"{provider}_ask_{why}")]


@every_askable
async def test_a_question_has_the_time_of_a_send(provider: str, channel: Channel) -> None:
    """C-17: a provider that hangs holds nobody up for longer."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(when_asked=True, hang=True))
        answers = await ask(sandbox.url, provider, channel, question(channel), send_timeout_seconds=0.2)
    assert answers == [CannotTell(f"{provider}_ask_timeout")]


@every_askable
async def test_a_provider_that_is_not_there_cannot_tell(provider: str, channel: Channel) -> None:
    """C-17: no name, no connection: later."""
    answers = await ask("https://nonexistent.invalid", provider, channel, question(channel))
    assert answers == [CannotTell(f"{provider}_ask_dns_error")]


@pytest.mark.parametrize(("provider", "channel"), [("brevo", Channel.EMAIL), ("twilio", Channel.SMS)])
async def test_a_fault_of_one_question_leaves_the_others_alone(provider: str, channel: Channel) -> None:
    """C-17: a server error is about one page, not about all of them."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, channel) as adapter:
        sandbox.faults.add(Fault(place(channel, 0), status=500, when_asked=True))
        answers = await adapter.ask([question(channel, uuid4(), destination=place(channel, n)) for n in range(2)])
    assert answers == [CannotTell(f"{provider}_ask_500"), NotFound()]


async def test_telegram_cannot_be_asked() -> None:
    """C-17: it has no history and no search."""
    async with (
        Sandbox.start(credentials=KEYS) as sandbox,
        adapter_of(sandbox.url, "telegram", Channel.TELEGRAM) as adapter,
    ):
        answers = await adapter.ask([question(Channel.TELEGRAM)] * 2)
    assert adapter.can_ask is False
    assert answers == [CannotTell("telegram_cannot_be_asked", refused=True)] * 2


@pytest.mark.parametrize(
    ("provider", "channel", "life"),
    [
        ("brevo", Channel.EMAIL, timedelta(minutes=25)),
        ("resend", Channel.EMAIL, timedelta(hours=23)),
        ("telegram", Channel.TELEGRAM, None),
        ("twilio", Channel.SMS, None),
    ],
)
async def test_the_life_of_a_key_is_the_providers_less_a_margin(
    provider: str, channel: Channel, life: timedelta | None
) -> None:
    """C-17: whoever begins a repeat within it can rely on the key; where there are no keys there is no life."""
    async with adapter_of("http://127.0.0.1", provider, channel) as adapter:
        assert adapter.key_life == life


@pytest.mark.parametrize("provider", ["brevo", "resend"])
async def test_a_repeat_at_the_end_of_the_keys_life_makes_no_second_email(provider: str) -> None:
    """C-12: the adapter's life is shorter than the provider's own; beyond that one a repeat is a second email."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, provider, Channel.EMAIL) as adapter:
        await adapter.send(letter(Channel.EMAIL))
        assert adapter.key_life is not None
        sandbox.advance(adapter.key_life.total_seconds())
        await adapter.send(letter(Channel.EMAIL))
        assert len(sandbox.messages) == 1
        sandbox.advance(2 * HOUR.total_seconds())
        await adapter.send(letter(Channel.EMAIL))
        assert len(sandbox.messages) == 2


@every_askable
async def test_nothing_secret_is_logged_when_asking(
    provider: str, channel: Channel, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """O-3: no secret, no destination, no body and no URL in answers, logs or output."""
    caplog.set_level(logging.DEBUG)
    answers: list[AskAnswer] = []
    asked = question(channel)
    async with Sandbox.start(credentials=KEYS) as sandbox:
        with capture_logs() as events:
            for fault in (None, *(Fault(when_asked=True, times=1, **fields) for fields, _ in CANNOT_TELL.values())):
                if fault is not None:
                    sandbox.faults.add(fault)
                answers += await ask(sandbox.url, provider, channel, asked)
            answers += await ask("https://nonexistent.invalid", provider, channel, asked)
    everything = f"{answers} {asked} {events} {caplog.text} {capfd.readouterr()}"
    hidden = [*SECRETS, *DESTINATIONS.values(), sandbox.url, "nonexistent.invalid", "secret text"]
    assert [piece for piece in hidden if piece in everything] == []


# --- Brevo: events --------------------------------------------------------------------------------------------------


def event(tag: object = str(KEY), **changes: Any) -> dict[str, Any]:
    usual = {
        "email": DESTINATIONS[Channel.EMAIL],
        "date": "2026-03-01T12:00:05.000+05:30",
        "messageId": "<1@relay>",
        "event": "requests",
        "tag": tag,
    }
    return {**usual, **changes}


EVENT_FOUND = Found("<1@relay>", datetime(2026, 3, 1, 6, 30, 5, tzinfo=UTC))


@pytest.mark.parametrize("tag", [str(KEY), f'["{KEY}"]', f"a,{KEY}", ["a", str(KEY)]])
async def test_brevo_shows_tags_in_several_forms(provider_server: Provider, tag: object) -> None:
    """C-17: whichever it is, an event with our tag is the email's."""
    provider_server.answer(200, {"events": [event("another"), event(tag)]})
    assert await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL)) == [EVENT_FOUND]
    (request,) = provider_server.requests
    assert request.headers["api-key"] == "brevo-key"
    assert parse_qs(urlsplit(request.path).query) == {"limit": ["100"], "tags": [str(KEY)]}


async def test_the_earliest_of_several_events_is_the_acceptance(provider_server: Provider) -> None:
    """C-17: a bounce shows that it was accepted; the time is that of the first event."""
    late = event(event="hardBounces", date="2026-03-01T13:00:00Z")
    provider_server.answer(200, {"events": [late, event(), event(date="no date", messageId=None)]})
    assert await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL)) == [EVENT_FOUND]


@pytest.mark.parametrize("nothing", [{}, {"events": None}, {"events": []}])
async def test_brevos_filter_by_tag_is_not_relied_on(provider_server: Provider, nothing: dict[str, object]) -> None:
    """C-17: when it shows nothing, the recipient's own events are looked through."""
    provider_server.answer(200, nothing)
    provider_server.answer(200, {"events": [event("another"), event(), event(None)]})
    asked = question(Channel.EMAIL, ago=50 * HOUR)
    assert await ask(provider_server.url, "brevo", Channel.EMAIL, asked) == [EVENT_FOUND]
    query = parse_qs(urlsplit(provider_server.requests[1].path).query)
    assert query == {"limit": ["100"], "offset": ["0"], "days": ["5"], "email": [DESTINATIONS[Channel.EMAIL]]}


async def test_an_email_is_not_there_only_when_brevo_shows_it_neither_way(provider_server: Provider) -> None:
    """C-17: no event by its tag, none of its recipient's events with the tag."""
    provider_server.answer(200, {})
    provider_server.answer(200, {"events": [event("another"), event("")]})
    assert await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL)) == [NotFound()]
    assert len(provider_server.requests) == 2


async def test_a_filter_that_is_ignored_finds_nobody_elses_email(provider_server: Provider) -> None:
    """C-17: an answer that is full of other emails' events is not about this one."""
    provider_server.answer(200, {"events": [event("another")] * 100})
    provider_server.answer(200, {"events": [event("another")]})
    assert await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL)) == [NotFound()]


async def test_a_busy_recipients_events_are_read_page_by_page(
    provider_server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-17: full pages are followed, but not for ever: then the provider cannot tell."""
    monkeypatch.setattr(brevo_events, "PAGES", 3)
    provider_server.answer(200, {})
    for _ in range(2):
        provider_server.answer(200, {"events": [event("another")] * 100})
    provider_server.answer(200, {"events": [event()]})
    assert await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL)) == [EVENT_FOUND]
    offsets = [parse_qs(urlsplit(request.path).query).get("offset") for request in provider_server.requests]
    assert offsets == [None, ["0"], ["100"], ["200"]]
    provider_server.answers[:] = [(200, {"events": [event("another")] * 100}, {})]
    answers = await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL))
    assert answers == [CannotTell("brevo_ask_too_many")]


async def test_brevos_events_do_not_go_back_for_ever(provider_server: Provider) -> None:
    """C-17: a send that is older than the events shown is not declared missing."""
    answers = await ask(provider_server.url, "brevo", Channel.EMAIL, question(Channel.EMAIL, ago=24 * 30 * HOUR))
    assert answers == [CannotTell("brevo_ask_too_old")]


# --- Resend: the list, and each email's tags ------------------------------------------------------------------------


def email(number: int, to: str = DESTINATIONS[Channel.EMAIL], *, ago: timedelta = timedelta(0)) -> dict[str, Any]:
    created = datetime.now(UTC) - ago
    return {"id": f"email-{number}", "to": [to], "created_at": f"{created:%Y-%m-%d %H:%M:%S.%f}+00"}


def emails(*rows: dict[str, Any], has_more: object = False) -> dict[str, Any]:
    return {"object": "list", "has_more": has_more, "data": [*rows]}


def tagged(*values: str) -> dict[str, Any]:
    return {"object": "email", "tags": [{"name": "alerts_engine", "value": value} for value in values]}


async def test_resends_emails_to_others_are_not_looked_at(provider_server: Provider) -> None:
    """C-17: each look costs a call; only emails to the same recipient since the send can be the one."""
    recipient = email(3, "Ada <ADA@example.com>", ago=timedelta(minutes=1))
    provider_server.answer(200, emails(email(4, "b@example.com"), recipient, email(2, ago=2 * HOUR)))
    provider_server.answer(200, tagged(str(KEY)))
    (answer,) = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL, ago=HOUR))
    assert isinstance(answer, Found)
    assert answer.provider_message_id == "email-3"
    assert [request.path for request in provider_server.requests] == ["/emails?limit=100", "/emails/email-3"]
    assert {request.headers["Authorization"] for request in provider_server.requests} == {"Bearer resend-key"}


async def test_resends_list_is_read_back_to_the_send(provider_server: Provider) -> None:
    """C-17: page by page, until an email is older than the send."""
    provider_server.answer(200, emails(*(email(n, "b@example.com") for n in range(100)), has_more=True))
    provider_server.answer(200, emails(email(100, ago=HOUR), email(101, "b@example.com", ago=9 * HOUR), has_more=True))
    provider_server.answer(200, tagged(str(KEY)))
    (answer,) = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL, ago=2 * HOUR))
    assert isinstance(answer, Found)
    assert answer.provider_message_id == "email-100"
    paths = [request.path for request in provider_server.requests]
    assert paths == ["/emails?limit=100", "/emails?limit=100&after=email-99", "/emails/email-100"]


async def test_one_reading_of_resends_list_serves_all_questions(provider_server: Provider) -> None:
    """C-17: an email that two questions might be about is looked at once."""
    keys = [uuid4(), uuid4(), uuid4()]
    provider_server.answer(200, emails(email(2), email(1, ago=timedelta(seconds=1))))
    provider_server.answer(200, tagged(str(keys[1])))
    provider_server.answer(200, tagged(str(keys[0])))
    questions = [question(Channel.EMAIL, key) for key in keys]
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, *questions)
    found = [answer.provider_message_id if isinstance(answer, Found) else None for answer in answers]
    # The oldest email is looked at first, and what was seen of it is kept.
    assert found == ["email-2", "email-1", None]
    assert len(provider_server.requests) == 3


async def test_an_email_beyond_resends_retention_is_not_declared_missing(provider_server: Provider) -> None:
    """C-17: by its plan Resend forgets after a day: where the list ends, an older email may have been."""
    asked = question(Channel.EMAIL, ago=30 * HOUR)
    provider_server.answer(200, emails(email(1, "b@example.com", ago=20 * HOUR)))
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, asked)
    assert answers == [CannotTell("resend_ask_not_covered")]
    provider_server.answers[:] = [(200, emails(email(1, "b@example.com", ago=40 * HOUR)), {})]
    assert await ask(provider_server.url, "resend", Channel.EMAIL, asked) == [NotFound()]


async def test_resends_own_clock_says_how_far_its_list_goes(provider_server: Provider) -> None:
    """C-14: this host's clock decides nothing."""
    provider_server.answer(200, emails(), Date=format_datetime(datetime.now(UTC) + 40 * HOUR, usegmt=True))
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL))
    assert answers == [CannotTell("resend_ask_not_covered")]


@pytest.mark.parametrize("page", [{}, {"tags": {"alerts_engine": str(KEY)}}, {"tags": "x"}])
async def test_an_email_without_a_list_of_tags_cannot_be_judged(
    provider_server: Provider, page: dict[str, Any]
) -> None:
    """C-17: it may be the one."""
    provider_server.answer(200, emails(email(1)))
    provider_server.answer(200, {"id": "email-1", **page})
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL))
    assert answers == [CannotTell("resend_ask_no_tags")]


@pytest.mark.parametrize("tags", [None, [], [1, {"name": "other", "value": str(KEY)}, {"name": "alerts_engine"}]])
async def test_an_email_with_other_tags_is_another(provider_server: Provider, tags: object) -> None:
    """C-17: only our tag with this very key is the email."""
    provider_server.answer(200, emails(email(1)))
    provider_server.answer(200, {"id": "email-1", "tags": tags})
    assert await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL)) == [NotFound()]


async def test_looking_at_resends_emails_is_bounded(provider_server: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-17: neither an endless list nor a recipient with very many emails makes a run long."""
    monkeypatch.setattr(resend_emails, "PAGES", 2)
    monkeypatch.setattr(resend_emails, "LOOKED_AT", 2)
    provider_server.answer(200, emails(*(email(n) for n in range(3))))
    provider_server.answer(200, tagged("other"))
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL))
    assert answers == [CannotTell("resend_ask_too_many")]
    assert len(provider_server.requests) == 3
    provider_server.answers[:] = [(200, emails(email(1), has_more=True), {})]
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL))
    assert answers == [CannotTell("resend_ask_too_many")]
    assert len(provider_server.requests) == 5


@pytest.mark.parametrize(
    "page",
    [
        emails({"id": "../domains", "to": []}),
        emails({"to": []}),
        emails(email(1), has_more="no"),
        emails(has_more=True),
    ],
)
async def test_a_list_of_resends_that_makes_no_sense_cannot_tell(
    provider_server: Provider, page: dict[str, Any]
) -> None:
    """C-17: no path is made of what is no id."""
    provider_server.answer(200, page)
    answers = await ask(provider_server.url, "resend", Channel.EMAIL, question(Channel.EMAIL))
    assert answers == [CannotTell("resend_ask_unreadable")]
    assert len(provider_server.requests) == 1


# --- Twilio: messages by number and body ----------------------------------------------------------------------------

PATH = "/2010-04-01/Accounts/AC-sid/Messages.json"


def sms(
    sid: str = "SM1", body: object = "secret text €", *, ago: timedelta = timedelta(0), **changes: Any
) -> dict[str, Any]:
    created = format_datetime(datetime.now(UTC) - ago)
    return {"sid": sid, "body": body, "date_created": created, "date_sent": None, "status": "queued", **changes}


def messages(*rows: dict[str, Any], following: object = None) -> dict[str, Any]:
    return {"messages": [*rows], "next_page_uri": following}


def told(answers: list[AskAnswer]) -> list[object]:
    return [answer.provider_message_id if isinstance(answer, Found) else answer for answer in answers]


@pytest.mark.parametrize("status", ["queued", "failed", "undelivered", "delivered", "canceled"])
async def test_a_message_that_failed_later_was_accepted(provider_server: Provider, status: str) -> None:
    """C-17: what becomes of it is for the receipts to say."""
    provider_server.answer(200, messages(sms(status=status)))
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS))) == ["SM1"]
    (request,) = provider_server.requests
    assert request.path == f"{PATH}?To=%2B31612345678&PageSize=200"
    assert request.headers["Authorization"].startswith("Basic ")


async def test_a_trial_account_puts_words_before_the_body(provider_server: Provider) -> None:
    """C-17: its list shows them, too."""
    body = "Sent from your Twilio trial account - secret text €"
    provider_server.answer(200, messages(sms(body=body)))
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS))) == ["SM1"]


@pytest.mark.parametrize("row", [{"body": "secret text"}, {"ago": timedelta(minutes=5)}, {"sid": "SM9"}])
async def test_another_message_is_not_the_one(provider_server: Provider, row: dict[str, Any]) -> None:
    """C-17: another body, created before the send began, or known to be another send's."""
    provider_server.answer(200, messages(sms(**row)))
    asked = question(Channel.SMS, ago=timedelta(minutes=1), taken=frozenset({"SM9"}))
    assert await ask(provider_server.url, "twilio", Channel.SMS, asked) == [NotFound()]


async def test_twilios_clock_may_be_a_little_behind(provider_server: Provider) -> None:
    """C-17: its times have no fraction, and two clocks are never the same."""
    asked = question(Channel.SMS, sent_after=datetime.now(UTC) + timedelta(seconds=5))
    provider_server.answer(200, messages(sms()))
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, asked)) == ["SM1"]


async def test_one_message_never_confirms_two_sends(provider_server: Provider) -> None:
    """C-17: two sends of one body to one number, and one message: one of them was not accepted."""
    provider_server.answer(200, messages(sms(ago=timedelta(minutes=1))))
    first, second = (question(Channel.SMS, uuid4(), ago=timedelta(minutes=minutes)) for minutes in (3, 2))
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, first, second)) == [NotFound(), "SM1"]
    assert len(provider_server.requests) == 1


async def test_the_sandbox_tells_equal_messages_apart() -> None:
    """C-17: three sends of one body, two accepted: exactly two are confirmed, by two messages."""
    async with Sandbox.start(credentials=KEYS) as sandbox, adapter_of(sandbox.url, "twilio", Channel.SMS) as adapter:
        for accepted in (True, False, True):
            sandbox.faults.add(Fault(accept=accepted, reset=True, times=1))
            await adapter.send(letter(Channel.SMS, uuid4()))
        found = told(await adapter.ask([question(Channel.SMS, uuid4()) for _ in range(3)]))
    assert found.count(NotFound()) == 1
    assert {one for one in found if one != NotFound()} == {one.provider_message_id for one in sandbox.messages}


@pytest.mark.parametrize(
    "row", [{"body": ""}, {"body": None}, {"body": ["x"]}, {"date_created": None}, {"date_created": "yesterday"}]
)
async def test_a_message_that_the_list_does_not_show_leaves_a_doubt(
    provider_server: Provider, row: dict[str, Any]
) -> None:
    """C-17: where bodies are redacted the list cannot tell, unless another message is the one."""
    provider_server.answer(200, messages(sms(**row)))
    assert await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS)) == [
        CannotTell("twilio_ask_illegible")
    ]
    provider_server.answers[:] = [(200, messages(sms(**row), sms("SM2")), {})]
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS))) == ["SM2"]


async def test_an_old_message_without_a_body_leaves_no_doubt(provider_server: Provider) -> None:
    """C-17: it was created before the send."""
    provider_server.answer(200, messages(sms(body="", ago=HOUR), sms(body="other", date_created=None)))
    assert await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS)) == [NotFound()]


async def test_twilios_list_is_read_back_to_the_send(provider_server: Provider) -> None:
    """C-17: page by page, as the list itself says, until a page is older than the send."""
    provider_server.answer(200, messages(sms(body="other"), following=f"{PATH}?To=%2B31&Page=1&PageToken=PASM1"))
    provider_server.answer(200, messages(sms("SM2"), sms("SM3", ago=HOUR), following=f"{PATH}?Page=2"))
    provider_server.answer(200, messages(sms("SM4", ago=HOUR), following=f"{PATH}?Page=3"))
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS))) == ["SM2"]
    paths = [request.path for request in provider_server.requests[1:]]
    assert paths == [f"{PATH}?To=%2B31&Page=1&PageToken=PASM1", f"{PATH}?Page=2"]


async def test_a_message_that_waits_long_keeps_the_list_going(provider_server: Provider) -> None:
    """C-17: the list is in the order of sending, so a page of messages that were created long ago may be new."""
    sent = {"date_sent": format_datetime(datetime.now(UTC))}
    provider_server.answer(200, messages(sms("SM5", ago=HOUR, **sent), following=f"{PATH}?Page=1"))
    provider_server.answer(200, messages(sms("SM6", ago=timedelta(minutes=1))))
    asked = question(Channel.SMS, ago=timedelta(minutes=2))
    assert told(await ask(provider_server.url, "twilio", Channel.SMS, asked)) == ["SM6"]


async def test_twilios_pages_are_bounded(provider_server: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-17: a list that never gets back to the send cannot tell."""
    monkeypatch.setattr(twilio_messages, "PAGES", 3)
    provider_server.answer(200, messages(sms(body="other"), following=f"{PATH}?Page=1"))
    answers = await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS))
    assert answers == [CannotTell("twilio_ask_too_many")]
    assert len(provider_server.requests) == 3


@pytest.mark.parametrize(
    "following", ["http://127.0.0.1:1/x?", "//127.0.0.1:1/x?", "/2010-04-01/Accounts.json?", f"{PATH}?a b", 7]
)
async def test_the_credentials_go_to_no_other_page(provider_server: Provider, following: object) -> None:
    """O-3: the next page is a page of the same list, or none."""
    provider_server.answer(200, messages(sms(body="other"), following=following))
    answers = await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS))
    assert answers == [CannotTell("twilio_ask_unreadable")]
    assert len(provider_server.requests) == 1


@pytest.mark.parametrize(("number", "asked"), [("+31 (6) 123-456.78", "%2B31612345678"), ("0612345678", None)])
async def test_a_number_is_asked_about_as_twilio_lists_it(
    provider_server: Provider, number: str, asked: str | None
) -> None:
    """C-17: a filter by a number in another spelling would show an empty list."""
    provider_server.answer(200, messages())
    answers = await ask(provider_server.url, "twilio", Channel.SMS, question(Channel.SMS, destination=number))
    if asked is None:
        assert answers == [CannotTell("twilio_ask_no_search")]
        assert provider_server.requests == []
    else:
        assert answers == [NotFound()]
        assert provider_server.requests[0].path == f"{PATH}?To={asked}&PageSize=200"


async def test_a_question_without_a_body_cannot_be_asked_at_twilio(provider_server: Provider) -> None:
    """C-17: Twilio knows no key of ours."""
    asked = question(Channel.SMS, body_digest=None)
    assert await ask(provider_server.url, "twilio", Channel.SMS, asked) == [CannotTell("twilio_ask_no_search")]


async def test_a_sandbox_with_many_messages_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-17: the sandbox pages as the providers do."""
    monkeypatch.setattr(twilio_messages, "PAGE_SIZE", 2)
    monkeypatch.setattr(resend_emails, "PAGE_SIZE", 2)
    async with Sandbox.start(credentials=KEYS) as sandbox:
        for provider, channel in (("twilio", Channel.SMS), ("resend", Channel.EMAIL)):
            async with adapter_of(sandbox.url, provider, channel) as adapter:
                await adapter.send(letter(channel))
                await asyncio.gather(
                    *(adapter.send(replace(letter(channel, uuid4()), message=other_text(channel))) for _ in range(6))
                )
                (found,) = await adapter.ask([question(channel)])
            assert isinstance(found, Found)
    lists = [one.provider for one in sandbox.asking.questions]
    assert (lists.count(Played.TWILIO), lists.count(Played.RESEND)) == (4, 5)
