"""Logging: structlog to stderr, every line redacted (SPEC O-3)."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from alerts_engine.masking import Redaction
from alerts_engine.plain_text import visible, visible_in_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import EventDict, WrappedLogger

__all__ = ["Redaction", "configure_logging"]


def configure_logging(*, secrets: Iterable[str] = (), as_json: bool = False, level: int = logging.INFO) -> Redaction:
    """Send every log line to stderr, redacted; as JSON lines, or readable by people."""
    redaction = Redaction(secrets)
    renderer: Any = structlog.processors.JSONRenderer(serializer=_json_line)
    if not as_json:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            sort_keys=False,
            # The default one shows local variables.
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction,
            _visible_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    return redaction


def _visible_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """No value plays with the terminal that the log is read on; what is nested is shown by ``repr``, or as JSON."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}


def _json_line(event: EventDict, **options: Any) -> str:
    return visible_in_json(json.dumps(event, ensure_ascii=False, **options))


class _FromOtherLibraries(logging.Handler):
    """What other libraries log with the standard library goes the same way as our lines, and is redacted like them."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        tell = log.error if record.levelno >= logging.ERROR else log.warning
        tell(record.getMessage(), exc_info=record.exc_info)


def redact_other_libraries() -> None:
    """Take over the warnings and errors of the standard library's loggers; for a process that is the engine's alone."""
    root = logging.getLogger()
    if not any(isinstance(handler, _FromOtherLibraries) for handler in root.handlers):
        root.addHandler(_FromOtherLibraries(logging.WARNING))
