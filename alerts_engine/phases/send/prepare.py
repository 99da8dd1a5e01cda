"""The first step of a send: from a claimed row to an envelope, or to the reason why there is none (SPEC C-10)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from alerts_engine.rendering.reader import NOBODY, personal, reader_of
from alerts_engine.types import Alert, Channel, Envelope, Failed, Skipped, SkipReason

if TYPE_CHECKING:
    from alerts_engine.phases.send.claims import ClaimedMessage
    from alerts_engine.reader_links import ReaderLinks
    from alerts_engine.rendering import Renderer
    from alerts_engine.rendering.reader import Reader
    from alerts_engine.types import DigestContent, Message

log = structlog.get_logger("alerts_engine.send")

_ALERTS_KEPT = 128


class Preparation:
    """Makes the messages of one run; one alert goes to many users in the same words, and is rendered once."""

    def __init__(self, renderer: Renderer, links: ReaderLinks | None = None) -> None:
        self._links = links
        self._instant = lru_cache(_ALERTS_KEPT)(renderer.instant)
        self._digest = renderer.digest

    def prepare(self, claimed: ClaimedMessage, channel: str) -> Envelope | Skipped | Failed:
        """The message of a claimed row, or why there is none. Pure but for its memory; never raises."""
        if not claimed.channel_enabled:
            return Skipped(SkipReason.CHANNEL_DISABLED)
        if claimed.destination is None:
            return Skipped(SkipReason.MISSING_DESTINATION)
        if not isinstance(claimed.content, Alert) and not claimed.content.items:
            return Skipped(SkipReason.EMPTY_DIGEST)
        try:
            message = self._message(claimed, channel)
        except Exception as error:  # noqa: BLE001 - one row that cannot be rendered must not stop the others (C-5)
            log.error("render_failed", row=claimed.id, channel=channel, error=type(error).__name__)
            return Failed("render_failed")
        url = link_for(self._links, claimed.user_id, channel, claimed.content)
        return Envelope(
            claimed.destination,
            personal(message, url),
            claimed.idempotency_key,
            silent=claimed.is_repeat,
            unsubscribe_url=url,
        )

    def _message(self, claimed: ClaimedMessage, channel: str) -> Message:
        reader = reader_for(self._links, channel, claimed.reasons)
        if isinstance(claimed.content, Alert):
            return self._instant(claimed.content, channel, reader)
        return self._digest(claimed.content, channel, reader)


def reader_for(links: ReaderLinks | None, channel: str, reasons: str | None) -> Reader:
    """What the message says of its reader: only an email says why it came, and how to stop (SPEC M-3b)."""
    return reader_of(reasons, has_link=links is not None) if channel == Channel.EMAIL else NOBODY


def link_for(links: ReaderLinks | None, user_id: int, channel: str, content: Alert | DigestContent) -> str | None:
    """The reader's own link in this message."""
    if links is None or channel != Channel.EMAIL:
        return None
    return links.url(user_id, channel, content.alert_type if isinstance(content, Alert) else "")
