"""Channel adapters: one provider each, over one shared aiohttp session, behind the protocol in ``base``."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from alerts_engine.channels.base import ChannelAdapter
from alerts_engine.channels.brevo import BrevoAdapter
from alerts_engine.channels.envelopes import Sender
from alerts_engine.channels.http import create_session
from alerts_engine.channels.resend import ResendAdapter
from alerts_engine.channels.telegram import TelegramAdapter
from alerts_engine.channels.twilio import TwilioAdapter
from alerts_engine.types import Channel

if TYPE_CHECKING:
    import aiohttp

    from alerts_engine.settings import Settings


def build_adapters(settings: Settings, session: aiohttp.ClientSession) -> dict[Channel, ChannelAdapter]:
    """An adapter for every channel whose credentials are complete; the caller closes ``session``."""
    adapters = ((channel, _build(channel, settings, session)) for channel in Channel)
    return {channel: adapter for channel, adapter in adapters if adapter is not None}


def _build(channel: Channel, settings: Settings, session: aiohttp.ClientSession) -> ChannelAdapter | None:
    match channel:
        case Channel.EMAIL:
            return _email(settings, session)
        case Channel.TELEGRAM:
            return _telegram(settings, session)
        case Channel.SMS:
            return _sms(settings, session)
        case _:
            assert_never(channel)


def _email(settings: Settings, session: aiohttp.ClientSession) -> BrevoAdapter | ResendAdapter | None:
    kind: type[BrevoAdapter | ResendAdapter]
    match settings.email_provider:
        case "brevo":
            kind, base_url, api_key = BrevoAdapter, settings.brevo_base_url, settings.brevo_api_key
        case "resend":
            kind, base_url, api_key = ResendAdapter, settings.resend_base_url, settings.resend_api_key
        case _:
            assert_never(settings.email_provider)
    if settings.email_from is None or api_key is None:
        return None
    return kind(
        session,
        base_url=base_url,
        api_key=api_key,
        sender=Sender.parse(settings.email_from),
        timeout_seconds=settings.send_timeout_seconds,
    )


def _telegram(settings: Settings, session: aiohttp.ClientSession) -> TelegramAdapter | None:
    if settings.telegram_bot_token is None:
        return None
    return TelegramAdapter(
        session,
        base_url=settings.telegram_base_url,
        bot_token=settings.telegram_bot_token,
        timeout_seconds=settings.send_timeout_seconds,
    )


def _sms(settings: Settings, session: aiohttp.ClientSession) -> TwilioAdapter | None:
    account_sid, auth_token = settings.twilio_account_sid, settings.twilio_auth_token
    if account_sid is None or auth_token is None or settings.twilio_phone_number is None:
        return None
    return TwilioAdapter(
        session,
        base_url=settings.twilio_base_url,
        account_sid=account_sid,
        auth_token=auth_token,
        phone_number=settings.twilio_phone_number,
        validity_seconds=settings.sms_validity_seconds,
        timeout_seconds=settings.send_timeout_seconds,
    )


__all__ = ["ChannelAdapter", "build_adapters", "create_session"]
