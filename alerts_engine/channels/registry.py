"""The channels: the one list of what each is. A package adds its own by an entry point (SPEC I-6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from alerts_engine.channel_names import ENTRY_POINTS, custom_channels
from alerts_engine.channels.brevo import BrevoAdapter
from alerts_engine.channels.envelopes import Sender
from alerts_engine.channels.resend import ResendAdapter
from alerts_engine.channels.telegram import TelegramAdapter
from alerts_engine.channels.twilio import TwilioAdapter
from alerts_engine.errors import SettingsError
from alerts_engine.rendering.renderer import BUILT_IN_FORMS
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.metadata import EntryPoint

    from aiohttp import ClientSession
    from pydantic import SecretStr

    from alerts_engine.channels.base import ChannelAdapter
    from alerts_engine.rendering.forms import MessageForm
    from alerts_engine.settings import Settings

MOST_CHANNELS = 8
"""The fan-out keeps sets of channels as bits of one number."""
CHAT_INTERVAL_SECONDS = 1.0
"""Telegram takes about one message a second per chat (SPEC C-9)."""


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """What a channel is. The name of a custom one has a dot in it, such as ``acme.webhook``."""

    name: str
    title: str
    """Its name in a sentence: ``email``, ``Telegram``, ``SMS``."""
    destination: str
    """What its destination is called: ``email address``."""
    form: MessageForm
    """Makes its messages."""
    credentials: Callable[[Settings], Mapping[str, bool]]
    """The variables that it needs, each with whether it is set."""
    adapter: Callable[[Settings, ClientSession], ChannelAdapter]
    """Makes what carries its messages; called when all credentials are set."""
    askers: Callable[[Settings, ClientSession], Sequence[ChannelAdapter]] | None = None
    """Every provider of the channel that has credentials: one may be asked that carries nothing any more."""
    has_digests: bool = True
    seconds_per_destination: float = 0.0
    """Between two messages to one destination."""

    def is_configured(self, settings: Settings) -> bool:
        """Whether every credential is set."""
        return all(self.credentials(settings).values())


# --- email ------------------------------------------------------------------------------------------------------------

_EMAIL_ADAPTERS: Mapping[str, type[BrevoAdapter | ResendAdapter]] = {"brevo": BrevoAdapter, "resend": ResendAdapter}


def _email_credentials(settings: Settings) -> dict[str, bool]:
    key = f"{settings.email_provider}_api_key"
    return {"EMAIL_FROM": settings.email_from is not None, key.upper(): getattr(settings, key) is not None}


def _email(settings: Settings, session: ClientSession) -> ChannelAdapter:
    return _email_by(settings.email_provider, settings, session)


def _email_askers(settings: Settings, session: ClientSession) -> list[ChannelAdapter]:
    configured = [name for name in _EMAIL_ADAPTERS if getattr(settings, f"{name}_api_key") is not None]
    return [_email_by(name, settings, session) for name in configured]


def _email_by(provider: str, settings: Settings, session: ClientSession) -> ChannelAdapter:
    return _EMAIL_ADAPTERS[provider](
        session,
        base_url=getattr(settings, f"{provider}_base_url"),
        api_key=getattr(settings, f"{provider}_api_key"),
        sender=Sender.parse(settings.email_from or ""),
        timeout_seconds=settings.send_timeout_seconds,
    )


# --- Telegram ---------------------------------------------------------------------------------------------------------


def _telegram_credentials(settings: Settings) -> dict[str, bool]:
    return {"TELEGRAM_BOT_TOKEN": settings.telegram_bot_token is not None}


def _telegram(settings: Settings, session: ClientSession) -> ChannelAdapter:
    return TelegramAdapter(
        session,
        base_url=settings.telegram_base_url,
        bot_token=_given(settings.telegram_bot_token),
        timeout_seconds=settings.send_timeout_seconds,
    )


# --- SMS --------------------------------------------------------------------------------------------------------------


def _sms_credentials(settings: Settings) -> dict[str, bool]:
    return {
        "TWILIO_ACCOUNT_SID": settings.twilio_account_sid is not None,
        "TWILIO_AUTH_TOKEN": settings.twilio_auth_token is not None,
        "TWILIO_PHONE_NUMBER": settings.twilio_phone_number is not None,
    }


def _sms(settings: Settings, session: ClientSession) -> ChannelAdapter:
    return TwilioAdapter(
        session,
        base_url=settings.twilio_base_url,
        account_sid=_given(settings.twilio_account_sid),
        auth_token=_given(settings.twilio_auth_token),
        phone_number=_given(settings.twilio_phone_number),
        validity_seconds=settings.sms_validity_seconds,
        timeout_seconds=settings.send_timeout_seconds,
    )


def _given(secret: SecretStr | None) -> SecretStr:
    if secret is None:
        raise SettingsError("a channel was asked for an adapter before its credentials were set")
    return secret


# --- the list ---------------------------------------------------------------------------------------------------------

BUILT_IN = (
    ChannelSpec(
        name=Channel.EMAIL,
        title="email",
        destination="email address",
        form=BUILT_IN_FORMS[Channel.EMAIL],
        credentials=_email_credentials,
        adapter=_email,
        askers=_email_askers,
    ),
    ChannelSpec(
        name=Channel.TELEGRAM,
        title="Telegram",
        destination="Telegram chat",
        form=BUILT_IN_FORMS[Channel.TELEGRAM],
        credentials=_telegram_credentials,
        adapter=_telegram,
        seconds_per_destination=CHAT_INTERVAL_SECONDS,
    ),
    ChannelSpec(
        name=Channel.SMS,
        title="SMS",
        destination="phone number",
        form=BUILT_IN_FORMS[Channel.SMS],
        credentials=_sms_credentials,
        adapter=_sms,
        has_digests=False,
    ),
)


@cache
def channels() -> Mapping[str, ChannelSpec]:
    """Every channel by its name, the built-in ones first.

    Raises :class:`SettingsError` for an entry point that is not a channel.
    """
    specs = {str(spec.name): spec for spec in BUILT_IN}
    for entry in custom_channels():
        spec = _load(entry)
        specs[spec.name] = spec
    if len(specs) > MOST_CHANNELS:
        raise SettingsError(f"{len(specs)} channels are more than {MOST_CHANNELS}: remove a package that adds some")
    return specs


def digest_channels() -> list[str]:
    """The channels that have digests."""
    return [name for name, spec in channels().items() if spec.has_digests]


def _load(entry: EntryPoint) -> ChannelSpec:
    where = f"the entry point {entry.name} of {ENTRY_POINTS}"
    try:
        spec = entry.load()
    except Exception as error:  # noqa: BLE001 - it is somebody else's package
        raise SettingsError(f"{where} cannot be loaded ({type(error).__name__}): fix or remove its package") from None
    if not isinstance(spec, ChannelSpec) or "." not in spec.name or spec.name != entry.name:
        raise SettingsError(f"{where} is not a ChannelSpec of that name with a dot in it, such as acme.webhook")
    return spec


def build_adapters(settings: Settings, session: ClientSession) -> dict[str, ChannelAdapter]:
    """An adapter for every channel whose credentials are complete; the caller closes ``session``."""
    return {name: spec.adapter(settings, session) for name, spec in channels().items() if spec.is_configured(settings)}


def build_askers(settings: Settings, session: ClientSession) -> dict[str, dict[str, ChannelAdapter]]:
    """Per channel, the providers that can be asked what became of a send, by their names (SPEC C-17)."""
    return {
        name: {asker.provider: asker for asker in _askers(spec, settings, session) if asker.can_ask}
        for name, spec in channels().items()
        if spec.is_configured(settings)
    }


def _askers(spec: ChannelSpec, settings: Settings, session: ClientSession) -> Sequence[ChannelAdapter]:
    return [spec.adapter(settings, session)] if spec.askers is None else spec.askers(settings, session)
