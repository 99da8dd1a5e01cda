"""The first step of a send: from a claimed row to an envelope, or to the reason why there is none (SPEC C-10)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from alerts_engine.types import Alert, Envelope, Failed, Skipped, SkipReason

if TYPE_CHECKING:
    from alerts_engine.phases.send.claims import ClaimedMessage
    from alerts_engine.rendering import Renderer
    from alerts_engine.types import Message

log = structlog.get_logger("alerts_engine.send")

_ALERTS_KEPT = 128


class Preparation:
    """Makes the messages of one run; one alert goes to many users in the same words, and is rendered once."""

    def __init__(self, renderer: Renderer) -> None:
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
        return Envelope(claimed.destination, message, claimed.idempotency_key, silent=claimed.is_repeat)

    def _message(self, claimed: ClaimedMessage, channel: str) -> Message:
        if isinstance(claimed.content, Alert):
            return self._instant(claimed.content, channel)
        return self._digest(claimed.content, channel)
