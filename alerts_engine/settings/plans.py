"""What each plan allows (SPEC B-5)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from alerts_engine.settings.values import Accepts, FromJson

_MOST_A_DAY = 2**31 - 1
_LONGEST_WORD = 100


def _storable(word: str) -> str:
    if not (word.isprintable() and 0 < len(word) <= _LONGEST_WORD):
        raise ValueError
    return word


PerDay = Annotated[int, Field(strict=True, ge=0), AfterValidator(lambda number: min(number, _MOST_A_DAY))]
"""More a day than PostgreSQL's integer holds is as good as that."""
Word = Annotated[str, AfterValidator(_storable)]
"""A plan or an alert type: what PostgreSQL cannot keep as text would break the fan-out of every plan."""


class PlanQuota(BaseModel):
    """What one plan allows (SPEC B-5). ``None`` for a channel: not allowed; 0: digests only."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, PerDay | None] = Field(init=False)
    """Custom channels: their names have a dot in them (SPEC I-6)."""

    email: PerDay | None = None
    telegram: PerDay | None = None
    sms: PerDay | None = None
    digests: PerDay = 1
    alert_types: tuple[Word, ...] = ()

    @model_validator(mode="after")
    def _no_other_word(self) -> PlanQuota:
        if any("." not in name for name in self.__pydantic_extra__):
            raise ValueError
        return self

    @property
    def per_day(self) -> dict[str, int | None]:
        """Instant messages a day, per channel."""
        return {"email": self.email, "telegram": self.telegram, "sms": self.sms, **self.__pydantic_extra__}


PlanQuotas = Annotated[
    dict[Word, PlanQuota],
    FromJson,
    Accepts(
        "a JSON object of plans, each an object of `email`, `telegram`, `sms` (whole numbers, or `null`), `digests` "
        "(a whole number) and `alert_types` (a list of words)"
    ),
]

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
