"""An event before it is inserted: what a rule returns and what :meth:`AlertsEngine.publish` takes (SPEC A-1, A-7)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LEAST_SEVERE, _MOST_SEVERE = 1, 5
_INT4 = 2**31
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL's text cannot hold: NUL, and halves of surrogate pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """One global alert event; ``event_fingerprint`` is its identity, ``cooldown_key`` defaults to it."""

    alert_type: str
    severity: int
    headline: str
    event_fingerprint: str
    scope_region: str | None = None
    scope_assets: list[str] | None = None
    body: str | None = None
    driver_event_ids: list[int] | None = None
    cooldown_key: str | None = None
    payload: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, accepts, expected in _CHECKS:
            if not accepts(getattr(self, name)):
                raise RuleError(f"{name} must be {expected}")

    def as_row(self) -> dict[str, Any]:
        """The row for ``insert_events``."""
        return asdict(self) | {
            "scope_assets": list(self.scope_assets or ()),
            "driver_event_ids": list(self.driver_event_ids or ()),
            "body": self.body or "",
            "cooldown_key": self.cooldown_key or self.event_fingerprint,
        }


COLUMNS = tuple(field.name for field in fields(NewEvent))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _UNSTORABLE.search(value) is None


def _is_text_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and _UNSTORABLE.search(value) is None)


def _is_severity(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _LEAST_SEVERE <= value <= _MOST_SEVERE


def _are_texts(value: object) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(map(_is_text, value)))


def _are_ids(value: object) -> bool:
    return value is None or (
        isinstance(value, list | tuple) and all(isinstance(item, int) and abs(item) < _INT4 for item in value)
    )


def _is_object_or_none(value: object) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, dict) and _is_storable(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        return False


def _is_storable(value: object) -> bool:
    """Whether ``jsonb`` can hold what :func:`json.loads` gave."""
    if isinstance(value, dict):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_storable, value))
    return not isinstance(value, str) or _UNSTORABLE.search(value) is None


_CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("alert_type", _is_text, "a text that is not blank"),
    ("severity", _is_severity, "a whole number from 1 to 5"),
    ("headline", _is_text, "a text that is not blank"),
    ("event_fingerprint", _is_text, "a text that is not blank"),
    ("scope_region", _is_text_or_none, "a text or NULL"),
    ("scope_assets", _are_texts, "an array of texts"),
    ("body", _is_text_or_none, "a text or NULL"),
    ("driver_event_ids", _are_ids, "an array of whole numbers"),
    ("cooldown_key", _is_text_or_none, "a text or NULL"),
    ("payload", _is_object_or_none, "a JSON object (without NaN, infinity or NUL characters) or NULL"),
)
