"""Logging: structlog to stderr, every line redacted (SPEC O-3)."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import EventDict, WrappedLogger

MASK = "***"
_SHORTEST_SECRET = 4
# What looks like a destination is masked wherever it turns up; a Telegram token is known by its form, too.
_DESTINATIONS = re.compile(
    r"[^\s@<>\"'=:/,;(){}\[\]]+@[^\s@<>\"',;(){}\[\]]+\.[\w-]+"  # an email address
    r"|(?<![\w.:-])\+\d[\d\s()-]{6,}\d"  # a phone number
    r"|\b\d{6,}:[\w-]{20,}"  # a Telegram bot token
    r"|(?<=://)[^/\s@]+:[^/\s@]*@"  # user and password in a URL
)


class Redaction:
    """A structlog processor that masks every known secret, and whatever has the form of a destination."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted((s for s in set(secrets) if len(s) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """``text`` without secrets and destinations."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return _DESTINATIONS.sub(MASK, text)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: self._value(value) for key, value in event.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._value(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


def configure_logging(*, secrets: Iterable[str] = (), as_json: bool = False, level: int = logging.INFO) -> Redaction:
    """Send every log line to stderr, redacted; as JSON lines, or readable by people."""
    redaction = Redaction(secrets)
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if not as_json:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    return redaction
