"""The world that fan-out looks at, as plain values.

JSON columns are kept as JSON text, so that a number is exactly the number that the database gets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from alerts_engine.settings import PlanQuota
    from alerts_engine.types import Channel, Kind, Status

UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Preference:
    """A row of ``user_alert_prefs``."""

    region: str
    alert_type: str
    asset: str | None = None
    threshold: float | None = None
    enabled: bool | None = True
    cooldown_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A row of ``users`` with what the other tables say about the same user."""

    id: int
    email: str = "someone@example.test"
    telegram_chat_id: str | None = None
    phone_number: str | None = None
    email_verified: bool | None = True
    plan: str | None = None
    digest_only: bool | None = None
    """``None``: no row in ``user_notification_settings``."""
    switches: tuple[tuple[Channel, bool], ...] = ()
    """Rows of ``user_channel_preferences``."""
    preferences: tuple[Preference, ...] = ()
    stops: tuple[tuple[Channel, str], ...] = ()
    """Rows of ``user_alert_stops``: channel and alert type."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """A row of ``plan_settings``."""

    plan_code: str
    allowed_alert_types: tuple[str | None, ...] | None = ("ALL",)
    max_email_alerts_per_day: int | None = 0
    delivery_config: str | None = None
    """JSON text; ``None`` is SQL NULL."""
    is_active: bool | None = True


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``alert_events``."""

    id: int
    created_at: datetime
    alert_type: str = "HIGH_IMPACT_EVENT"
    scope_region: str | None = "Europe"
    scope_assets: tuple[str, ...] = ()
    severity: int = 3
    cooldown_key: str = "key"
    payload: str | None = None
    """JSON text; ``None`` is SQL NULL."""
    fanned_out: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of ``user_alert_deliveries``; ``channel`` may also be the legacy ``account``."""

    event_id: int
    user_id: int
    channel: str
    kind: Kind
    status: Status
    created_at: datetime
    over_quota: bool | None = None
    """``True``: the quota refused it as instant, so it became a digest delivery."""
    bundled: bool = False
    """It is ``skipped`` because it went into a bundle."""


@dataclass(frozen=True, slots=True)
class World:
    """All that a run of phase B can know."""

    now: datetime
    users: tuple[User, ...]
    events: tuple[Event, ...]
    deliveries: tuple[Delivery, ...] = ()
    plan_settings: tuple[PlanSettings, ...] = ()
    plan_quotas: dict[str, PlanQuota] = field(default_factory=dict)
    """``ALERTS_PLAN_QUOTAS``."""
    allowlist: tuple[int, ...] | None = None
    since_hours: int = 24
    time_zone: str = "Europe/Amsterdam"
    quota_overflow: str = "drop"
    """``ALERTS_QUOTA_OVERFLOW``."""


def day_start(day: date, time_zone: str) -> datetime:
    """The first instant of a local day, in UTC; also where midnight exists twice or not at all."""
    zone = ZoneInfo(time_zone)
    instant = datetime.combine(day, time(12), zone).astimezone(UTC)
    while (instant - timedelta(minutes=30)).astimezone(zone).date() == day:
        instant -= timedelta(minutes=30)
    return instant
