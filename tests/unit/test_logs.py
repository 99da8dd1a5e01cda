"""Log lines: redacted whoever writes them, on stderr, and without local variables (SPEC O-3)."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import pytest
import structlog

from alerts_engine.logs import configure_logging, redact_other_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The tests' process goes on logging as it did."""
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


SECRET, LOCAL = "xkeysib-SECRET", "of this call alone"


def fail(unlucky: str = LOCAL) -> None:
    local_variable = unlucky.upper()
    raise RuntimeError(f"the key is {SECRET}", len(local_variable))


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_holds_no_local_variables_and_no_secrets(capsys: pytest.CaptureFixture[str], as_json: bool):
    """However it is rendered, and on stderr alone."""
    configure_logging(secrets=[SECRET], as_json=as_json, level=logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fail()
        except RuntimeError:
            structlog.get_logger("alerts_engine").debug("unexpected_error", exc_info=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "RuntimeError" in shown.err
    assert LOCAL not in shown.err.lower()
    assert SECRET not in shown.err


@pytest.mark.parametrize("as_json", [True, False])
def test_lines_of_other_libraries_are_redacted_too(capsys: pytest.CaptureFixture[str], as_json: bool):
    """What asyncio or a driver says of an exception that nobody caught; their chatter is left out."""
    configure_logging(secrets=[SECRET], as_json=as_json)
    redact_other_libraries()
    redact_other_libraries()
    try:
        fail()
    except RuntimeError:
        logging.getLogger("asyncio").exception("task for %s never retrieved", "someone@example.com")
    logging.getLogger("driver").warning("odd")
    logging.getLogger("driver").info("chatter")
    shown = capsys.readouterr().err
    assert (shown.count("never retrieved"), shown.count("odd"), shown.count("chatter")) == (1, 1, 0)
    assert "RuntimeError" in shown
    assert SECRET not in shown
    assert "someone@example.com" not in shown
