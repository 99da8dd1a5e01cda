"""Counts in words: every one of them has a sentence, and none is lost (SPEC A-6, B-8, D-6, C-16)."""

from __future__ import annotations

from dataclasses import fields

import pytest

from alerts_engine.commands.tables.counts import words_of
from alerts_engine.phases.build_digests import DigestCounts
from alerts_engine.phases.fan_out import FanOutCounts
from alerts_engine.phases.generate import GenerateCounts
from alerts_engine.phases.send.counts import DigestSendCounts, SendCounts
from alerts_engine.types import DownCause, Phase, StopReason

COUNTS = {Phase.A: GenerateCounts, Phase.B: FanOutCounts, Phase.C: SendCounts, Phase.D: DigestCounts}
NUMBERS = [
    (phase, {name: 7})
    for phase, kind in COUNTS.items()
    for name, value in kind().as_counts().items()
    if isinstance(value, int) and name != "stopped_early"
] + [(Phase.C, {"digests": {field.name: 7}}) for field in fields(DigestSendCounts)]


def said(phase: str, counts: dict[str, object]) -> str:
    words = words_of(phase, counts)
    return "\n".join((*words.done, *words.details))


@pytest.mark.parametrize(("phase", "counts"), NUMBERS, ids=str)
def test_every_number_has_a_sentence(phase: Phase, counts: dict[str, object]):
    """It is said with its number, and not by the name that programs read."""
    text = said(phase, COUNTS[phase]().as_counts() | counts)
    (name,) = counts.get("digests", counts)  # type: ignore[misc]
    assert "7" in text or name == "allowlist_active", text
    assert f"{name.replace('_', ' ')}: 7" not in text, text
    assert "_" not in text


@pytest.mark.parametrize("phase", COUNTS)
def test_nothing_done_is_nothing_said(phase: Phase):
    """A phase without work has no words: its table says that there was nothing to do."""
    assert said(phase, COUNTS[phase]().as_counts()) == ""
    assert words_of(phase, None) == words_of(phase, {})


def test_uncertain_sends_are_said_with_what_settles_them():
    """What became of them, who could not be asked, and what a dry run finds waiting (SPEC C-17)."""
    text = said(
        "c",
        {
            "uncertain": 3, "confirmed": 2, "repeated": 1, "cannot_ask": {"brevo": "brevo_ask_403"},
            "waiting": {"sms": {"uncertain": 4}},
        },
    )  # fmt: skip
    assert "3 alerts may or may not have arrived" in text
    assert "2 alerts found to have arrived" in text
    assert "1 alert sent again, as the first answer was lost" in text
    assert "brevo could not be asked what became of alerts (brevo_ask_403)" in text
    assert "4 whose answer was lost, until it is known what became of them" in text


def test_what_no_sentence_knows_is_named():
    """A count of a newer version, on any level, and of a phase that is not known here."""
    newer = {"pigeons_sent": 3, "lofts": {"north": {"doves": 1_200}}, "fast": True, "none": 0, "digests": {"torn": 2}}
    text = said("c", newer)
    for words in ("pigeons sent: 3", "lofts: north: doves: 1,200", "fast", "digests torn: 2"):
        assert words in text
    assert "none" not in text
    assert said("e", {"receipts": 5}) == "receipts: 5"


def test_generating_says_what_is_new_and_by_which_rule():
    """And an idle run, which finds the same events again, says so in short."""
    counts = {
        "events_created": 3,
        "events_skipped_duplicate": 1,
        "by_rule": {"spike": {"created": 3, "skipped_duplicate": 1}, "quiet": {"created": 0, "skipped_duplicate": 0}},
    }
    words = words_of("a", counts)
    assert words.done == ("3 new events", "1 event known already")
    assert words.details == ("spike: 3 new, 1 known already",)
    assert words_of("a", {"events_skipped_duplicate": 2}).done == ("nothing new: 2 events known already",)


def test_fanning_out_says_how_many_alerts_and_what_was_refused():
    """By each reason, and that nobody gets one when that is so."""
    counts = {
        "events_processed": 2, "deliveries_created": 18, "created_instant": 16, "created_digest": 2,
        "deliveries_skipped_plan": 1894, "deliveries_skipped_quota": 1, "users_considered": 12,
    }  # fmt: skip
    words = words_of("b", counts)
    assert words.done == ("2 events fanned out", "18 alerts queued (16 to send at once, 2 for digests)")
    assert words.details == (
        "refused: 1,894 by the plan, 1 over the quota",
        "12 users considered, counted once per event",
    )
    assert words_of("b", {"events_processed": 1}).done == ("1 event fanned out", "0 alerts queued")


def test_sending_says_what_became_of_alerts_and_of_digests():
    """Each by its own name, and by channel behind."""
    counts = {
        "queued_selected": 4, "sent": 1, "retried": 3, "digests": {"selected": 2, "sent": 2},
        "by_channel": {"email": {"sent": 3, "failed": 0, "retried": 3, "skipped": 0}},
    }  # fmt: skip
    words = words_of("c", counts)
    assert words.done == ("1 alert sent", "3 alerts to be tried again", "2 digests sent")
    assert words.details == ("by email: 3 to be tried again, 3 sent",)


def test_a_dry_run_says_what_it_would_send_and_what_not():
    """With the ids, and the reasons of what waits."""
    counts = {
        "would_send": {
            "email": {
                "deliveries": {"count": 4, "ids": [3, 1, 2, 9]},
                "digests": {"count": 2_000, "ids": [5]},
            },
            "sms": {"deliveries": {"count": 1, "ids": [4]}},
        },
        "waiting": {"telegram": {"channel_not_configured": 6, "not_due_yet": 1}, "email": {"not_due_yet": 2}},
    }
    words = words_of("c", counts)
    assert words.done == (
        "would send 5 alerts and 2,000 digests",
        "would not send 9: 6 on a channel that is not configured, 3 not due yet",
    )
    assert words.details == (
        "by email: 4 alerts, ids 1–3, 9",
        "by email: 2,000 digests, ids 5 and 1,999 more",
        "by sms: 1 alert, id 4",
        "not by telegram: 6 on a channel that is not configured, 1 not due yet",
        "not by email: 2 not due yet",
    )


@pytest.mark.parametrize("phase", COUNTS)
@pytest.mark.parametrize("reason", StopReason)
def test_an_early_stop_says_why(phase: Phase, reason: StopReason):
    """In words, or by the setting that was reached."""
    (stopped,) = words_of(phase, {"stopped_early": True, "stop_reason": reason}).done
    assert stopped.startswith("stopped early: ")
    assert stopped != f"stopped early: {reason}"


@pytest.mark.parametrize("cause", DownCause)
def test_a_channel_that_is_down_says_what_to_do(cause: DownCause):
    """Beside the cause that the manual lists."""
    (down,) = words_of("c", {"channels_down": {"email": cause}}).done
    assert down.startswith(f"email is down ({cause}): ")
    assert not down.endswith(f": {cause}")


def test_causes_are_said_by_channel_the_most_frequent_first():
    """Why attempts did not succeed (SPEC O-6)."""
    text = said("c", {"causes": {"email": {"brevo_500": 2, "timeout": 312}}})
    assert text == "email, not sent at once: 312 timeout, 2 brevo_500"
