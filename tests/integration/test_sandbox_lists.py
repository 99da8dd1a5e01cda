"""What the sandbox's providers show of the messages they accepted, over real HTTP."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from alerts_engine.sandbox import Credentials, Fault, Provider, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

KEYS = Credentials()
ACCOUNT = KEYS.twilio_account_sid
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
EVENTS = "/v3/smtp/statistics/events"
AUTHORIZED: Mapping[str, str] = {
    "api-key": KEYS.brevo_api_key,
    "Authorization": f"Bearer {KEYS.resend_api_key}",
}
TWILIO: Mapping[str, str] = {
    "Authorization": "Basic " + base64.b64encode(f"{ACCOUNT}:{KEYS.twilio_auth_token}".encode()).decode()
}


@dataclass
class Client:
    sandbox: Sandbox
    http: aiohttp.ClientSession

    async def get(self, path: str, headers: Mapping[str, str] = AUTHORIZED, **query: str | int) -> tuple[int, Any]:
        async with self.http.get(self.sandbox.url + path, params=query, headers=headers) as answer:
            return answer.status, await answer.json()

    async def brevo(self, to: str = "ada@example.com", **changes: Any) -> tuple[int, Any]:
        payload = {
            "sender": {"email": "alerts@example.com"},
            "to": [{"email": to}],
            "subject": "Hello",
            "htmlContent": "<p>Hello</p>",
            **changes,
        }
        return await self.post("/v3/smtp/email", json=payload, headers=AUTHORIZED)

    async def resend(self, key: str | None = None, **changes: Any) -> tuple[int, Any]:
        payload = {"from": "alerts@example.com", "to": "ada@example.com", "subject": "Hello", "text": "Hello"}
        headers = dict(AUTHORIZED) | ({} if key is None else {"Idempotency-Key": key})
        return await self.post("/emails", json={**payload, **changes}, headers=headers)

    async def twilio(self, body: str = "Hello", to: str = "+31612345678") -> tuple[int, Any]:
        return await self.post(MESSAGES, data={"To": to, "From": "+15005550006", "Body": body}, headers=TWILIO)

    async def post(self, path: str, **request: Any) -> tuple[int, Any]:
        async with self.http.post(self.sandbox.url + path, **request) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def serving() -> AsyncIterator[Client]:
    async with Sandbox.start() as sandbox, aiohttp.ClientSession() as http:
        yield Client(sandbox, http)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving() as client:
        yield client


# --- Brevo ----------------------------------------------------------------------------------------------------------


async def test_brevo_shows_an_emails_events_newest_first(client: Client) -> None:
    """Two events for each email, with its tags joined by commas (Brevo's API reference)."""
    await client.brevo(tags=["a", "b"])
    await client.brevo("bob@example.com", tags=["c"])
    status, page = await client.get(EVENTS)
    assert status == 200
    seen = [(event["email"], event["event"], event["tag"]) for event in page["events"]]
    assert seen == [
        ("bob@example.com", "delivered", "c"),
        ("bob@example.com", "requests", "c"),
        ("ada@example.com", "delivered", "a,b"),
        ("ada@example.com", "requests", "a,b"),
    ]
    first, second = client.sandbox.messages
    assert [event["messageId"] for event in page["events"][1:3]] == [
        second.provider_message_id,
        first.provider_message_id,
    ]
    assert datetime.fromisoformat(page["events"][3]["date"]) <= first.received_at


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"tags": "a"}, 2),
        ({"tags": '["a"]'}, 0),
        ({"tags": "a,b"}, 0),
        ({"email": "bob@example.com"}, 2),
        ({"email": "nobody@example.com"}, 0),
        ({"limit": 3}, 3),
        ({"limit": 3, "offset": 3}, 1),
        ({"days": 1}, 4),
        ({"startDate": "2020-01-01", "endDate": "2020-01-02"}, 0),
    ],
)
async def test_brevos_events_can_be_filtered(client: Client, query: dict[str, str | int], count: int) -> None:
    """By tag, recipient and days; the tag as an array finds nothing, as was measured at Brevo."""
    await client.brevo(tags=["a", "b"])
    await client.brevo("bob@example.com", tags=["c"])
    status, page = await client.get(EVENTS, **query)
    assert (status, len(page["events"])) == (200, count)


@pytest.mark.parametrize(
    "query",
    [
        {"days": 91},
        {"days": 1, "startDate": "2026-01-01"},
        {"startDate": "2026-01-01"},
        {"startDate": "2026-01-02", "endDate": "2026-01-01"},
        {"startDate": "01/02/2026", "endDate": "2026-01-01"},
        {"startDate": "2026-01-01", "endDate": "2026-12-01"},
        {"limit": 5001},
        {"limit": "x"},
    ],
)
async def test_brevo_refuses_what_its_reference_does(client: Client, query: dict[str, str | int]) -> None:
    """At most 90 days, one way to name them, and 5000 events."""
    status, page = await client.get(EVENTS, **query)
    assert (status, page["code"] in {"invalid_parameter", "out_of_range"}) == (400, True)


@pytest.mark.parametrize("tags", ["a", [1], [""], []])
async def test_brevo_takes_tags_as_texts_only(client: Client, tags: object) -> None:
    """Tags are an array of strings."""
    status, answer = await client.brevo(tags=tags)
    assert (status, answer["code"]) == (400, "invalid_parameter")


# --- Resend ---------------------------------------------------------------------------------------------------------


async def test_resend_lists_emails_without_their_tags_and_shows_each_with_them(client: Client) -> None:
    """The list has recipients and times; the tags stand with the email alone (Resend's API reference)."""
    _, sent = await client.resend(tags=[{"name": "alerts_engine", "value": "k-1"}])
    status, page = await client.get("/emails")
    (listed,) = page["data"]
    assert (status, page["object"], page["has_more"]) == (200, "list", False)
    assert (listed["id"], listed["to"], "tags" in listed) == (sent["id"], ["ada@example.com"], False)
    assert datetime.fromisoformat(listed["created_at"]) == client.sandbox.messages[0].received_at
    status, email = await client.get(f"/emails/{sent['id']}")
    assert (status, email["object"], email["text"]) == (200, "email", "Hello")
    assert email["tags"] == [{"name": "alerts_engine", "value": "k-1"}]


async def test_resends_list_goes_on_after_an_email(client: Client) -> None:
    """Newest first; ``after`` names the last one seen."""
    ids = [(await client.resend())[1]["id"] for _ in range(3)][::-1]
    _, first = await client.get("/emails", limit=2)
    _, second = await client.get("/emails", limit=2, after=first["data"][-1]["id"])
    assert [email["id"] for email in first["data"] + second["data"]] == ids
    assert (first["has_more"], second["has_more"]) == (True, False)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/emails", {"limit": 101}, (422, "validation_error")),
        ("/emails", {"limit": 0}, (422, "validation_error")),
        ("/emails", {"after": "nobody"}, (422, "validation_error")),
        ("/emails/nobody", {}, (404, "not_found")),
    ],
)
async def test_resend_refuses_what_it_does_not_know(
    client: Client, path: str, query: dict[str, str | int], expected: tuple[int, str]
) -> None:
    """In its own form."""
    status, page = await client.get(path, **query)
    assert (status, page["name"]) == expected


@pytest.mark.parametrize("tags", ["a", [{"name": "a"}], [{"name": "a", "value": "ä"}], [{"name": "a b", "value": "c"}]])
async def test_resend_takes_tags_of_its_own_form_only(client: Client, tags: object) -> None:
    """Names and values of ASCII letters, digits, underscores and dashes."""
    status, answer = await client.resend(tags=tags)
    assert (status, answer["name"]) == (422, "validation_error")


async def test_resend_compares_a_repeat_byte_by_byte(client: Client) -> None:
    """The same JSON in another order is another request body (C-12)."""
    one = '{"from": "a@example.com", "to": "b@example.com", "subject": "Hello", "text": "Hello"}'
    other = '{"to": "b@example.com", "from": "a@example.com", "subject": "Hello", "text": "Hello"}'
    headers = {**AUTHORIZED, "Idempotency-Key": "k", "Content-Type": "application/json"}
    first, again, changed = [await client.post("/emails", data=text, headers=headers) for text in (one, one, other)]
    assert first == again
    assert (changed[0], changed[1]["name"]) == (409, "invalid_idempotent_request")


# --- Twilio ---------------------------------------------------------------------------------------------------------


async def test_twilio_lists_the_messages_to_a_number_page_by_page(client: Client) -> None:
    """Newest first; ``next_page_uri`` is the next page's path, and null on the last one (Twilio's API reference)."""
    sids = [(await client.twilio(f"Hello {number}"))[1]["sid"] for number in range(3)][::-1]
    await client.twilio(to="+31687654321")
    _, first = await client.get(MESSAGES, TWILIO, To="+31612345678", PageSize=2)
    _, second = await client.get(first["next_page_uri"], TWILIO)
    assert [message["sid"] for message in first["messages"] + second["messages"]] == sids
    assert second["next_page_uri"] is None
    (last,) = second["messages"]
    assert (last["body"], last["to"], last["status"]) == ("Hello 0", "+31612345678", "delivered")
    assert timedelta(0) <= datetime.now(UTC) - parsedate_to_datetime(last["date_created"]) < timedelta(minutes=5)


@pytest.mark.parametrize("query", [{"PageSize": 0}, {"PageSize": 1001}, {"PageSize": "x"}, {"DateSent": "2026-01-01"}])
async def test_twilio_refuses_what_is_out_of_bounds(client: Client, query: dict[str, str | int]) -> None:
    """In its own form; what is not played is refused, not ignored."""
    status, page = await client.get(MESSAGES, TWILIO, **query)
    assert (status, page["status"], page["code"] in {20001, 20007}) == (400, 400, True)


async def test_twilio_lists_nothing_after_a_page_that_it_does_not_know(client: Client) -> None:
    """A token of another list is none of this one."""
    await client.twilio()
    _, page = await client.get(MESSAGES, TWILIO, PageToken="PASM1")
    assert page["messages"] == []


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [EVENTS, "/emails", "/emails/1", MESSAGES])
async def test_nobody_reads_without_a_key(client: Client, path: str) -> None:
    """The same credentials as for sending."""
    status, _ = await client.get(path, {})
    assert status == 401


async def test_messages_are_listed_when_the_lag_is_over(client: Client) -> None:
    """How long the real lists lag is documented by nobody; here it can be set, and the clock moved."""
    client.sandbox.asking.lag_seconds = 60
    await client.brevo()
    await client.resend()
    await client.twilio()
    lists = [(EVENTS, AUTHORIZED, "events"), ("/emails", AUTHORIZED, "data"), (MESSAGES, TWILIO, "messages")]
    for seconds, counts in ((0, [0, 0, 0]), (59, [0, 0, 0]), (2, [2, 1, 1])):
        client.sandbox.advance(seconds)
        pages = [(await client.get(path, headers))[1][name] for path, headers, name in lists]
        assert [len(page) for page in pages] == counts


async def test_a_list_is_dated_by_the_sandboxs_clock(client: Client) -> None:
    """Whoever compares its times with "now" finds both on one clock."""
    client.sandbox.advance(86_400)
    async with client.http.get(client.sandbox.url + "/emails", headers=AUTHORIZED) as answer:
        dated = parsedate_to_datetime(answer.headers["Date"])
    assert timedelta(hours=23) < dated - datetime.now(UTC) < timedelta(hours=25)


async def test_faults_of_questions_leave_sends_alone_and_the_other_way_round(client: Client) -> None:
    """A key that may send but not read is refused the one and granted the other."""
    client.sandbox.faults.add(Fault(provider=Provider.BREVO, status=403, when_asked=True))
    client.sandbox.faults.add(Fault(provider=Provider.RESEND, status=500))
    assert [(await client.brevo())[0], (await client.resend())[0]] == [201, 500]
    assert [(await client.get(EVENTS))[0], (await client.get("/emails"))[0]] == [403, 200]


async def test_a_fault_can_be_for_questions_about_one_destination(client: Client) -> None:
    """Where the question names it."""
    client.sandbox.faults.add(Fault("ada@example.com", status=429, retry_after=3, when_asked=True, times=1))
    statuses = [(await client.get(EVENTS, email=f"{name}@example.com"))[0] for name in ("bob", "ada", "ada")]
    assert statuses == [200, 429, 200]
    assert [(one.destination, one.status, one.fault) for one in client.sandbox.asking.questions] == [
        ("bob@example.com", 200, False),
        ("ada@example.com", 429, True),
        ("ada@example.com", 200, False),
    ]


async def test_questions_are_not_counted_as_calls_that_send(client: Client) -> None:
    """Tests wait for calls by their number."""
    await client.get(EVENTS)
    assert (client.sandbox.requests, client.sandbox.attempts) == (0, ())


async def test_the_life_of_keys_can_be_set(client: Client) -> None:
    """Short lives make short tests; keys that were used already live by the new one, too."""
    client.sandbox.set_key_life(Provider.RESEND, 10)
    for seconds, count in ((0, 1), (9, 1), (2, 2)):
        client.sandbox.advance(seconds)
        await client.resend("k")
        assert len(client.sandbox.messages) == count
    client.sandbox.advance(9)
    client.sandbox.set_key_life(Provider.RESEND, 5)
    await client.resend("k")
    assert len(client.sandbox.messages) == 3
    with pytest.raises(ValueError, match="no keys"):
        client.sandbox.set_key_life(Provider.TWILIO, 10)
