"""The four adapters against real servers: what goes over the wire, and what their answers come to."""

from __future__ import annotations

from base64 import b64decode
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from alerts_engine.channels import build_adapters, channels, create_session, telegram
from alerts_engine.sandbox import Fault, Sandbox
from alerts_engine.types import Channel, ChannelDown, DownCause, Failed, Retry, SendResult, Sent, Uncertain
from tests.support.providers import (
    DESTINATIONS,
    KEY,
    KEYS,
    envelope,
    every_provider,
    refusal,
    refusal_error,
    send,
    settings,
)

if TYPE_CHECKING:
    from tests.support.providers import Provider


async def test_brevo_gets_one_email_with_its_idempotency_key(provider_server: Provider) -> None:
    """C-12: Brevo's key is a UUID under ``headers`` in the JSON body; both bodies and one recipient go along."""
    provider_server.answer(201, {"messageId": "<1@relay>"})
    assert await send(provider_server.url, "brevo", Channel.EMAIL) == SendResult(Sent("<1@relay>"))
    (request,) = provider_server.requests
    assert request.path == "/v3/smtp/email"
    assert request.headers["api-key"] == "brevo-key"
    assert request.json == {
        "sender": {"name": "Risk, Desk", "email": "alerts@example.org"},
        "to": [{"email": "ada@example.com"}],
        "subject": "Brent up",
        "htmlContent": "<p>secret text</p>",
        "textContent": "secret text",
        "headers": {"idempotencyKey": str(KEY), "Auto-Submitted": "auto-generated", "X-Entity-Ref-ID": str(KEY)},
        "tags": [str(KEY)],
    }


async def test_resend_gets_one_email_with_its_idempotency_key(provider_server: Provider) -> None:
    """C-12: Resend's key is a header of the request."""
    provider_server.answer(200, {"id": "49a3"})
    assert await send(provider_server.url, "resend", Channel.EMAIL) == SendResult(Sent("49a3"))
    (request,) = provider_server.requests
    assert request.path == "/emails"
    assert request.headers["Authorization"] == "Bearer resend-key"
    assert request.headers["Idempotency-Key"] == str(KEY)
    assert request.json == {
        "from": '"Risk, Desk" <alerts@example.org>',
        "to": ["ada@example.com"],
        "subject": "Brent up",
        "html": "<p>secret text</p>",
        "text": "secret text",
        "headers": {"Auto-Submitted": "auto-generated", "X-Entity-Ref-ID": str(KEY)},
        "tags": [{"name": "alerts_engine", "value": str(KEY)}],
    }


async def test_telegram_gets_html_without_link_previews(provider_server: Provider) -> None:
    """M-2: the text is Telegram's HTML."""
    provider_server.answer(200, {"ok": True, "result": {"message_id": 7}})
    assert await send(provider_server.url, "telegram", Channel.TELEGRAM) == SendResult(Sent("7"))
    (request,) = provider_server.requests
    assert request.path == "/bot42:bot-token/sendMessage"
    assert request.json == {
        "chat_id": "-100200",
        "text": "<b>secret text</b>",
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }


async def test_twilio_gets_a_form_with_a_validity_period(provider_server: Provider) -> None:
    """Section 4: an SMS that cannot be delivered is dropped after ``ALERTS_SMS_VALIDITY_SECONDS``."""
    provider_server.answer(201, {"sid": "SM1", "status": "queued"})
    result = await send(provider_server.url, "twilio", Channel.SMS, sms_validity_seconds=600)
    assert result == SendResult(Sent("SM1"))
    (request,) = provider_server.requests
    assert request.path == "/2010-04-01/Accounts/AC-sid/Messages.json"
    scheme, credentials = request.headers["Authorization"].split()
    assert (scheme, b64decode(credentials)) == ("Basic", b"AC-sid:twilio-token")
    assert request.form == {
        "To": ["+31612345678"],
        "From": ["+15005550006"],
        "Body": ["secret text €"],
        "ValidityPeriod": ["600"],
        "SmartEncoded": ["false"],
    }


async def test_a_silent_telegram_message_makes_no_sound(provider_server: Provider) -> None:
    """C-17: a repeat of what may have arrived already does not wake anybody; nothing else of it changes."""
    provider_server.answer(200, {"ok": True, "result": {"message_id": 7}})
    async with create_session() as session:
        adapter = build_adapters(settings(provider_server.url), session)[Channel.TELEGRAM]
        await adapter.send(envelope(Channel.TELEGRAM))
        await adapter.send(envelope(Channel.TELEGRAM, silent=True))
    loud, silent = (request.json for request in provider_server.requests)
    assert silent == {**loud, "disable_notification": True}


@pytest.mark.parametrize(
    ("email_from", "brevo_sender", "resend_from"),
    [
        ("a@b.example", {"email": "a@b.example"}, "a@b.example"),
        ("Risk Desk <a@b.example>", {"email": "a@b.example", "name": "Risk Desk"}, "Risk Desk <a@b.example>"),
        ("Énergie <a@b.example>", {"email": "a@b.example", "name": "Énergie"}, "Énergie <a@b.example>"),
        ('"R \\"D\\"" <a@b.example>', {"email": "a@b.example", "name": 'R "D"'}, '"R \\"D\\"" <a@b.example>'),
        ("R\tD <a@b.example>", {"email": "a@b.example", "name": "R D"}, "R D <a@b.example>"),
        ("R\u2028D <a@b.example>", {"email": "a@b.example", "name": "R D"}, "R D <a@b.example>"),
    ],
)
async def test_the_sender_is_taken_apart_once(
    provider_server: Provider, email_from: str, brevo_sender: dict[str, str], resend_from: str
) -> None:
    """M-4: ``EMAIL_FROM`` becomes a name and an address, with nothing in it that could break a header."""
    provider_server.answer(200, {"id": "1", "messageId": "1"})
    for provider in ("brevo", "resend"):
        await send(provider_server.url, provider, Channel.EMAIL, email_from=email_from)
    brevo, resend = provider_server.requests
    assert brevo.json["sender"] == brevo_sender
    assert resend.json["from"] == resend_from


@every_provider
@pytest.mark.parametrize(
    "destination", ["a@b.example\r\nBcc: x@y.example", "\n-100200", "+316\x00", "a@b\u2028c", "\ud800", "", " "]
)
async def test_a_destination_with_control_characters_is_never_sent(
    provider_server: Provider, provider: str, channel: Channel, destination: str
) -> None:
    """M-4: CR/LF never reach an address; the provider is not even asked."""
    provider_server.answer(200, {})
    result = await send(provider_server.url, provider, channel, destination)
    assert result == SendResult(Failed("invalid_destination"))
    assert provider_server.requests == []


@every_provider
@pytest.mark.parametrize("destination", ["no at sign", "ädä@example.com", "a@b@c", "💥", "x" * 10_000])
async def test_an_impossible_destination_is_the_providers_to_refuse(
    provider_server: Provider, provider: str, channel: Channel, destination: str
) -> None:
    """C-6: whatever stands in the users table, it costs one refused call and no crash."""
    provider_server.answer(400, refusal(provider, 400) | {"message": f"bad {destination}", "description": destination})
    result = await send(provider_server.url, provider, channel, destination)
    assert result == SendResult(Failed(refusal_error(provider, 400)))
    assert len(provider_server.requests) == 1


@every_provider
async def test_a_refused_rate_asks_to_wait(provider_server: Provider, provider: str, channel: Channel) -> None:
    """C-8: the Retry-After of a 429 comes through, as a date too, by the server's own clock."""
    provider_server.answer(
        429,
        refusal(provider, 429),
        **{"Date": "Sun, 01 Mar 2026 12:00:00 GMT", "Retry-After": "Sun, 01 Mar 2026 12:01:30 GMT"},
    )
    result = await send(provider_server.url, provider, channel)
    assert isinstance(result.outcome, Retry)
    assert (result.outcome.retry_after, result.outcome.rate_limited) == (90.0, True)


@every_provider
async def test_wrong_credentials_put_the_channel_down(
    provider_server: Provider, provider: str, channel: Channel
) -> None:
    """C-7: a 401 is not the message's fault."""
    provider_server.answer(401, refusal(provider, 401))
    result = await send(provider_server.url, provider, channel)
    assert result == SendResult(ChannelDown(DownCause.AUTH_FAILED, refusal_error(provider, 401)))


@every_provider
async def test_a_redirect_is_not_followed(provider_server: Provider, provider: str, channel: Channel) -> None:
    """C-6: message and credentials go to the provider and to nobody it points at."""
    provider_server.answer(307, {}, Location=f"{provider_server.url}/elsewhere")
    result = await send(provider_server.url, provider, channel)
    assert result == SendResult(Uncertain(f"{provider}_redirect"))
    assert len(provider_server.requests) == 1


async def test_proxies_of_the_environment_are_ignored(
    provider_server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O-3: credentials go to nobody but the provider."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    provider_server.answer(200, {"id": "1"})
    assert await send(provider_server.url, "resend", Channel.EMAIL) == SendResult(Sent("1"))


async def test_cookies_are_not_kept(provider_server: Provider) -> None:
    """C-12: a repeat has the same bytes, whatever the provider wanted us to remember."""
    provider_server.answer(200, {"id": "1"}, **{"Set-Cookie": "a=b"})
    async with create_session() as session:
        adapter = build_adapters(settings(provider_server.url, "resend"), session)[Channel.EMAIL]
        await adapter.send(envelope(Channel.EMAIL))
        await adapter.send(envelope(Channel.EMAIL))
    first, second = provider_server.requests
    assert "Cookie" not in second.headers
    assert (first.headers, first.body) == (second.headers, second.body)


async def test_a_credential_is_free_of_the_line_break_it_was_pasted_with(provider_server: Provider) -> None:
    """Section 4: a secret read from a file often ends with a line break."""
    provider_server.answer(200, {"id": "1"})
    result = await send(provider_server.url, "resend", Channel.EMAIL, resend_api_key=" resend-key\n")
    assert result == SendResult(Sent("1"))
    assert provider_server.requests[0].headers["Authorization"] == "Bearer resend-key"


@pytest.mark.parametrize("provider", ["brevo", "resend"])
async def test_a_credential_that_no_header_can_carry_is_not_sent(provider_server: Provider, provider: str) -> None:
    """M-4: a line break inside a credential, which the settings refuse, is no way into the headers, and no crash."""
    provider_server.answer(200, {})
    broken = {f"{provider}_api_key": SecretStr("a\r\nb")}
    async with create_session() as session:
        configured = settings(provider_server.url, provider).model_copy(update=broken)
        result = await build_adapters(configured, session)[Channel.EMAIL].send(envelope(Channel.EMAIL))
    assert result == SendResult(Retry("invalid_request"))
    assert provider_server.requests == []


async def test_a_token_cannot_change_the_path_of_the_call(provider_server: Provider) -> None:
    """M-4: whatever the token holds, it stays one piece of the URL."""
    provider_server.answer(404, {"ok": False, "error_code": 404})
    await send(provider_server.url, "telegram", Channel.TELEGRAM, telegram_bot_token="1:a/../../x?y#z")
    assert provider_server.requests[0].path == "/bot1:a%2F..%2F..%2Fx%3Fy%23z/sendMessage"


async def test_an_adapter_takes_only_its_own_kind_of_message(provider_server: Provider) -> None:
    """C-6: a mistake of ours is an error, not an outcome, and its text has no destination in it."""
    async with create_session() as session:
        adapter = build_adapters(settings(provider_server.url), session)[Channel.SMS]
        with pytest.raises(TypeError, match=r"^this channel carries SmsMessage, not EmailMessage$"):
            await adapter.send(envelope(Channel.EMAIL))


# --- Telegram's groups that moved -----------------------------------------------------------------------------------

MOVED = {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": -1001234567890}}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"ok": True, "result": {"message_id": 8}}, Sent("8")),
        (403, {"ok": False, "error_code": 403}, Failed("telegram_403")),
        (500, {"ok": False, "error_code": 500}, Retry("telegram_500")),
        (400, MOVED | {"parameters": {"migrate_to_chat_id": -5}}, Failed("telegram_400")),
    ],
)
async def test_a_message_follows_its_group_to_the_new_id(
    provider_server: Provider, status: int, body: dict[str, object], outcome: Sent | Failed | Retry
) -> None:
    """C-7: the new chat gets it at once, one step far, and its id is kept whatever comes of it."""
    provider_server.answer(400, MOVED)
    provider_server.answer(status, body)
    result = await send(provider_server.url, "telegram", Channel.TELEGRAM)
    assert result == SendResult(outcome, destination_moved_to="-1001234567890")
    assert [request.json["chat_id"] for request in provider_server.requests] == ["-100200", "-1001234567890"]


async def test_a_second_step_gets_only_the_time_that_is_left(
    provider_server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-7: following a group to its new id does not outlast the timeout, on which the lease is built."""
    provider_server.answer(400, MOVED)
    provider_server.answer(200, {"ok": True, "result": {"message_id": 8}})
    clock = SimpleNamespace(monotonic=iter([100.0, 120.0]).__next__)
    monkeypatch.setattr(telegram, "time", clock)
    result = await send(provider_server.url, "telegram", Channel.TELEGRAM, send_timeout_seconds=20)
    assert result == SendResult(Retry("timeout"), destination_moved_to="-1001234567890")


async def test_only_a_bad_request_tells_of_a_move(provider_server: Provider) -> None:
    """C-7: a bot that was put out of the group does not follow it."""
    provider_server.answer(403, MOVED | {"error_code": 403})
    assert await send(provider_server.url, "telegram", Channel.TELEGRAM) == SendResult(Failed("telegram_403"))
    assert len(provider_server.requests) == 1


@pytest.mark.parametrize("new_id", [-100200, 0, True, "-1001234567890", None, 2**63, 1.5, {}])
async def test_a_move_to_nowhere_is_an_ordinary_refusal(provider_server: Provider, new_id: object) -> None:
    """C-7: only another chat id is a place to go to."""
    provider_server.answer(400, {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": new_id}})
    assert await send(provider_server.url, "telegram", Channel.TELEGRAM) == SendResult(Failed("telegram_400"))
    assert len(provider_server.requests) == 1


# --- which adapters there are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "provider", "expected"),
    [
        ([], "brevo", {"email": "brevo", "telegram": "telegram", "sms": "twilio"}),
        ([], "resend", {"email": "resend", "telegram": "telegram", "sms": "twilio"}),
        (["email_from"], "brevo", {"telegram": "telegram", "sms": "twilio"}),
        (["brevo_api_key"], "brevo", {"telegram": "telegram", "sms": "twilio"}),
        (["brevo_api_key"], "resend", {"email": "resend", "telegram": "telegram", "sms": "twilio"}),
        (["telegram_bot_token"], "brevo", {"email": "brevo", "sms": "twilio"}),
        (["twilio_account_sid"], "brevo", {"email": "brevo", "telegram": "telegram"}),
        (["twilio_auth_token"], "brevo", {"email": "brevo", "telegram": "telegram"}),
        (["twilio_phone_number"], "brevo", {"email": "brevo", "telegram": "telegram"}),
    ],
)
async def test_there_are_adapters_for_configured_channels_only(
    missing: list[str], provider: str, expected: dict[str, str]
) -> None:
    """C-10: a channel with half its credentials is not configured; ``EMAIL_PROVIDER`` picks who carries email."""
    configured = settings("http://localhost", provider, **dict.fromkeys(missing))
    async with create_session() as session:
        adapters = build_adapters(configured, session)
    assert {name: adapter.provider for name, adapter in adapters.items()} == expected
    assert set(adapters) == {name for name, spec in channels().items() if spec.is_configured(configured)}


# --- the sandbox speaks as the providers do -------------------------------------------------------------------------


@every_provider
async def test_the_sandbox_takes_the_message_as_it_was_sent(provider: str, channel: Channel) -> None:
    """C-5: what is sent is what the user gets."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        result = await send(sandbox.url, provider, channel)
        (message,) = sandbox.messages
    assert result == SendResult(Sent(message.provider_message_id))
    assert (message.provider, message.channel) == (provider, channel)
    assert message.destination == DESTINATIONS[channel]
    assert "secret text" in message.text


@every_provider
async def test_any_other_key_puts_the_channel_down(provider: str, channel: Channel) -> None:
    """C-7: a key that was revoked or mistyped is the channel's fault, whatever the message is."""
    async with Sandbox.start() as sandbox:
        result = await send(sandbox.url, provider, channel)
        assert sandbox.messages == ()
    assert isinstance(result.outcome, ChannelDown)
    assert result.outcome.cause is DownCause.AUTH_FAILED


async def test_the_sandbox_knows_a_silent_message() -> None:
    """C-17: a test can see that a repeat made no sound."""
    async with Sandbox.start(credentials=KEYS) as sandbox, create_session() as session:
        adapter = build_adapters(settings(sandbox.url), session)[Channel.TELEGRAM]
        for silent in (False, True):
            await adapter.send(envelope(Channel.TELEGRAM, silent=silent))
        assert [message.silent for message in sandbox.messages] == [False, True]


async def test_the_sandbox_group_moves_and_the_message_follows() -> None:
    """C-7: the message goes to the new chat at once."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(DESTINATIONS[Channel.TELEGRAM], migrate_to_chat_id=-1001234567890))
        result = await send(sandbox.url, "telegram", Channel.TELEGRAM)
        (message,) = sandbox.messages
    assert result == SendResult(Sent(message.provider_message_id), destination_moved_to="-1001234567890")
    assert message.destination == "-1001234567890"


@every_provider
async def test_the_sandbox_refuses_the_rate_in_each_providers_own_way(provider: str, channel: Channel) -> None:
    """C-8: every provider's way to say for how long is understood."""
    async with Sandbox.start(credentials=KEYS) as sandbox:
        sandbox.faults.add(Fault(retry_after=7))
        result = await send(sandbox.url, provider, channel)
    assert isinstance(result.outcome, Retry)
    assert (result.outcome.retry_after, result.outcome.rate_limited) == (7.0, True)
