"""The sandbox over real HTTP: what its four providers accept and refuse, how it fails on demand, what it shows."""

import asyncio
import base64
import json
import re
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from alerts_engine.sandbox import Credentials, Fault, Provider, Sandbox, SandboxAddressError
from alerts_engine.types import Channel
from tests.support.browser import browser, needs_browser

KEYS = Credentials()
ACCOUNT, AUTH_TOKEN, BOT_TOKEN = KEYS.twilio_account_sid, KEYS.twilio_auth_token, KEYS.telegram_bot_token
BEARER = f"Bearer {KEYS.resend_api_key}"
SENDER, PHONE = "+15005550006", "+31612345678"


@dataclass
class Reply:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Client:
    """Calls the providers as a careful client would; a field given as ``None`` is left out."""

    sandbox: Sandbox
    http: aiohttp.ClientSession = field(repr=False)

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        async with self.http.request(method, self.sandbox.url + path, allow_redirects=False, **options) as answer:
            return Reply(answer.status, answer.headers, await answer.text())

    async def brevo(self, key: str | None = None, api_key: str | None = KEYS.brevo_api_key, **changes: Any) -> Reply:
        payload = {
            "sender": {"name": "Alerts", "email": "alerts@example.com"},
            "to": [{"email": "ada@example.com"}],
            "subject": "Hello",
            "htmlContent": "<p>Hello</p>",
            "textContent": "Hello",
            "headers": {"idempotencyKey": key} if key else None,
        }
        headers = given({"api-key": api_key})
        return await self.call("POST", "/v3/smtp/email", json=given({**payload, **changes}), headers=headers)

    async def resend(self, key: str | None = None, bearer: str | None = BEARER, **changes: Any) -> Reply:
        payload = {
            "from": "Alerts <alerts@example.com>",
            "to": ["ada@example.com"],
            "subject": "Hello",
            "html": "<p>Hello</p>",
            "text": "Hello",
        }
        headers = given({"Authorization": bearer, "Idempotency-Key": key})
        return await self.call("POST", "/emails", json=given({**payload, **changes}), headers=headers)

    async def telegram(self, token: str = BOT_TOKEN, method: str = "sendMessage", **changes: Any) -> Reply:
        payload = {"chat_id": 42, "text": "<b>Hello</b>", "parse_mode": "HTML"}
        return await self.call("POST", f"/bot{token}/{method}", json=given({**payload, **changes}))

    async def twilio(
        self, user: str = ACCOUNT, token: str = AUTH_TOKEN, account: str = ACCOUNT, **changes: Any
    ) -> Reply:
        form = {"To": PHONE, "From": SENDER, "Body": "Hello", "ValidityPeriod": "14400"}
        return await self.call(
            "POST",
            f"/2010-04-01/Accounts/{account}/Messages.json",
            data=given({**form, **changes}),
            headers={"Authorization": "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()},
        )


def given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Sandbox.start() as sandbox, aiohttp.ClientSession() as http:
        yield Client(sandbox, http)


async def in_time(event: Awaitable[None]) -> None:
    """Wait for an event; the limit only turns a hang into a failure."""
    async with asyncio.timeout(30):
        await event


async def unanswered(client: Client) -> None:
    """Wait until the sandbox has noticed that a client left without an answer."""
    while all(attempt.status is not None for attempt in client.sandbox.attempts):
        await client.call("GET", "/healthz")


def new_key() -> str:
    return str(uuid.uuid4())


# --- accepting ----------------------------------------------------------------------------------------------------


async def test_each_provider_accepts_in_its_own_words(client: Client) -> None:
    """A correct call gets the provider's status and its id (providers' documentation)."""
    brevo, resend = await client.brevo(), await client.resend()
    telegram, twilio = await client.telegram(), await client.twilio()
    assert (brevo.status, resend.status, telegram.status, twilio.status) == (201, 200, 200, 201)
    assert re.fullmatch(r"<.+@smtp-relay.+>", brevo.json["messageId"])
    assert uuid.UUID(resend.json["id"])
    assert telegram.json["ok"] is True
    assert telegram.json["result"]["chat"] == {"id": 42, "type": "private"}
    assert re.fullmatch(r"SM[0-9a-f]{32}", twilio.json["sid"])
    assert (twilio.json["status"], twilio.json["num_segments"]) == ("queued", "1")


async def test_accepted_messages_are_kept_as_they_were_sent(client: Client) -> None:
    """Nothing of a message is lost or changed on the way to the inbox."""
    key = new_key()
    brevo = await client.brevo(key)
    await client.telegram(text="<b>1 &lt; 2</b>")
    twilio = await client.twilio(Body="€" * 81)
    email, chat, sms = client.sandbox.messages
    assert (email.provider, email.channel, email.destination) == (Provider.BREVO, Channel.EMAIL, "ada@example.com")
    assert (email.sender, email.subject) == ("Alerts <alerts@example.com>", "Hello")
    assert (email.html, email.text) == ("<p>Hello</p>", "Hello")
    assert (email.idempotency_key, email.provider_message_id) == (key, brevo.json["messageId"])
    assert (chat.destination, chat.html, chat.text) == ("42", "<b>1 &lt; 2</b>", "1 < 2")
    assert (sms.destination, sms.sender, sms.text, sms.segments) == (PHONE, SENDER, "€" * 81, 2)
    assert sms.provider_message_id == twilio.json["sid"]
    assert [message.number for message in client.sandbox.messages] == [1, 2, 3]


async def test_telegram_takes_forms_groups_and_plain_text(client: Client) -> None:
    """The Bot API reads forms as well as JSON, and negative ids are groups (Bot API, "Making requests")."""
    form = {"chat_id": "-1001234567890", "text": "2 < 3"}
    reply = await client.call("POST", f"/bot{BOT_TOKEN}/sendmessage", data=form)
    assert reply.json["result"]["chat"] == {"id": -1001234567890, "type": "supergroup"}
    assert (client.sandbox.messages[0].text, client.sandbox.messages[0].html) == ("2 < 3", None)


async def test_twilio_sends_by_a_messaging_service(client: Client) -> None:
    """Then the sender is not known yet, and no segments are named (Twilio API reference)."""
    service = "MG" + "a" * 32
    reply = await client.twilio(From=None, MessagingServiceSid=service)
    assert (reply.status, reply.json["from"], reply.json["num_segments"]) == (201, None, "0")
    assert client.sandbox.messages[0].sender == service


@pytest.mark.parametrize("address", ["delivered@resend.dev", "bounced@resend.dev", "Ada <ada@example.com>"])
async def test_resend_takes_its_test_addresses_and_names(client: Client, address: str) -> None:
    """One address as text is as good as a list (Resend API reference)."""
    assert (await client.resend(to=address)).status == 200
    assert client.sandbox.messages[0].destination == address.removeprefix("Ada <").removesuffix(">")


async def test_brevos_own_sandbox_mode_checks_but_drops(client: Client) -> None:
    """``X-Sib-Sandbox: drop`` is answered as accepted, and nobody gets a message (Brevo's guide)."""
    assert (await client.brevo(headers={"X-Sib-Sandbox": "drop"})).status == 201
    assert client.sandbox.messages == ()
    assert client.sandbox.attempts[0].status == 201


# --- refusing -----------------------------------------------------------------------------------------------------

BREVO_REFUSALS = {
    "no key": ({"api_key": None}, 401, "unauthorized"),
    "another key": ({"api_key": "another-key"}, 401, "unauthorized"),
    "more than the key": ({"api_key": KEYS.brevo_api_key + "x"}, 401, "unauthorized"),
    "another case": ({"api_key": KEYS.brevo_api_key.upper()}, 401, "unauthorized"),
    "no sender": ({"sender": None}, 400, "missing_parameter"),
    "bad sender": ({"sender": {"email": "nobody"}}, 400, "invalid_parameter"),
    "no recipient": ({"to": []}, 400, "missing_parameter"),
    "bad recipient": ({"to": [{"email": "ada@"}]}, 400, "invalid_parameter"),
    "two at-signs": ({"to": [{"email": "a@b@example.com"}]}, 400, "invalid_parameter"),
    "line break in a recipient": ({"to": [{"email": "ada@example.com\nBcc: x"}]}, 400, "invalid_parameter"),
    "no subject": ({"subject": None}, 400, "missing_parameter"),
    "text alone": ({"htmlContent": None}, 400, "missing_parameter"),
    "header not ASCII": ({"headers": {"X-Note": "é"}}, 400, "invalid_parameter"),
    "key not a UUID": ({"key": "delivery-1"}, 400, "invalid_parameter"),
    "versions": ({"messageVersions": []}, 400, "invalid_parameter"),
}


@pytest.mark.parametrize(("changes", "status", "code"), BREVO_REFUSALS.values(), ids=BREVO_REFUSALS)
async def test_brevo_refuses(client: Client, changes: dict[str, Any], status: int, code: str) -> None:
    """Brevo's errors are ``{"code", "message"}`` (Brevo API reference)."""
    reply = await client.brevo(**changes)
    assert (reply.status, reply.json["code"], set(reply.json)) == (status, code, {"code", "message"})
    assert client.sandbox.messages == ()


RESEND_REFUSALS = {
    "no key": ({"bearer": None}, 401, "missing_api_key"),
    "another scheme": ({"bearer": "Basic abc"}, 401, "missing_api_key"),
    "another key": ({"bearer": "Bearer another-key"}, 403, "invalid_api_key"),
    "another scheme with the key": ({"bearer": f"Basic {KEYS.resend_api_key}"}, 401, "missing_api_key"),
    "no sender": ({"from": None}, 422, "missing_required_field"),
    "bad sender": ({"from": "Alerts"}, 422, "validation_error"),
    "no recipient": ({"to": []}, 422, "missing_required_field"),
    "bad recipient": ({"to": ["ada@example.com", "bob"]}, 422, "validation_error"),
    "too many recipients": ({"to": ["ada@example.com"] * 51}, 422, "validation_error"),
    "no subject": ({"subject": None}, 422, "missing_required_field"),
    "no content": ({"html": None, "text": None}, 422, "missing_required_field"),
    "key too long": ({"key": "k" * 257}, 400, "invalid_idempotency_key"),
}


@pytest.mark.parametrize(("changes", "status", "name"), RESEND_REFUSALS.values(), ids=RESEND_REFUSALS)
async def test_resend_refuses(client: Client, changes: dict[str, Any], status: int, name: str) -> None:
    """Resend's errors are ``{"statusCode", "name", "message"}`` (Resend's list of errors)."""
    reply = await client.resend(**changes)
    assert (reply.status, reply.json["statusCode"], reply.json["name"]) == (status, status, name)
    assert client.sandbox.messages == ()


TELEGRAM_REFUSALS = {
    "no token": ({"token": "nonsense"}, 404, "Not Found"),
    "another token": ({"token": "1000:another"}, 401, "Unauthorized"),
    "another bot": ({"token": f"1{BOT_TOKEN}"}, 401, "Unauthorized"),
    "another token and method": ({"token": "1000:another", "method": "sendFax"}, 401, "Unauthorized"),
    "unknown method": ({"method": "sendFax"}, 404, "Not Found"),
    "no chat": ({"chat_id": None}, 400, "Bad Request: chat_id is empty"),
    "chat is a name": ({"chat_id": "ada"}, 400, "Bad Request: chat not found"),
    "no text": ({"text": None}, 400, "Bad Request: message text is empty"),
    "empty text": ({"text": ""}, 400, "Bad Request: message text is empty"),
    "nothing but tags": ({"text": "<b> </b>"}, 400, "Bad Request: text must be non-empty"),
    "unknown mode": ({"parse_mode": "rtf"}, 400, "Bad Request: unsupported parse_mode"),
    "cut tag": (
        {"text": "<b>Hello"},
        400,
        "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"",
    ),
    "too long": ({"text": "a" * 4097}, 400, "Bad Request: message is too long"),
    "too long in UTF-16": ({"text": "🔴" * 2049}, 400, "Bad Request: message is too long"),
    "lone surrogate": ({"text": "\ud83d"}, 400, "Bad Request: strings must be encoded in UTF-8, objects in JSON"),
}


@pytest.mark.parametrize(("changes", "status", "description"), TELEGRAM_REFUSALS.values(), ids=TELEGRAM_REFUSALS)
async def test_telegram_refuses(client: Client, changes: dict[str, Any], status: int, description: str) -> None:
    """Telegram's errors are ``{"ok", "error_code", "description"}`` (Bot API, "Making requests")."""
    reply = await client.telegram(**changes)
    assert reply.status == status
    assert reply.json == {"ok": False, "error_code": status, "description": description}
    assert client.sandbox.messages == ()


async def test_telegram_counts_what_is_left_after_parsing(client: Client) -> None:
    """4096 characters fit, however long their markup is (M-2)."""
    assert (await client.telegram(text="<b>" + "&lt;" * 4096 + "</b>")).status == 200


TWILIO_REFUSALS = {
    "another account": ({"user": "AC1"}, 401, 20003),
    "another account in the path": ({"account": "AC1"}, 401, 20003),
    "another account in both": ({"account": "AC1", "user": "AC1"}, 401, 20003),
    "another token": ({"token": "another-token"}, 401, 20003),
    "no token": ({"token": ""}, 401, 20003),
    "no recipient": ({"To": None}, 400, 21604),
    "national number": ({"To": "0612345678"}, 400, 21211),
    "too long a number": ({"To": "+1234567890123456"}, 400, 21211),
    "no sender": ({"From": None}, 400, 21603),
    "bad sender": ({"From": "!"}, 400, 21212),
    "no body": ({"Body": None}, 400, 21602),
    "body too long": ({"Body": "a" * 1601}, 400, 21617),
    "no validity": ({"ValidityPeriod": "0"}, 400, 21624),
    "validity too long": ({"ValidityPeriod": "36001"}, 400, 21624),
    "validity not a number": ({"ValidityPeriod": "1h"}, 400, 21624),
}


@pytest.mark.parametrize(("changes", "status", "code"), TWILIO_REFUSALS.values(), ids=TWILIO_REFUSALS)
async def test_twilio_refuses(client: Client, changes: dict[str, Any], status: int, code: int) -> None:
    """Twilio's errors are ``{"code", "message", "more_info", "status"}`` (Twilio's list of errors)."""
    reply = await client.twilio(**changes)
    assert (reply.status, reply.json["code"], reply.json["status"]) == (status, code, status)
    assert client.sandbox.messages == ()


@pytest.mark.parametrize("path", ["/v3/smtp/email", "/emails", f"/bot{BOT_TOKEN}/sendMessage"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'"text"', b"[" * 100_000])
async def test_a_body_that_is_not_a_json_object_is_a_bad_request(client: Client, path: str, body: bytes) -> None:
    """No body makes the sandbox itself fail."""
    headers = {"api-key": KEYS.brevo_api_key, "Authorization": BEARER, "Content-Type": "application/json"}
    assert (await client.call("POST", path, data=body, headers=headers)).status == 400


async def test_refused_calls_are_logged_with_what_is_known_of_them(client: Client) -> None:
    """The log of attempts has destination and key of a refused call too."""
    key = new_key()
    await client.brevo(key, subject=None)
    await client.twilio(To="nobody")
    brevo, twilio = client.sandbox.attempts
    assert (brevo.destination, brevo.status, brevo.idempotency_key) == ("ada@example.com", 400, key)
    assert (twilio.provider, twilio.destination, twilio.status) == (Provider.TWILIO, "nobody", 400)
    assert client.sandbox.requests == 2


# --- idempotency --------------------------------------------------------------------------------------------------


async def test_brevo_refuses_a_repeated_key_and_keeps_one_message(client: Client) -> None:
    """A repeat is ``duplicate_parameter``: the first call was accepted (C-12)."""
    key = new_key()
    assert (await client.brevo(key)).status == 201
    again = await client.brevo(key)
    assert (again.status, again.json["code"]) == (400, "duplicate_parameter")
    assert (len(client.sandbox.messages), len(client.sandbox.attempts)) == (1, 2)


async def test_resend_replays_the_first_id(client: Client) -> None:
    """The same key with the same payload is the same email (C-12)."""
    first, again = await client.resend("key"), await client.resend("key")
    assert (again.status, again.json) == (200, first.json)
    assert len(client.sandbox.messages) == 1


async def test_resend_refuses_a_key_with_another_payload(client: Client) -> None:
    """The same key with another payload is a mistake, and no message (C-12)."""
    await client.resend("key")
    other = await client.resend("key", subject="Other")
    assert (other.status, other.json["name"]) == (409, "invalid_idempotent_request")
    assert len(client.sandbox.messages) == 1


async def test_resend_refuses_a_twin_in_flight(client: Client) -> None:
    """While the first call is unanswered, a second one with its key is refused; later it replays (C-12)."""
    client.sandbox.faults.add(Fault(hang=True, accept=True, times=1))
    first = asyncio.create_task(client.resend("key"))
    await in_time(client.sandbox.wait_for_messages(1))
    twin = await client.resend("key")
    assert (twin.status, twin.json["name"]) == (409, "concurrent_idempotent_requests")
    first.cancel()
    await in_time(unanswered(client))
    assert (await client.resend("key")).status == 200
    assert len(client.sandbox.messages) == 1


async def test_a_refused_call_does_not_use_up_its_key(client: Client) -> None:
    """Only acceptance makes a key used (C-12)."""
    key = new_key()
    client.sandbox.faults.add(Fault(status=500, times=1))
    assert [(await client.brevo(key, subject=None)).status, (await client.brevo(key)).status] == [400, 500]
    assert (await client.brevo(key)).status == 201


async def test_clear_forgets_messages_attempts_and_keys(client: Client) -> None:
    """A cleared sandbox is as good as a new one, but for the numbers and the faults."""
    key = new_key()
    await client.brevo(key)
    client.sandbox.clear()
    assert (client.sandbox.messages, client.sandbox.attempts, client.sandbox.requests) == ((), (), 0)
    assert (await client.brevo(key)).status == 201
    assert client.sandbox.messages[0].number == 2


# --- faults -------------------------------------------------------------------------------------------------------


async def test_a_fault_strikes_its_destination_alone(client: Client) -> None:
    """The others go on as if nothing were wrong."""
    client.sandbox.faults.add(Fault("ada@example.com", status=503))
    assert (await client.brevo()).status == 503
    assert (await client.brevo(to=[{"email": "bob@example.com"}])).status == 201
    assert [(attempt.status, attempt.fault) for attempt in client.sandbox.attempts] == [(503, True), (201, False)]


async def test_a_call_that_is_refused_anyway_spends_no_fault(client: Client) -> None:
    """A fault waits for a call that would have worked."""
    client.sandbox.faults.add(Fault(status=503, times=1))
    assert (await client.brevo(subject=None)).status == 400
    assert (await client.brevo()).status == 503


async def test_a_rate_limit_names_its_pause(client: Client) -> None:
    """Telegram says it twice, in the body and in a header (C-8)."""
    client.sandbox.faults.add(Fault(retry_after=7200))
    reply = await client.telegram()
    assert (reply.status, reply.json["parameters"], reply.headers["Retry-After"]) == (
        429,
        {"retry_after": 7200},
        "7200",
    )


async def test_a_retry_after_can_be_a_date(client: Client) -> None:
    """HTTP allows both forms (RFC 9110, section 10.2.3)."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    client.sandbox.faults.add(Fault(status=503, retry_after_date=date))
    assert (await client.twilio()).headers["Retry-After"] == date


async def test_a_group_that_moved_names_its_new_id(client: Client) -> None:
    """Telegram answers 400 with ``migrate_to_chat_id`` (C-7)."""
    client.sandbox.faults.add(Fault("-5", migrate_to_chat_id=-1005))
    reply = await client.telegram(chat_id=-5)
    assert (reply.status, reply.json["parameters"]) == (400, {"migrate_to_chat_id": -1005})


async def test_a_body_can_be_anything(client: Client) -> None:
    """A proxy's HTML page with status 200 is no acceptance (C-6)."""
    client.sandbox.faults.add(Fault(body=b"<html>\xff", content_type="text/html", times=1))
    url = f"{client.sandbox.url}/bot{BOT_TOKEN}/sendMessage"
    async with client.http.post(url, json={"chat_id": 1, "text": "x"}) as answer:
        assert (answer.status, answer.content_type, await answer.read()) == (200, "text/html", b"<html>\xff")
    assert client.sandbox.messages == ()


async def test_an_answer_can_be_as_large_as_asked(client: Client) -> None:
    """A client must not read without end (C-6)."""
    client.sandbox.faults.add(Fault(status=500, size=3_000_000))
    assert len((await client.brevo()).text) == 3_000_000


async def test_a_redirect_has_its_location(client: Client) -> None:
    """A client that follows would send a secret to a stranger."""
    client.sandbox.faults.add(Fault(status=307, redirect_to="https://example.com/"))
    reply = await client.brevo()
    assert (reply.status, reply.headers["Location"]) == (307, "https://example.com/")


async def test_a_reset_drops_the_connection(client: Client) -> None:
    """No answer and no message: it is safe to try again (C-6)."""
    client.sandbox.faults.add(Fault(reset=True, times=1))
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await client.twilio()
    assert client.sandbox.messages == ()
    assert [(attempt.status, attempt.fault) for attempt in client.sandbox.attempts] == [(None, True)]


async def test_an_accepted_message_can_lose_its_answer(client: Client) -> None:
    """The message is kept, the client cannot know, and its repeat is recognised (C-12)."""
    key = new_key()
    client.sandbox.faults.add(Fault(reset=True, accept=True, times=1))
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await client.brevo(key)
    assert len(client.sandbox.messages) == 1
    assert (await client.brevo(key)).json["code"] == "duplicate_parameter"
    assert len(client.sandbox.messages) == 1


async def test_an_accepted_message_can_get_an_error(client: Client) -> None:
    """A 500 after acceptance: kept, although the answer says otherwise (C-12)."""
    client.sandbox.faults.add(Fault(status=500, accept=True))
    assert (await client.resend("key")).status == 500
    assert len(client.sandbox.messages) == 1


@pytest.mark.parametrize("accept", [True, False])
async def test_an_answer_can_be_cut_in_the_middle(client: Client, accept: bool) -> None:
    """Less comes than was announced (C-6)."""
    client.sandbox.faults.add(Fault(truncate=True, accept=accept))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.brevo()
    assert len(client.sandbox.messages) == accept
    assert client.sandbox.attempts[0].status == (201 if accept else 500)


async def test_a_hanging_call_ends_when_the_client_leaves(client: Client) -> None:
    """It is logged as unanswered, and the message is not taken."""
    client.sandbox.faults.add(Fault(hang=True, times=1))
    call = asyncio.create_task(client.brevo())
    await in_time(client.sandbox.wait_for_requests(1))
    call.cancel()
    await in_time(unanswered(client))
    assert client.sandbox.attempts[0].status is None
    assert client.sandbox.messages == ()


async def test_a_hanging_call_ends_when_the_sandbox_stops() -> None:
    """Stopping waits for nobody."""
    async with aiohttp.ClientSession() as http:
        async with Sandbox.start() as sandbox:
            sandbox.faults.add(Fault(hang=True))
            call = asyncio.create_task(Client(sandbox, http).brevo())
            await in_time(sandbox.wait_for_requests(1))
        with pytest.raises(aiohttp.ClientError):
            await in_time(call)


async def test_a_delayed_message_is_taken_after_the_wait(client: Client) -> None:
    """A client that leaves during the delay has sent nothing; one that waits is answered as usual."""
    client.sandbox.faults.add(Fault(delay=600, times=1))
    impatient = asyncio.create_task(client.brevo())
    await in_time(client.sandbox.wait_for_requests(1))
    impatient.cancel()
    await in_time(unanswered(client))
    assert client.sandbox.messages == ()
    client.sandbox.faults.add(Fault(delay=0.01))
    assert (await client.brevo()).status == 201
    assert len(client.sandbox.messages) == 1


async def test_a_delayed_answer_can_follow_an_accepted_message(client: Client) -> None:
    """With ``accept`` the message is there before the answer is (C-12)."""
    client.sandbox.faults.add(Fault(delay=600, accept=True))
    call = asyncio.create_task(client.brevo())
    await in_time(client.sandbox.wait_for_messages(1))
    assert not call.done()
    call.cancel()


# --- control API --------------------------------------------------------------------------------------------------


async def test_messages_can_be_read_by_other_processes(client: Client) -> None:
    """As JSON, oldest first, narrowed down by channel, destination, number and count."""
    await client.brevo()
    await client.telegram()
    await client.telegram(chat_id=43)

    async def numbers(query: str) -> list[int]:
        reply = await client.call("GET", f"/api/messages{query}")
        assert (reply.json["total"], reply.json["dropped"], reply.json["oldest"]) == (3, 0, 1)
        assert reply.json["channels"] == {"email": 1, "telegram": 2}
        return [message["number"] for message in reply.json["messages"]]

    assert await numbers("") == [1, 2, 3]
    assert await numbers("?channel=telegram") == [2, 3]
    assert await numbers("?destination=43") == [3]
    assert await numbers("?since=1") == [2, 3]
    assert await numbers("?before=3") == [1, 2]
    assert await numbers("?since=1&before=3&limit=9") == [2]
    assert await numbers("?before=3&limit=1") == [2]
    assert await numbers("?limit=1") == [3]
    assert await numbers("?channel=sms") == []


async def test_a_message_as_json_has_all_its_fields(client: Client) -> None:
    """Times are ISO 8601 with their offset."""
    await client.twilio()
    (message,) = (await client.call("GET", "/api/messages")).json["messages"]
    assert message["received_at"] == client.sandbox.messages[0].received_at.isoformat()
    assert message["received_at"].endswith("+00:00")
    assert (message["channel"], message["destination"], message["segments"]) == ("sms", PHONE, 1)
    assert message["subject"] is message["html"] is message["idempotency_key"] is None


@pytest.mark.parametrize("query", ["channel=fax", "since=x", "before=x", "limit=-1", "user=1"])
async def test_a_wrong_filter_is_named(client: Client, query: str) -> None:
    """400 says which parameter is wrong."""
    reply = await client.call("GET", f"/api/messages?{query}")
    assert reply.status == 400
    assert reply.json["error"].startswith(query.partition("=")[0])


async def test_messages_can_be_dropped_and_attempts_read(client: Client) -> None:
    """Between two scenarios another process can start afresh."""
    await client.brevo(subject=None)
    reply = await client.call("GET", "/api/attempts")
    assert reply.json["requests"] == 1
    assert reply.json["attempts"][0]["status"] == 400
    assert (await client.call("DELETE", "/api/messages")).status == 204
    assert (await client.call("GET", "/api/attempts")).json == {"requests": 0, "attempts": []}


async def test_faults_can_be_set_by_other_processes(client: Client) -> None:
    """Set, seen counting down, and lifted over HTTP."""
    fault = {"destination": "ada@example.com", "status": 503, "times": 5}
    assert (await client.call("POST", "/api/faults", json=fault)).status == 201
    assert (await client.brevo()).status == 503
    assert (await client.call("GET", "/api/faults")).json == {"faults": [{**fault, "times": 4}]}
    assert (await client.call("DELETE", "/api/faults")).status == 204
    assert (await client.brevo()).status == 201


async def test_a_wrong_fault_is_named(client: Client) -> None:
    """400 says which field is wrong, and nothing is set."""
    reply = await client.call("POST", "/api/faults", json={"status": 500, "destinaton": "x"})
    assert reply.status == 400
    assert "destinaton" in reply.json["error"]
    assert client.sandbox.faults.list == ()


async def test_control_calls_are_no_provider_calls(client: Client) -> None:
    """Looking does not change what is counted."""
    assert (await client.call("GET", "/healthz")).json == {"status": "ok"}
    await client.call("GET", "/")
    assert client.sandbox.requests == 0


# --- inbox page ---------------------------------------------------------------------------------------------------


async def test_the_page_runs_no_script_but_its_own_and_loads_nothing(client: Client) -> None:
    """The policy allows the page's one script by its hash; nothing in the page comes from elsewhere."""
    reply = await client.call("GET", "/")
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='(;|$)", policy)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", reply.text)
    assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", reply.text)


async def test_the_page_never_parses_a_message_into_itself(client: Client) -> None:
    """Messages become text nodes, an email a frame without scripts."""
    page = (await client.call("GET", "/")).text
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "allow-scripts"):
        assert sink not in page
    assert 'sandbox: "allow-same-origin' in page


@needs_browser
async def test_a_hostile_message_stays_text(client: Client) -> None:
    """What a browser makes of the page has no script, handler or link of the message in it."""
    await client.twilio(Body="<img src=x onerror='document.title=1'>")
    text = (
        '<b onclick="1">bold</b> <a href="javascript:1">link</a> <a href="https://example.com/">good</a> &lt;script&gt;'
    )
    await client.telegram(text=text)
    async with browser() as started:
        page = await started.new_page()
        await page.goto(f"{client.sandbox.url}/#2")
        await page.locator("[data-complete]").wait_for(state="attached")
        thread = await page.locator(".thread").inner_html()
        assert "<strong>bold</strong>" in thread
        assert 'href="https://example.com/"' in thread
        assert "javascript:" not in thread
        assert "onclick" not in thread
        assert "&lt;img src=x onerror='document.title=1'&gt;" in await page.locator("#list").inner_html()
        assert await page.title() == "Sandbox inbox"


# --- starting and stopping ----------------------------------------------------------------------------------------


async def test_a_busy_port_is_a_clear_error() -> None:
    """The error names the address, so that the user can pick another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SandboxAddressError, match=f"127.0.0.1:{port}"):
            async with Sandbox.start(port=port):
                pass


async def test_nobody_listens_after_its_end() -> None:
    """The port is free again."""
    async with aiohttp.ClientSession() as http:
        async with Sandbox.start() as sandbox, http.get(f"{sandbox.url}/healthz") as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(f"{sandbox.url}/healthz")
