"""Every setting, read from the environment and ``.env`` by this class and by nothing else (SPEC section 4)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from alerts_engine.errors import SettingsError
from alerts_engine.types import Channel, Period

_MOST_A_DAY = 2**31 - 1
PerDay = Annotated[NonNegativeInt, AfterValidator(lambda number: min(number, _MOST_A_DAY))]
"""More a day than PostgreSQL's integer holds is as good as that."""


class PlanQuota(BaseModel):
    """What one plan allows (SPEC B-5). ``None`` for a channel: not allowed; 0: digests only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: PerDay | None = None
    telegram: PerDay | None = None
    sms: PerDay | None = None
    digests: PerDay = 1
    alert_types: tuple[str, ...] = ()


_FREE_TYPES = ("HIGH_IMPACT_EVENT",)
_PERSONAL_TYPES = (*_FREE_TYPES, "REGIONAL_RISK_SPIKE")
_TRADER_TYPES = (*_PERSONAL_TYPES, "ASSET_RISK_SPIKE")

BUILT_IN_PLANS: dict[str, PlanQuota] = {
    "free": PlanQuota(email=0, telegram=0, sms=None, digests=1, alert_types=_FREE_TYPES),
    "personal": PlanQuota(email=4, telegram=0, sms=None, digests=1, alert_types=_PERSONAL_TYPES),
    "trader": PlanQuota(email=8, telegram=8, sms=None, digests=1, alert_types=_TRADER_TYPES),
    "pro": PlanQuota(email=20, telegram=20, sms=2, digests=24, alert_types=("ALL",)),
    "enterprise": PlanQuota(email=100, telegram=100, sms=20, digests=24, alert_types=("ALL",)),
}
"""SPEC B-5's table; ``plan_settings`` rows come first, ``ALERTS_PLAN_QUOTAS`` replaces plans of this map."""


def _split(value: Any) -> Any:
    """Read a comma list; an empty piece stays, so that the item's own check refuses it."""
    return [piece.strip() for piece in value.split(",")] if isinstance(value, str) else value


def _parse_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("cannot be read: it is not valid JSON") from None


UserIds = Annotated[tuple[PositiveInt, ...], NoDecode, BeforeValidator(_split)]
Channels = Annotated[tuple[Channel, ...], NoDecode, BeforeValidator(_split)]
PlanQuotas = Annotated[dict[str, PlanQuota], NoDecode, BeforeValidator(_parse_json)]


_HELD_AGAINST_EACH_OTHER = ("send_lease_seconds", "send_timeout_seconds", "shutdown_seconds")


class Settings(BaseSettings):
    """The engine's configuration. Secrets are ``SecretStr``; :func:`load_settings` turns errors into one line."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True,
        hide_input_in_errors=True,
    )  # fmt: skip

    database_url: SecretStr | None = Field(None, description="PostgreSQL URL (TLS parameters honoured)")
    enabled: bool = Field(
        True, alias="ALERTS_V2_ENABLED", description="feature flag; when not `true`, `run` does nothing"
    )
    time_zone: str = Field("Europe/Amsterdam", alias="ALERTS_TIMEZONE", description="the product's day, for quotas and digest windows")  # fmt: skip

    send_batch_size: PositiveInt = Field(200, alias="ALERTS_SEND_BATCH_SIZE", description="most rows one claim takes (`--batch-size` overrides)")  # fmt: skip
    send_concurrency: PositiveInt = Field(
        50, alias="ALERTS_SEND_CONCURRENCY", description="sends in flight per process"
    )
    send_timeout_seconds: float = Field(20, gt=0, alias="ALERTS_SEND_TIMEOUT_SECONDS", description="one provider call")
    send_lease_seconds: float = Field(300, gt=0, alias="ALERTS_SEND_LEASE_SECONDS", description="how long a claim holds; must exceed timeout + shutdown")  # fmt: skip
    shutdown_seconds: float = Field(20, ge=0, alias="ALERTS_SHUTDOWN_SECONDS", description="after a signal, how long sends in flight may take to finish")  # fmt: skip
    max_attempts: PositiveInt = Field(5, alias="ALERTS_MAX_ATTEMPTS", description="then `failed`")
    retry_base_seconds: float = Field(60, gt=0, alias="ALERTS_RETRY_BASE_SECONDS", description="backoff: first wait")
    retry_max_seconds: float = Field(3600, gt=0, alias="ALERTS_RETRY_MAX_SECONDS", description="backoff: longest wait")
    rate_limit_per_minute: PositiveInt | None = Field(None, alias="ALERTS_RATE_LIMIT_PER_MINUTE", description="every channel that has no own limit")  # fmt: skip
    rate_limit_email_per_minute: PositiveInt | None = Field(None, alias="ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE", description="email only")  # fmt: skip
    rate_limit_telegram_per_minute: PositiveInt | None = Field(None, alias="ALERTS_RATE_LIMIT_TELEGRAM_PER_MINUTE", description="Telegram only")  # fmt: skip
    rate_limit_sms_per_minute: PositiveInt | None = Field(None, alias="ALERTS_RATE_LIMIT_SMS_PER_MINUTE", description="SMS only")  # fmt: skip
    fail_open_on_channel_missing: bool = Field(False, alias="ALERTS_FAIL_OPEN_ON_CHANNEL_MISSING", description="`false`: skip deliveries of an unconfigured channel; `true`: leave them queued until it is configured. Never sends")  # fmt: skip
    channels_paused: Channels = Field((), alias="ALERTS_CHANNELS_PAUSED", description="comma list: rows of these channels stay queued")  # fmt: skip
    uncertain_send: Literal["retry", "fail"] = Field("retry", alias="ALERTS_UNCERTAIN_SEND", description="a row whose lease ran out after its send began: `retry` (at least once) or `fail` (at most once)")  # fmt: skip
    send_allowlist_user_ids: UserIds | None = Field(None, alias="ALERTS_SEND_ALLOWLIST_USER_IDS", description="comma list; only these users get deliveries; a malformed list is an error (fail closed)")  # fmt: skip
    max_send_per_run: NonNegativeInt = Field(1000, alias="ALERTS_MAX_SEND_PER_RUN", description="deliveries + digests sent in one run")  # fmt: skip
    max_run_seconds: float | None = Field(None, gt=0, alias="ALERTS_MAX_RUN_SECONDS", description="stop claiming after this long")  # fmt: skip

    digest_period: Period = Field(Period.DAILY, alias="ALERTS_DIGEST_PERIOD", description="`daily` or `hourly`, for users who chose none")  # fmt: skip
    digest_grace_minutes: float = Field(10, ge=0, alias="ALERTS_DIGEST_GRACE_MINUTES", description="a digest becomes due this long after its window closed")  # fmt: skip
    sms_validity_seconds: int = Field(14400, ge=1, le=36000, alias="ALERTS_SMS_VALIDITY_SECONDS", description="after this long the provider drops an SMS that it could not deliver")  # fmt: skip
    app_base_url: str | None = Field(
        None, alias="ALERTS_APP_BASE_URL", description="“View in app” and preference links"
    )
    plan_quotas: PlanQuotas = Field({}, alias="ALERTS_PLAN_QUOTAS", description="JSON object; each plan it names replaces the built-in one")  # fmt: skip
    rules_dir: Path | None = Field(None, alias="ALERTS_RULES_DIR", description="a folder with more phase-A rules")
    templates_dir: Path | None = Field(None, alias="ALERTS_TEMPLATES_DIR", description="a folder with templates that replace built-in ones")  # fmt: skip
    internal_runner_token: SecretStr | None = Field(None, description="admin API")

    email_provider: Literal["brevo", "resend"] = Field("brevo", description="`brevo` or `resend`")
    email_from: str | None = Field(None, description="`Name <a@b.c>` or `a@b.c`")
    brevo_api_key: SecretStr | None = Field(None, description="credential")
    resend_api_key: SecretStr | None = Field(None, description="credential")
    telegram_bot_token: SecretStr | None = Field(None, description="credential")
    twilio_account_sid: SecretStr | None = Field(None, description="credential")
    twilio_auth_token: SecretStr | None = Field(None, description="credential")
    twilio_phone_number: SecretStr | None = Field(None, description="the sender's number, E.164")
    brevo_base_url: str = Field("https://api.brevo.com", description="where the provider is")
    resend_base_url: str = Field("https://api.resend.com", description="where the provider is")
    telegram_base_url: str = Field("https://api.telegram.org", description="where the provider is")
    twilio_base_url: str = Field("https://api.twilio.com", description="where the provider is")

    ci: bool = Field(False, description="`true` turns JSON logs on")
    github_actions: bool = Field(False, description="set by GitHub")
    github_event_name: str | None = Field(None, description="set by GitHub")
    github_sha: str | None = Field(None, description="set by GitHub; kept in the run history")
    github_step_summary: Path | None = Field(None, description="set by GitHub")

    @field_validator("enabled", "ci", "github_actions", mode="before")
    @classmethod
    def _any_other_word_is_false(cls, value: Any) -> bool:
        # The engine runs when it is told so in so many words (SPEC CLI-2), and CI is other tools' variable.
        return value is True or str(value).strip().lower() in {"1", "true", "yes", "on"}

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("is not a known IANA time zone such as Europe/Amsterdam") from error
        return value

    @field_validator("email_from")
    @classmethod
    def _one_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        _, address = parseaddr(value)
        if re.search(r"[\r\n]", value) or not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address):
            raise ValueError("must be `Name <a@b.c>` or `a@b.c`")
        return value

    @field_validator("app_base_url", "brevo_base_url", "resend_base_url", "telegram_base_url", "twilio_base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
            raise ValueError("must be an http:// or https:// address without query")
        return value.rstrip("/") if value else value

    @field_validator("database_url")
    @classmethod
    def _postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?://", value.get_secret_value()):
            raise ValueError("must start with postgresql://")
        return value

    @field_validator("rules_dir", "templates_dir")
    @classmethod
    def _existing_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("must be an existing folder")
        return value

    @model_validator(mode="after")
    def _lease_outlives_a_send(self) -> Settings:
        # A shorter lease would let another runner reclaim, and send again, a message still on its way.
        if self.send_lease_seconds <= self.send_timeout_seconds + self.shutdown_seconds:
            raise ValueError(
                "ALERTS_SEND_LEASE_SECONDS must exceed ALERTS_SEND_TIMEOUT_SECONDS + ALERTS_SHUTDOWN_SECONDS"
            )
        return self

    @property
    def plans(self) -> dict[str, PlanQuota]:
        """The built-in plan map with ``ALERTS_PLAN_QUOTAS`` laid over it (SPEC B-5)."""
        return BUILT_IN_PLANS | self.plan_quotas

    def rate_limit(self, channel: str) -> int | None:
        """Messages a minute for ``channel``; ``None`` is unlimited."""
        own: int | None = getattr(self, f"rate_limit_{channel}_per_minute", None)
        return own if own is not None else self.rate_limit_per_minute

    def secrets(self) -> list[str]:
        """Every secret value, for the log redaction (SPEC O-3)."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]


def variable_name(field: str) -> str:
    """The environment variable behind a field of :class:`Settings`."""
    alias = Settings.model_fields[field].alias
    return alias if alias is not None else field.upper()


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """Why some settings cannot be used: their fields, and a text that names the variables and no values."""

    fields: tuple[str, ...]
    text: str

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables at fault."""
        return frozenset(map(variable_name, self.fields))


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; ``overrides`` are field names with values that come before it.

    Raises :class:`SettingsError`: one line that names every variable that cannot be used, and no values.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(problem.text for problem in _problems(error))) from None


def load_usable_settings() -> tuple[Settings, list[SettingProblem]]:
    """Read the environment with the default for whatever cannot be used, and why it cannot (SPEC R-2)."""
    problems: list[SettingProblem] = []
    defaults: dict[str, Any] = {}
    while True:
        try:
            return Settings(**defaults), problems
        except ValidationError as error:
            found = _problems(error)
        problems += found
        defaults |= {field: Settings.model_fields[field].default for problem in found for field in problem.fields}


def _problems(error: ValidationError) -> list[SettingProblem]:
    fields = {variable_name(field): field for field in Settings.model_fields}
    return [_problem(problem, fields) for problem in error.errors(include_url=False)]


def _problem(problem: Any, fields: dict[str, str]) -> SettingProblem:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return SettingProblem(_HELD_AGAINST_EACH_OTHER, message)
    name, *path = (str(piece) for piece in problem["loc"])
    field = name if name in Settings.model_fields else fields[name.upper()]
    where = f" (at {'.'.join(path)})" if path else ""
    return SettingProblem((field,), f"{variable_name(field)}{where}: {message}")


__all__ = [
    "BUILT_IN_PLANS",
    "PlanQuota",
    "SettingProblem",
    "Settings",
    "load_settings",
    "load_usable_settings",
    "variable_name",
]
