"""Every code that can stand in ``last_error`` has a sentence that fits it (SPEC O-6)."""

from __future__ import annotations

import pytest

from alerts_engine.channels.http import _FAILURES
from alerts_engine.operations.causes import CAUSES, UNKNOWN, FailureState, cause_of, command_for
from alerts_engine.types import DownCause, SkipReason

GENERIC = {"other codes of a provider, failed for good", "other codes of a provider, tried again"}


@pytest.mark.parametrize(
    "code",
    [*DownCause, *SkipReason, *dict.fromkeys(code for _, code in _FAILURES), "render_failed", "send_uncertain",
     "invalid_destination", "lease_expired"],
)  # fmt: skip
def test_the_engine_s_own_codes_have_a_sentence_of_their_own(code: str):
    assert cause_of(code, is_permanent=False).codes not in {*GENERIC, UNKNOWN.codes}


@pytest.mark.parametrize(
    ("code", "is_permanent", "words"),
    [
        ("brevo_invalid_parameter", True, "refuses this message"),
        ("brevo_internal_server_error", False, "trouble of its own"),
        ("resend_503", False, "trouble of its own"),
        ("twilio_21610", True, "answered STOP"),
        ("telegram_403", True, "blocked the bot"),
        ("brevo_unreadable_502", False, "answered in its place"),
        ("telegram_429", False, "too many at once"),
        ("acme_refused", True, "refuses this message"),
        ("?", True, "no sentence"),
    ],
)
def test_a_provider_s_code_has_the_sentence_of_its_state(code: str, is_permanent: bool, words: str):
    assert words in cause_of(code, is_permanent=is_permanent).meaning


@pytest.mark.parametrize("state", FailureState)
def test_every_state_has_a_command(state: FailureState):
    assert command_for(state, "email", "delivery", 7).startswith("alerts-engine ")


def test_no_sentence_is_left_out():
    """Each cause is the first for some code: one behind a wider one would never be shown."""
    samples = [sample for cause in CAUSES for sample in cause.codes.replace("…_", "x_").split(", ")]
    found = {cause_of(sample, is_permanent=is_permanent).codes for sample in samples for is_permanent in (True, False)}
    assert {cause.codes for cause in CAUSES} - found - GENERIC - {"…_unreadable_…, …_redirect"} == set()
