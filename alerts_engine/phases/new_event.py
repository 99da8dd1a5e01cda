"""An event before it is inserted: what a rule returns and what :meth:`AlertsEngine.publish` takes (SPEC A-1, I-1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from alerts_engine.errors import EventError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LEAST_SEVERE, _MOST_SEVERE = 1, 5
_INT4 = 2**31
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL's text cannot hold: NUL, and halves of surrogate pairs."""
_LONGEST_KEY_BYTES = 2600
"""An index entry of PostgreSQL holds 2,704 bytes, its own head among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """One global alert event, which belongs to no user: plans and preferences decide who gets it.

    Raises :class:`EventError`, which names the field, before anything is sent to the database.

    >>> event = NewEvent(
    ...     alert_type="HIGH_IMPACT_EVENT",
    ...     severity=4,
    ...     headline="LNG terminal in Freeport shut after a fire",
    ...     event_fingerprint="newsroom:freeport-fire",
    ...     scope_region="North America",
    ... )
    >>> NewEvent(alert_type="OUTAGE", severity=9, headline="Outage", event_fingerprint="outage:1")
    Traceback (most recent call last):
    alerts_engine.errors.EventError: severity must be a whole number from 1 to 5
    """

    alert_type: str
    """What kind of alert it is: plans allow types, and preferences ask for them."""
    severity: int
    """1 to 5; the more severe events get what is left of a day's quota."""
    headline: str
    event_fingerprint: str
    """The event's identity: a second event with it is the same one, and is left alone."""
    scope_region: str | None = None
    """``None`` matches the preferences for every region."""
    scope_assets: Sequence[str] | None = None
    body: str | None = None
    driver_event_ids: Sequence[int] | None = None
    """Rows of ``events`` that led to it."""
    cooldown_key: str | None = None
    """Events with one key keep each other back for as long as a preference says; the fingerprint unless given."""
    payload: Mapping[str, Any] | None = None
    """A JSON object; the number ``value`` in it is held against the preferences' thresholds."""

    def __post_init__(self) -> None:
        for name, accepts, expected in _CHECKS:
            if not accepts(getattr(self, name)):
                raise EventError(f"{name} must be {expected}", field=name)

    def as_row(self) -> dict[str, Any]:
        """The row for ``insert_events``."""
        return {name: getattr(self, name) for name in COLUMNS} | {
            "scope_assets": list(self.scope_assets or ()),
            "driver_event_ids": list(self.driver_event_ids or ()),
            "body": self.body or "",
            "cooldown_key": self.cooldown_key or self.event_fingerprint,
            "payload": None if self.payload is None else dict(self.payload),
        }


COLUMNS = tuple(field.name for field in fields(NewEvent))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _UNSTORABLE.search(value) is None


def _is_text_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and _UNSTORABLE.search(value) is None)


def _is_key(value: object) -> bool:
    return isinstance(value, str) and len(value.encode()) <= _LONGEST_KEY_BYTES


def _is_key_or_none(value: object) -> bool:
    return value is None or _is_key(value)


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
        return isinstance(value, Mapping) and _is_storable(json.loads(json.dumps(dict(value), allow_nan=False)))
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
    ("event_fingerprint", _is_key, f"at most {_LONGEST_KEY_BYTES} bytes long: shorten it, or use a digest of it"),
    ("scope_region", _is_text_or_none, "a text or NULL"),
    ("scope_assets", _are_texts, "an array of texts"),
    ("body", _is_text_or_none, "a text or NULL"),
    ("driver_event_ids", _are_ids, "an array of whole numbers"),
    ("cooldown_key", _is_text_or_none, "a text or NULL"),
    ("cooldown_key", _is_key_or_none, f"at most {_LONGEST_KEY_BYTES} bytes long: shorten it, or use a digest of it"),
    ("payload", _is_object_or_none, "a JSON object (without NaN, infinity or NUL characters) or NULL"),
)
