"""The settings that point the engine at a sandbox instead of the real providers. Every credential here is made up."""

from __future__ import annotations


def provider_settings(url: str) -> dict[str, str]:
    """Variables and values for a sandbox at ``url``, all channels configured."""
    return {
        "EMAIL_PROVIDER": "brevo",
        "EMAIL_FROM": "Energy Alerts <alerts@example.com>",
        "BREVO_API_KEY": "sandbox-brevo-key",
        "BREVO_BASE_URL": url,
        "TELEGRAM_BOT_TOKEN": "123456:sandbox-token-abcdefghijklmno",
        "TELEGRAM_BASE_URL": url,
        "TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000000",
        "TWILIO_AUTH_TOKEN": "sandbox-twilio-token",
        "TWILIO_PHONE_NUMBER": "+15005550006",
        "TWILIO_BASE_URL": url,
    }
