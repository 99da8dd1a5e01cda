"""What every command has: settings, logs, errors as one line, a database, and an end when a signal says so."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

import structlog
import typer
from pydantic import SecretStr

from alerts_engine.commands.console import Console, restore_terminal
from alerts_engine.errors import AlertsEngineError, SettingsError
from alerts_engine.logs import configure_logging, redact_other_libraries
from alerts_engine.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

T = TypeVar("T")
log = structlog.get_logger("alerts_engine.command")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_OBJECTS_UNTIL_COLLECTION = 20_000
"""Looking for garbage after each 700 new objects takes a sixth of a send's time, and finds none: what a send makes goes
with its last reference."""


@dataclass(frozen=True, slots=True)
class Output:
    """What the caller asked to see."""

    as_json: bool = False
    log_json: bool = False
    verbose: bool = False

    def level(self, *, quiet: bool) -> int:
        """People at a terminal read the tables; whoever reads a pipe or a CI log wants every phase's line."""
        if self.verbose:
            return logging.DEBUG
        return logging.WARNING if quiet or sys.stderr.isatty() else logging.INFO


@contextmanager
def command(
    output: Output,
    *,
    quiet: bool = False,
    load: Callable[[], Settings] = load_settings,
) -> Iterator[tuple[Settings, Console]]:
    """The frame of every command: whatever goes wrong inside is one line on stderr, redacted, and exit 1 (SPEC CLI-2).

    ``quiet`` logs warnings only.
    """
    console = Console(as_json=output.as_json)
    # Until the secrets are known nothing could mask them: no level shows a traceback before that, --verbose neither.
    redaction = configure_logging(as_json=output.log_json)
    redact_other_libraries()
    where = "which is a bug in the reading of the settings"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = load()
        as_json, level = output.log_json or settings.ci, output.level(quiet=quiet)
        redaction = configure_logging(secrets=settings.secrets(), as_json=as_json, level=level)
        where = "which is a bug: --verbose shows where it happened"
        yield settings, console
    except AlertsEngineError as error:
        _fail(console, redaction.text(str(error)))
    except KeyboardInterrupt:
        _fail(console, "stopped by a signal")
    except (typer.Exit, typer.BadParameter, BrokenPipeError):
        raise
    except OSError as error:
        _fail(console, f"{error.strerror or type(error).__name__}: {error.filename or 'input or output'}")
    except Exception as error:  # its text may hold what must not be shown
        log.debug("unexpected_error", exc_info=True)
        _fail(console, f"unexpected {type(error).__name__}, {where}")


@contextmanager
def warnings_once(settings: Settings, *, in_table: bool) -> Iterator[None]:
    """Log a line for each thing that is odd about the variables (SPEC CLI-6a).

    ``in_table``: what the block ends in shows them too, to the same people; so only when it does not come to that.
    """
    if not in_table:
        log_warnings(settings.warnings)
    try:
        yield
    except BaseException:
        if in_table:
            log_warnings(settings.warnings)
        raise


def log_warnings(warnings: Sequence[str], about: str = "settings") -> None:
    """One line for each thing that is odd, about the variables (SPEC CLI-6a) or about a run (CLI-6c)."""
    for warning in warnings:
        log.warning(about, warning=warning)


def _fail(console: Console, message: str) -> NoReturn:
    console.fail(message)
    raise typer.Exit(1) from None


@contextmanager
def database_settings(settings: Settings, *, embedded: bool, migrated: bool = True) -> Iterator[Settings]:
    """The settings with a database: the one of ``DATABASE_URL``, or the embedded one while the block runs (SPEC CLI-1).

    Whoever asks for the embedded server expects it to be ready: it is migrated unless ``migrated`` is false.
    """
    if not embedded:
        if settings.database_url is None:
            raise SettingsError("DATABASE_URL is not set: set it, or use --embedded for a PostgreSQL of your own")
        yield settings
        return
    from alerts_engine import schema
    from alerts_engine.embedded import embedded_postgres

    with embedded_postgres() as url:
        if migrated:
            schema.apply(url)
        yield settings.model_copy(update={"database_url": SecretStr(url)})


def url_of(settings: Settings) -> str:
    """The database's URL; only where :func:`database_settings` has made sure of it."""
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL is not set")
    return settings.database_url.get_secret_value()


def run_loop(work: Coroutine[None, None, T]) -> T:
    """Run ``work`` to its end, on uvloop where it is installed (extra ``speed``)."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTION)
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage: what a module makes stays, and the looking is a tenth of an empty run."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def on_signal(stop: Callable[[], None], *, hint: str | None = None) -> Iterator[None]:
    """Call ``stop`` at the first SIGINT or SIGTERM, and log the ``hint``; the second one exits at once (SPEC CLI-7)."""
    loop = asyncio.get_running_loop()
    asked = False

    def heed() -> None:
        nonlocal asked
        if asked:
            restore_terminal()
            os._exit(1)
        asked = True
        if hint is not None:
            log.warning("stopping", hint=hint)
        stop()

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def exit_with(*, ok: bool) -> None:
    """End with 1 unless all is well."""
    if not ok:
        raise typer.Exit(1)


def program_name() -> str:
    """How to call this program again from here: by its name where the shell finds it, else by its path."""
    import shutil
    from pathlib import Path

    name = "alerts-engine"
    if shutil.which(name) is not None:
        return name
    path = Path(sys.argv[0]).absolute()
    if path.name != name:
        return f"python -m {name.replace('-', '_')}"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
