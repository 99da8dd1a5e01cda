"""What the engine looks at, written straight into a test's database: plain rows, and nothing of the engine's own."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from alerts_engine import AlertsEngine, Settings
from alerts_engine.settings import variable_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine import Phase, PhaseReport, RunReport

NOW = datetime(2025, 11, 10, 12, 0, tzinfo=UTC)
"""A Monday, 13:00 in Amsterdam."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

NOT_STOPPED = {"stopped_early": False, "stop_reason": None}
"""Counts of a phase that came to its end."""

_numbers = itertools.count(1)


def prepared(connection: psycopg.Connection) -> psycopg.Connection:
    """The fixture's connection as the helpers below want it: no transaction of its own, UTC, rows with names."""
    connection.autocommit = True
    connection.row_factory = namedtuple_row
    connection.execute("SET TIME ZONE 'UTC'")
    return connection


# --- running the engine ---------------------------------------------------------------------------------------------


def settings(url: str, **fields: Any) -> Settings:
    """Settings by field name; the environment of whoever runs the tests does not matter."""
    with pytest.MonkeyPatch.context() as environment:
        for field in Settings.model_fields:
            environment.delenv(variable_name(field), raising=False)
        return Settings(_env_file=None, database_url=url, **fields)


async def run(url: str, phase: Phase, *, fields: dict[str, Any] | None = None, **order: Any) -> RunReport:
    """One run as the application would do it; ``fields`` are settings, ``order`` is what ``run`` takes."""
    async with AlertsEngine(settings(url, **fields or {})) as engine:
        return await engine.run(phase, **{"now": NOW, **order})


async def run_phase(url: str, phase: Phase, *, fields: dict[str, Any] | None = None, **order: Any) -> PhaseReport:
    """The report of a run of one phase."""
    (report,) = (await run(url, phase, fields=fields, **order)).phases
    return report


# --- users ----------------------------------------------------------------------------------------------------------


def add_user(
    db: psycopg.Connection,
    plan: str | None = None,
    *,
    email: str | None = None,
    telegram: str | None = None,
    phone: str | None = None,
    verified: bool | None = True,
    digest_only: bool | None = None,
    digest_period: str | None = None,
) -> int:
    """A user with an address, without preference rows: HIGH_IMPACT_EVENT in Europe is for them."""
    user = _insert(
        db, "users", "id",
        email=f"user{next(_numbers)}@example.test" if email is None else email,
        telegram_chat_id=telegram, phone_number=phone, email_verified=verified,
    )  # fmt: skip
    if plan is not None:
        _insert(db, "user_plans", "user_id", user_id=user, plan=plan)
    if digest_only is not None or digest_period is not None:
        _insert(
            db, "user_notification_settings", "user_id",
            user_id=user, digest_only=bool(digest_only), digest_period=digest_period,
        )  # fmt: skip
    return user


def add_preference(
    db: psycopg.Connection,
    user: int,
    alert_type: str = "HIGH_IMPACT_EVENT",
    *,
    region: str = "Europe",
    asset: str | None = None,
    threshold: float | None = None,
    enabled: bool = True,
    cooldown_minutes: int | None = 0,
) -> None:
    _insert(
        db, "user_alert_prefs", "id",
        user_id=user, region=region, alert_type=alert_type, asset=asset, threshold=threshold, enabled=enabled,
        cooldown_minutes=cooldown_minutes,
    )  # fmt: skip


def switch_channel(db: psycopg.Connection, user: int, channel: str, *, enabled: bool) -> None:
    _insert(db, "user_channel_preferences", "user_id", user_id=user, channel=channel, enabled=enabled)


def add_plan_settings(
    db: psycopg.Connection,
    plan: str,
    delivery_config: object,
    *,
    types: Iterable[str] = ("ALL",),
    emails_per_day: int | None = 0,
    active: bool = True,
) -> None:
    _insert(
        db, "plan_settings", "plan_code",
        plan_code=plan, display_name=plan, monthly_price_usd=0, allowed_alert_types=list(types),
        max_email_alerts_per_day=emails_per_day, delivery_config=Jsonb(delivery_config), is_active=active,
    )  # fmt: skip


# --- events, deliveries, digests ------------------------------------------------------------------------------------


def add_event(
    db: psycopg.Connection,
    created_at: datetime = NOW - HOUR,
    *,
    alert_type: str = "HIGH_IMPACT_EVENT",
    region: str | None = "Europe",
    assets: Iterable[str] = (),
    severity: int = 4,
    fingerprint: str | None = None,
    cooldown_key: str | None = None,
    value: float | None = None,
    fanned_out: bool = False,
) -> int:
    fingerprint = fingerprint or f"event {next(_numbers)}"
    return _insert(
        db, "alert_events", "id",
        alert_type=alert_type, scope_region=region, scope_assets=list(assets), severity=severity,
        headline="Headline", body="Body", event_fingerprint=fingerprint, cooldown_key=cooldown_key or fingerprint,
        payload=None if value is None else Jsonb({"value": value}), created_at=created_at,
        fanout_completed_at=created_at if fanned_out else None,
    )  # fmt: skip


def add_delivery(
    db: psycopg.Connection,
    user: int,
    event: int,
    channel: str = "email",
    kind: str = "instant",
    *,
    status: str = "queued",
    created_at: datetime = NOW,
) -> int:
    """A row as somebody else might have written it, with what the states of a delivery require (SPEC DB-7)."""
    sending = status == "sending"
    return _insert(
        db, "user_alert_deliveries", "id",
        user_id=user, alert_event_id=event, channel=channel, delivery_kind=kind, status=status, created_at=created_at,
        sent_at=created_at if status == "sent" else None,
        claimed_by="another run" if sending else None, lease_expires_at=NOW + HOUR if sending else None,
    )  # fmt: skip


def add_digest_delivery(
    db: psycopg.Connection, user: int, happened_at: datetime = NOW - HOUR, channel: str = "email"
) -> int:
    """A queued digest delivery of an event of its own that was created at ``happened_at``."""
    return add_delivery(db, user, add_event(db, happened_at, fanned_out=True), channel, "digest")


# --- the source tables ----------------------------------------------------------------------------------------------


def add_index(
    db: psycopg.Connection,
    score: float | None,
    at: datetime = NOW - HOUR,
    *,
    region: str = "Europe",
    window_days: int = 7,
    trend: str | None = "rising",
) -> None:
    _insert(
        db, "risk_indices", "id",
        region=region, window_days=window_days, risk_score=score, trend=trend, calculated_at=at,
    )  # fmt: skip


def add_asset_risk(
    db: psycopg.Connection,
    score: float | None,
    at: datetime = NOW - HOUR,
    *,
    asset: str = "gas",
    region: str = "Europe",
    window_days: int = 7,
    direction: str | None = "up",
) -> None:
    _insert(
        db, "asset_risk", "id",
        asset=asset, region=region, window_days=window_days, risk_score=score, direction=direction, calculated_at=at,
    )  # fmt: skip


def add_news(
    db: psycopg.Connection,
    at: datetime = NOW - HOUR,
    *,
    severity: int = 4,
    title: str = "Pipeline outage",
    region: str | None = "Europe",
    summary: str | None = "A summary.",
    text: str | None = "The whole text.",
) -> int:
    return _insert(
        db, "events", "id",
        title=title, source_name="Reuters", source_url=f"https://example.test/{next(_numbers)}", category="energy",
        region=region, severity_score=severity, raw_text=text, ai_summary=summary, inserted_at=at,
    )  # fmt: skip


def add_risk_event(
    db: psycopg.Connection,
    event: int | None,
    score: float | None,
    at: datetime = NOW - HOUR,
    *,
    region: str = "Europe",
) -> None:
    _insert(
        db, "risk_events", "id",
        event_id=event, region=region, category="energy", base_severity=4, weighted_score=score, created_at=at,
    )  # fmt: skip


def _insert(db: psycopg.Connection, table: str, key: str, **values: object) -> int:
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING {}").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join([sql.Placeholder()] * len(values)),
        sql.Identifier(key),
    )
    made = db.execute(statement, list(values.values())).fetchone()
    assert made is not None
    made_key: int = made[0]
    return made_key
