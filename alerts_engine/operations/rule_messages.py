"""What the events that a rule finds would say on each channel, and how long that is (SPEC A-1, M-2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.types import Alert, EmailMessage, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from alerts_engine.operations.rule_trial import TriedEvent
    from alerts_engine.phases.new_event import NewEvent
    from alerts_engine.settings import Settings
    from alerts_engine.types import Message

NOT_YET_AN_ID = 0
"""In the links and references of an event that is not there yet."""
_LARGEST = 1e300


@dataclass(frozen=True, slots=True)
class TriedMessage:
    """One event on one channel."""

    event_fingerprint: str
    channel: str
    sizes: Mapping[str, int | str]
    """``subject_characters`` and ``html_bytes`` of an email, ``characters`` and ``segments`` of an SMS …"""
    message: Message
    shown: str
    """The message as its reader gets it, as text."""


def messages_of(tried: Sequence[TriedEvent], settings: Settings, *, now: datetime) -> list[TriedMessage]:
    """The instant messages that these events would be, for every channel; custom templates and channels included."""
    from alerts_engine.channels import channels
    from alerts_engine.phases.context import renderer_for

    renderer = renderer_for(settings)
    made = []
    for one in tried:
        alert = alert_of(one.event, NOT_YET_AN_ID if one.known_id is None else one.known_id, now)
        for channel, spec in channels().items():
            message = renderer.instant(alert, channel)
            shown = spec.form.show(message, None)
            made.append(TriedMessage(one.event.event_fingerprint, channel, sizes_of(message, shown), message, shown))
    return made


def sizes_of(message: Message, shown: str) -> dict[str, int | str]:
    """What the channel limits or the sender pays for."""
    from alerts_engine.rendering.telegram_html import parsed_length

    match message:
        case EmailMessage():
            return {"subject_characters": len(message.subject), "html_bytes": len(message.html.encode())}
        case TelegramMessage():
            return {"characters": parsed_length(message.text)}
        case SmsMessage():
            return {"characters": len(message.body), "encoding": message.encoding, "segments": message.segments}
        case _:
            return {"characters": len(shown)}


def alert_of(event: NewEvent, event_id: int, created_at: datetime) -> Alert:
    """What the statement ``event_rows`` would read of the event once it is there."""
    from alerts_engine.rendering.views import LONGEST_RAW_BODY, LONGEST_RAW_LINE, MOST_RAW_ASSETS

    payload = event.payload or {}
    what, digest_headline, source = (
        _text(payload.get(name), LONGEST_RAW_LINE) for name in ("what", "digest_headline", "source")
    )
    return Alert(
        event_id=event_id,
        alert_type=event.alert_type[:LONGEST_RAW_LINE],
        scope_region=_text(event.scope_region, LONGEST_RAW_LINE),
        scope_assets=tuple(asset[:LONGEST_RAW_LINE] for asset in (event.scope_assets or ())[:MOST_RAW_ASSETS]),
        severity=event.severity,
        headline=event.headline[:LONGEST_RAW_LINE],
        body=(event.body or "")[:LONGEST_RAW_BODY],
        created_at=created_at,
        value=_number(payload.get("value")),
        previous=_number(payload.get("previous")),
        what=what,
        digest_headline=digest_headline,
        source=source,
    )


def _text(value: object, longest: int) -> str | None:
    return value[:longest] if isinstance(value, str) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(max(value, -_LARGEST), _LARGEST))
