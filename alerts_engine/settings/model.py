"""Every setting, read from the environment and ``.env`` by this class and by nothing else (SPEC section 4)."""

# Without "from __future__ import annotations": pydantic would have to compile the text of each of the annotations.
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from alerts_engine.errors import SettingProblem, SettingsError
from alerts_engine.settings.plans import BUILT_IN_PLANS, PlanQuota, PlanQuotas
from alerts_engine.settings.problems import problems_in
from alerts_engine.settings.values import (
    Channels,
    Credential,
    Flag,
    Folder,
    HttpUrl,
    PostgresUrl,
    Secret,
    Sender,
    SenderNumber,
    TimeZone,
    UserIds,
)
from alerts_engine.settings.variables import Origin, Variables, read_variables
from alerts_engine.types import Period

MOST_ROWS_A_CLAIM = 10_000
_A_MILLION = 1_000_000
_AN_HOUR, _A_DAY, _A_WEEK = 3600, 86_400, 604_800
"""Seconds. What a number can be is what the statements and the clock can work with, and what somebody can mean."""
_LEAST_TO_BEGIN_IN = 0.1
"""Seconds between a claim and the send, for the statement that notes that it begins."""


class Settings(BaseSettings):
    """The engine's configuration; every value can also be given by the name of its field.

    ``Settings(send_concurrency=10)`` reads the rest from the environment and from ``.env`` in the working directory.
    With ``_env_file=None`` it reads the environment alone, and with ``_variables=Variables()`` nothing at all.

    Raises :class:`SettingsError`: sentences that name every variable that cannot be used, and no values.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False, validate_default=False
    )

    # fmt: off
    database_url: PostgresUrl | None = Field(None, alias="DATABASE_URL", description="the database (TLS parameters honoured)")
    enabled: Flag = Field(True, alias="ALERTS_V2_ENABLED", description="feature flag; when not `true`, `run` does nothing")
    time_zone: TimeZone = Field("Europe/Amsterdam", alias="ALERTS_TIMEZONE", description="the product's day, for quotas and digest windows")

    send_batch_size: int = Field(200, ge=1, le=MOST_ROWS_A_CLAIM, alias="ALERTS_SEND_BATCH_SIZE", description="most rows one claim takes (`--batch-size` overrides)")
    send_concurrency: int = Field(50, ge=1, le=1000, alias="ALERTS_SEND_CONCURRENCY", description="sends in flight per process")
    send_timeout_seconds: float = Field(20, gt=0, le=_AN_HOUR, alias="ALERTS_SEND_TIMEOUT_SECONDS", description="one provider call")
    send_lease_seconds: float = Field(300, ge=1, le=_A_DAY, alias="ALERTS_SEND_LEASE_SECONDS", description="how long a claim holds; must exceed timeout + shutdown by a tenth of a second")
    shutdown_seconds: float = Field(20, ge=0, le=_AN_HOUR, alias="ALERTS_SHUTDOWN_SECONDS", description="after a signal, how long sends in flight may take to finish")
    max_attempts: int = Field(5, ge=1, le=1000, alias="ALERTS_MAX_ATTEMPTS", description="then `failed`")
    retry_base_seconds: float = Field(60, gt=0, le=_A_DAY, alias="ALERTS_RETRY_BASE_SECONDS", description="backoff: first wait")
    retry_max_seconds: float = Field(3600, gt=0, le=_A_WEEK, alias="ALERTS_RETRY_MAX_SECONDS", description="backoff: longest wait")
    rate_limit_per_minute: int | None = Field(None, ge=1, le=_A_MILLION, alias="ALERTS_RATE_LIMIT_PER_MINUTE", description="messages a minute, for every channel without a limit of its own; not set: unlimited")
    rate_limit_email_per_minute: int | None = Field(None, ge=1, le=_A_MILLION, alias="ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE", description="email only")
    rate_limit_telegram_per_minute: int | None = Field(None, ge=1, le=_A_MILLION, alias="ALERTS_RATE_LIMIT_TELEGRAM_PER_MINUTE", description="Telegram only")
    rate_limit_sms_per_minute: int | None = Field(None, ge=1, le=_A_MILLION, alias="ALERTS_RATE_LIMIT_SMS_PER_MINUTE", description="SMS only")
    fail_open_on_channel_missing: bool = Field(False, alias="ALERTS_FAIL_OPEN_ON_CHANNEL_MISSING", description="`false`: skip deliveries of an unconfigured channel; `true`: leave them queued until it is configured. Never sends")
    channels_paused: Channels = Field((), alias="ALERTS_CHANNELS_PAUSED", description="rows of these channels stay queued; a custom channel by its name")
    uncertain_send: Literal["retry", "fail"] = Field("retry", alias="ALERTS_UNCERTAIN_SEND", description="what happens to an uncertain send that nothing can settle: `retry` (at least once) or `fail` (at most once, strictly)")
    ask_per_run: int = Field(50, ge=0, le=_A_MILLION, alias="ALERTS_ASK_PER_RUN", description="most questions to one provider in one run about sends whose answer was lost")
    send_allowlist_user_ids: UserIds | None = Field(None, alias="ALERTS_SEND_ALLOWLIST_USER_IDS", description="only these users get deliveries; not set: everybody")
    max_send_per_run: int = Field(1000, ge=0, le=1000 * _A_MILLION, alias="ALERTS_MAX_SEND_PER_RUN", description="deliveries + digests sent in one run")
    max_run_seconds: float | None = Field(None, gt=0, le=_A_DAY, alias="ALERTS_MAX_RUN_SECONDS", description="stop claiming after this long; not set: unlimited")

    quota_overflow: Literal["drop", "digest"] = Field("drop", alias="ALERTS_QUOTA_OVERFLOW", description="an instant alert over the day's quota: `drop` it, or put it into the user's `digest`, where plan and channel have digests")
    bundle_from: int = Field(0, ge=0, le=10_000, alias="ALERTS_BUNDLE_FROM", description="when more instant alerts than this are due for one user on one channel, they go as one message; 0: never")
    bundle_keep_severity: int = Field(5, ge=1, le=6, alias="ALERTS_BUNDLE_KEEP_SEVERITY", description="alerts of this severity and above stay messages of their own; 6: none do")
    digest_period: Literal[Period.DAILY, Period.HOURLY] = Field(Period.DAILY, alias="ALERTS_DIGEST_PERIOD", description="for users who chose none")
    digest_grace_minutes: float = Field(10, ge=0, le=_A_WEEK // 60, alias="ALERTS_DIGEST_GRACE_MINUTES", description="a digest becomes due this long after its window closed")
    sms_validity_seconds: int = Field(14400, ge=1, le=36000, alias="ALERTS_SMS_VALIDITY_SECONDS", description="after this long the provider drops an SMS that it could not deliver")
    app_base_url: HttpUrl | None = Field(None, alias="ALERTS_APP_BASE_URL", description="“View in app” and preference links")
    public_base_url: HttpUrl | None = Field(None, alias="ALERTS_PUBLIC_BASE_URL", description="where readers reach the preferences page; with the next one every email has an unsubscribe link")
    link_secret: Secret | None = Field(None, alias="ALERTS_LINK_SECRET", description="signs the unsubscribe links; a new one ends all earlier links")
    plan_quotas: PlanQuotas = Field({}, alias="ALERTS_PLAN_QUOTAS", description="each plan it names replaces the built-in one")
    rules_dir: Folder | None = Field(None, alias="ALERTS_RULES_DIR", description="more phase-A rules")
    templates_dir: Folder | None = Field(None, alias="ALERTS_TEMPLATES_DIR", description="templates that replace built-in ones")
    internal_runner_token: Credential | None = Field(
        None, alias="INTERNAL_RUNNER_TOKEN", description="opens the admin API and the dashboard; not set: both are closed"
    )

    email_provider: Literal["brevo", "resend"] = Field("brevo", alias="EMAIL_PROVIDER", description="who carries email")
    email_from: Sender | None = Field(None, alias="EMAIL_FROM", description="who emails come from")
    brevo_api_key: Credential | None = Field(None, alias="BREVO_API_KEY", description="credential")
    resend_api_key: Credential | None = Field(None, alias="RESEND_API_KEY", description="credential")
    telegram_bot_token: Credential | None = Field(None, alias="TELEGRAM_BOT_TOKEN", description="credential")
    twilio_account_sid: Credential | None = Field(None, alias="TWILIO_ACCOUNT_SID", description="credential")
    twilio_auth_token: Credential | None = Field(None, alias="TWILIO_AUTH_TOKEN", description="credential")
    twilio_phone_number: SenderNumber | None = Field(None, alias="TWILIO_PHONE_NUMBER", description="the sender's number, E.164")
    brevo_base_url: HttpUrl = Field("https://api.brevo.com", alias="BREVO_BASE_URL", description="where the provider is")
    resend_base_url: HttpUrl = Field("https://api.resend.com", alias="RESEND_BASE_URL", description="where the provider is")
    telegram_base_url: HttpUrl = Field("https://api.telegram.org", alias="TELEGRAM_BASE_URL", description="where the provider is")
    twilio_base_url: HttpUrl = Field("https://api.twilio.com", alias="TWILIO_BASE_URL", description="where the provider is")

    ci: Flag = Field(False, alias="CI", description="`true` turns JSON logs on")
    github_actions: Flag = Field(False, alias="GITHUB_ACTIONS", description="set by GitHub")
    github_event_name: str | None = Field(None, alias="GITHUB_EVENT_NAME", description="set by GitHub")
    github_sha: str | None = Field(None, alias="GITHUB_SHA", description="set by GitHub; kept in the run history")
    github_server_url: str | None = Field(None, alias="GITHUB_SERVER_URL", description="set by GitHub; for the link to a run's commit")
    github_repository: str | None = Field(None, alias="GITHUB_REPOSITORY", description="set by GitHub; for the link to a run's commit")
    github_step_summary: Path | None = Field(None, alias="GITHUB_STEP_SUMMARY", description="set by GitHub; `run` adds its summary to this file")
    # fmt: on

    _warnings: tuple[str, ...] = PrivateAttr(())
    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    def __init__(
        self, *, _env_file: Path | str | None = ".env", _variables: Variables | None = None, **fields: Any
    ) -> None:
        """``fields`` come before the environment, and the environment before ``_env_file``."""
        names = variable_names()
        unknown = fields.keys() - names.keys()
        if unknown:
            raise TypeError(f"no setting has the name {', '.join(sorted(unknown))}")
        if _variables is None:
            _variables = read_variables(tuple(names.values()), os.environ, _env_file)
        problems = _variables.problems
        if not problems:
            given = {names[field]: value for field, value in fields.items()}
            try:
                super().__init__(**{**_variables.values, **given})
            except ValidationError as error:
                problems = problems_in(error, type(self))
        if problems:  # outside the except: an error's context would keep the values
            raise SettingsError(". ".join(problem.text for problem in problems), problems)
        self._warnings = _variables.warnings
        overridden = {names[field] for field in fields}
        self._origins = {name: origin for name, origin in _variables.origins.items() if name not in overridden}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The library's own sources drop lines of .env that they cannot parse, read lists as JSON (so that “null” is
        # None), and know a field by its Python name as well.
        return (init_settings,)

    @model_validator(mode="after")
    def _lease_outlives_a_send(self) -> Self:
        # A shorter lease would let another runner reclaim, and send again, a message still on its way. And a send
        # begins only while its lease outlasts it: with no time left over a row would be claimed and released for ever.
        if self.send_lease_seconds < self.send_timeout_seconds + self.shutdown_seconds + _LEAST_TO_BEGIN_IN:
            raise ValueError
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the variables that were read, such as a name that no setting has (SPEC CLI-6a)."""
        return self._warnings

    def origin_of(self, field: str) -> Origin:
        """Where the value of this field came from, also when it could not be used (SPEC section 3, ``config show``)."""
        otherwise = Origin.ARGUMENT if field in self.model_fields_set else Origin.DEFAULT
        return self._origins.get(variable_name(field), otherwise)

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


@cache
def variable_names() -> dict[str, str]:
    """The environment variable behind each field of :class:`Settings`."""
    return {name: str(field.alias) for name, field in Settings.model_fields.items()}


def variable_name(field: str) -> str:
    """The environment variable behind a field of :class:`Settings`."""
    return variable_names()[field]


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and ``.env``; ``overrides`` are field names with values that come before both.

    Raises :class:`SettingsError`: sentences that name every variable that cannot be used, and no values.

    >>> load_settings(max_send_per_run=100).max_send_per_run
    100
    """
    return Settings(**overrides)


def load_usable_settings() -> tuple[Settings, list[SettingProblem]]:
    """Read the environment with the default for whatever cannot be used, and why it cannot (SPEC R-2)."""
    variables = read_variables(tuple(variable_names().values()), os.environ, ".env")
    problems: list[SettingProblem] = []
    while True:
        try:
            return Settings(_variables=variables), problems
        except SettingsError as error:
            problems += error.problems
            variables = variables.without({name for problem in error.problems for name in problem.variables})
