"""The demo's users: all plans, channels and settings that decide who gets what (SPEC F-2, B-4 to B-6).

Sample data to show the engine at work, not advice. Nobody here is real: the addresses are reserved for
examples, and phone numbers and chat ids follow the patterns of test ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from alerts_engine.types import Channel, Period

Plan = Literal["free", "personal", "trader", "pro", "enterprise"]
AlertType = Literal["REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE", "HIGH_IMPACT_EVENT"]


@dataclass(frozen=True, slots=True)
class DemoPref:
    """A row of ``user_alert_prefs``; all of it must match an event (SPEC B-4)."""

    region: str
    alert_type: AlertType
    asset: str | None = None
    threshold: float | None = None
    """The lowest risk score, 0 to 100, that is worth a message."""
    enabled: bool = True
    cooldown_minutes: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoUser:
    """One user with all that other tables say of them."""

    email: str
    telegram_chat_id: str | None = None
    phone_number: str | None = None
    email_verified: bool | None = True
    plan: Plan | None = None
    """``None`` is a user without a row in ``user_plans``."""
    digest_only: bool = False
    digest_period: Period | None = None
    channels_off: tuple[Channel, ...] = ()
    prefs: tuple[DemoPref, ...] = ()
    who: str
    """A short description for people, such as ``Trader in Rotterdam, email + Telegram``."""


AUDIENCE: Final = (
    DemoUser(
        who="Trader in Rotterdam, email + Telegram",
        email="rotterdam@example.com",
        telegram_chat_id="1001",
        plan="trader",
        prefs=(
            DemoPref("Europe", "ASSET_RISK_SPIKE", asset="oil", threshold=80),
            DemoPref("Europe", "ASSET_RISK_SPIKE", asset="gas"),
            DemoPref("Europe", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Oil desk in Houston, email + Telegram + SMS",
        email="houston@example.com",
        telegram_chat_id="1002",
        phone_number="+15005550102",
        plan="pro",
        prefs=(
            DemoPref("North America", "ASSET_RISK_SPIKE", asset="oil", threshold=85),
            DemoPref("North America", "REGIONAL_RISK_SPIKE"),
            DemoPref("global", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Risk manager in Frankfurt, hourly digests by email + Telegram",
        email="frankfurt@example.org",
        telegram_chat_id="1003",
        plan="pro",
        digest_only=True,
        digest_period=Period.HOURLY,
        prefs=(
            DemoPref("Europe", "REGIONAL_RISK_SPIKE"),
            DemoPref("Europe", "ASSET_RISK_SPIKE"),
            DemoPref("Russia", "REGIONAL_RISK_SPIKE"),
        ),
    ),
    DemoUser(
        who="Shipping control room in Athens, everything on every channel",
        email="athens@example.com",
        telegram_chat_id="1004",
        phone_number="+15005550104",
        plan="enterprise",
        prefs=(
            DemoPref("global", "REGIONAL_RISK_SPIKE"),
            DemoPref("global", "ASSET_RISK_SPIKE"),
            DemoPref("global", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Board member in London, one email a day",
        email="london@example.org",
        plan="enterprise",
        digest_only=True,
        digest_period=Period.DAILY,
        prefs=(
            DemoPref("global", "REGIONAL_RISK_SPIKE", threshold=90),
            DemoPref("global", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Analyst in Vienna, email at once, Telegram as a digest",
        email="vienna@example.com",
        telegram_chat_id="1006",
        plan="personal",
        prefs=(
            DemoPref("Europe", "REGIONAL_RISK_SPIKE"),
            DemoPref("Black Sea", "REGIONAL_RISK_SPIKE"),
            DemoPref("Europe", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Journalist in Warsaw, free plan, digests about the war",
        email="warsaw@example.org",
        telegram_chat_id="1007",
        plan="free",
        prefs=(
            DemoPref("Black Sea", "HIGH_IMPACT_EVENT"),
            DemoPref("Russia", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Student in Utrecht, no plan, no preferences: the defaults",
        email="utrecht@example.com",
        email_verified=None,
    ),
    DemoUser(
        who="Gas buyer in Singapore, Telegram switched off",
        email="singapore@example.com",
        telegram_chat_id="1009",
        plan="trader",
        channels_off=(Channel.TELEGRAM,),
        prefs=(
            DemoPref("Asia", "ASSET_RISK_SPIKE"),
            DemoPref("global", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Refinery planner in Dubai, phone number left blank",
        email="dubai@example.org",
        phone_number=" ",
        plan="pro",
        prefs=(
            DemoPref("Middle East", "ASSET_RISK_SPIKE", asset="oil", cooldown_minutes=0),
            DemoPref("global", "HIGH_IMPACT_EVENT"),
        ),
    ),
    DemoUser(
        who="Broker in Geneva on leave, every preference disabled",
        email="geneva@example.com",
        telegram_chat_id="1011",
        plan="trader",
        prefs=(
            DemoPref("Europe", "ASSET_RISK_SPIKE", enabled=False),
            DemoPref("global", "HIGH_IMPACT_EVENT", enabled=False),
        ),
    ),
    DemoUser(
        who="New customer in Oslo, email not verified yet",
        email="oslo@example.com",
        phone_number="+15005550112",
        email_verified=False,
        plan="pro",
        prefs=(DemoPref("Europe", "HIGH_IMPACT_EVENT"),),
    ),
)
"""Everybody, in the order of the demo's table."""
