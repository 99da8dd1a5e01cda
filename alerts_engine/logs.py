"""Logging: structlog to stderr, every line redacted (SPEC O-3)."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from alerts_engine.masking import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Redaction", "configure_logging"]


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
