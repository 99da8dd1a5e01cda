"""A phase's counts in words (SPEC A-6, B-8, D-6, C-16): what it did, and behind that the details.

A count that no sentence here knows is shown under its own name: nothing that a phase counted is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine.commands.tables.words import many
from alerts_engine.run_warnings import REFUSALS
from alerts_engine.types import DownCause, Phase, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PHASE_NAMES: dict[str, str] = {Phase.A: "generate", Phase.B: "fan-out", Phase.D: "digests", Phase.C: "send"}

_STOPS = {
    StopReason.SIGNAL: "a signal came",
    StopReason.LOCK_LOST: "the phase's lock was lost",
    StopReason.MAX_RUN_SECONDS: "ALERTS_MAX_RUN_SECONDS is reached",
    StopReason.MAX_SEND_PER_RUN: "ALERTS_MAX_SEND_PER_RUN is reached",
    StopReason.OUTCOMES_NOT_WRITTEN: "the database refused what was to be written",
    StopReason.RATE_LIMITED: "a provider asked for a long pause",
}
_AFTER_STOP = {
    StopReason.SIGNAL: "the next run goes on",
    StopReason.LOCK_LOST: "its connection broke; the next run goes on, and preflight says whether the database is well",
    StopReason.MAX_RUN_SECONDS: "the next run goes on; raise it if the queue grows",
    StopReason.MAX_SEND_PER_RUN: "the next run goes on in order; raise it if the queue grows",
    StopReason.OUTCOMES_NOT_WRITTEN: "the error says why; the next run settles what was sent",
    StopReason.RATE_LIMITED: "the rest is queued, and goes out after the pause",
}
_DOWN = {
    DownCause.AUTH_FAILED: "look at the key, the sender and the account",
    DownCause.OUT_OF_CREDIT: "buy credit",
    DownCause.QUOTA_EXHAUSTED: "wait for the provider's next day or month, or raise the plan",
    DownCause.QUEUE_FULL: "the provider's own queue is full, wait",
}
_ENDS = {
    "sent": "sent", "failed": "failed for good", "retried": "to be tried again",
    "uncertain": "may or may not have arrived", "confirmed": "found to have arrived",
    "repeated": "sent again, as the first answer was lost",
}  # fmt: skip
_SKIPPED = {
    "not_configured": "the channel is not configured", "missing_destination": "no destination",
    "disabled": "switched off by the user", "suppressed": "the destination is suppressed", "empty": "nothing in it",
}  # fmt: skip
_WAITS = {
    "not_due_yet": "not due yet", "held": "held since before the engine",
    "uncertain": "whose answer was lost, until it is known what became of them",
    "channel_disabled": "switched off by the user",
    "not_in_allowlist": "for users not in the allowlist", "channel_paused": "on a paused channel",
    "channel_not_configured": "on a channel that is not configured", "missing_destination": "without a destination",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """What a phase did; both are empty when there was nothing to do."""

    done: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


class _Counts:
    """Counts that are asked for by name; :meth:`rest` is what nobody has asked for."""

    def __init__(self, counts: Mapping[str, Any]) -> None:
        self._left = dict(counts)

    def number(self, name: str) -> int:
        value = self._left.pop(name, 0)
        return value if isinstance(value, int) else 0

    def group(self, name: str) -> dict[str, Any]:
        value = self._left.pop(name, None)
        return value if isinstance(value, dict) else {}

    def word(self, name: str) -> str:
        return str(self._left.pop(name, None) or "")

    def rest(self) -> Iterator[str]:
        for name, value in self._left.items():
            words = name.replace("_", " ")
            if value is True:
                yield words
            elif isinstance(value, dict):
                yield from (f"{words}: {line}" for line in _Counts(value).rest())
            elif value:
                yield f"{words}: {value:,}" if isinstance(value, int) else f"{words}: {value}"


def words_of(phase: str, counts: Mapping[str, Any] | None) -> Words:
    """``counts`` of ``phase`` as its report or the history has them."""
    asked = _Counts(counts or {})
    done, details = _SENTENCES[Phase(phase)](asked) if phase in _SENTENCES else ([], [])
    stopped, reason = bool(asked.number("stopped_early")), asked.word("stop_reason")
    done = [*done, *_if_any([(stopped, f"stopped early: {_known(_STOPS, reason)}")])]
    return Words(tuple(done), (*details, *asked.rest()))


def stop_of(counts: Mapping[str, Any]) -> str | None:
    """Why a phase stopped early and what to do, in a sentence; ``None`` when it did not."""
    if not counts.get("stopped_early"):
        return None
    reason = str(counts.get("stop_reason") or "")
    todo = _known(_AFTER_STOP, reason)
    return f"stopped early: {_known(_STOPS, reason)}" + (f" ({todo})" if todo != reason else "")


# --- the phases -----------------------------------------------------------------------------------------------------

_Said = tuple[list[str], list[str]]


def _generated(counts: _Counts) -> _Said:
    created, known = counts.number("events_created"), counts.number("events_skipped_duplicate")
    known_already = f"{many(known, 'event')} known already"
    done = _if_any([
        (created, many(created, "new event")),
        (known, known_already if created else f"nothing new: {known_already}"),
    ])  # fmt: skip
    failed = counts.number("rules_failed")
    details = [
        f"{rule}: {_listed([(one.get('created', 0), 'new'), (one.get('skipped_duplicate', 0), 'known already')])}"
        for rule, one in counts.group("by_rule").items()
        if any(one.values())
    ]
    return [*done, *_if_any([(failed, f"{many(failed, 'rule')} failed")])], details


def _fanned_out(counts: _Counts) -> _Said:
    events, queued = counts.number("events_processed"), counts.number("deliveries_created")
    kinds = _listed([
        (counts.number("created_instant"), "to send at once"), (counts.number("created_digest"), "for digests"),
    ])  # fmt: skip
    moved, outside = counts.number("deliveries_moved_to_digest"), counts.number("events_outside_window")
    aside = counts.number("users_set_aside")
    done = _if_any([
        (events, f"{many(events, 'event')} fanned out"),
        (events or queued or bool(kinds), f"{many(queued, 'alert')} queued" + (f" ({kinds})" if kinds else "")),
        (moved, f"{many(moved, 'alert')} over the quota moved to the digest"),
        (aside, f"{many(aside, 'decision')} took too long and were passed over: nothing was made (see the error)"),
        (outside, f"{many(outside, 'event')} never fanned out and too old now (see --since-hours)"),
    ])  # fmt: skip
    refused = _listed([(counts.number(name), words) for name, words in REFUSALS.items()])
    users, passed = counts.number("users_considered"), counts.number("users_skipped_allowlist")
    listed = bool(counts.number("allowlist_active"))
    details = _if_any([
        (bool(refused), f"refused: {refused}"),
        (users, f"{many(users, 'user')} considered, counted once per event"),
        (listed or passed, f"the allowlist is active: {many(passed, 'user')} not in it"),
    ])  # fmt: skip
    return done, details


def _digested(counts: _Counts) -> _Said:
    begun, items = counts.number("digests_created"), counts.number("digest_items_attached")
    marked = counts.number("deliveries_marked_batched")
    bundles, bundled = counts.number("bundles_created"), counts.number("deliveries_bundled")
    done = _if_any([
        (items, f"{many(items, 'alert')} put into digests"),
        (begun, f"{many(begun, 'digest')} begun"),
        (marked != items, f"{many(marked, 'alert')} marked as batched"),
        (bundles or bundled, f"{many(bundled, 'alert')} to go at once put into {many(bundles, 'bundle')}"),
    ])  # fmt: skip
    return done, []


def _sent(counts: _Counts) -> _Said:
    digests, by_channel = _Counts(counts.group("digests")), counts.group("by_channel")
    reclaimed, down = counts.number("reclaimed"), counts.group("channels_down")
    cannot_ask, causes = counts.group("cannot_ask"), counts.group("causes")
    would, details_of_would = _would_send(counts.group("would_send"))
    waits, details_of_waits = _waits(counts.group("waiting"))
    done = [
        *_outcomes(counts, "alert", counts.number("queued_selected")),
        *_outcomes(digests, "digest", digests.number("selected")),
        *_if_any([(reclaimed, f"{reclaimed:,} taken back from a run that ended too early")]),
        *would,
        *waits,
        *(f"{channel} is down ({cause}): {_known(_DOWN, cause)}" for channel, cause in down.items()),
        *(f"{provider} could not be asked what became of alerts ({code})" for provider, code in cannot_ask.items()),
    ]
    details = [f"by {channel}: {_numbers(one, _ENDS)}" for channel, one in by_channel.items() if any(one.values())]
    details += [f"{channel}, not sent at once: {_listed_by_code(codes)}" for channel, codes in causes.items()]
    return done, [*details, *details_of_would, *details_of_waits, *(f"digests {line}" for line in digests.rest())]


_SENTENCES: dict[str, Callable[[_Counts], _Said]] = {
    Phase.A: _generated,
    Phase.B: _fanned_out,
    Phase.D: _digested,
    Phase.C: _sent,
}


# --- phase C --------------------------------------------------------------------------------------------------------


def _outcomes(counts: _Counts, what: str, claimed: int) -> list[str]:
    ends = {words: counts.number(name) for name, words in _ENDS.items()}
    skipped = {words: counts.number(f"skipped_{name}") for name, words in _SKIPPED.items()}
    said = [f"{many(number, what)} {words}" for words, number in ends.items() if number]
    said += [f"{many(number, what)} skipped: {words}" for words, number in skipped.items() if number]
    # What was claimed has one of these ends, unless the run had to leave before it knew.
    return said or _if_any([(claimed, f"{many(claimed, what)} claimed")])


def _listed_by_code(codes: Mapping[str, int]) -> str:
    """The most frequent code first."""
    return _listed([(number, code) for code, number in sorted(codes.items(), key=lambda one: (-one[1], one[0]))])


def _would_send(would: Mapping[str, Any]) -> _Said:
    """The dry run's due rows: how many in all, and by channel with their ids."""
    totals: dict[str, int] = {}
    details = []
    for channel, rows in would.items():
        for name, found in rows.items():
            totals[name] = totals.get(name, 0) + found["count"]
            details.append(f"by {channel}: {_rows(name, found['count'])}, {_ids(found['ids'], found['count'])}")
    said = " and ".join(_rows(name, number) for name, number in totals.items())
    return [f"would send {said}"] if said else [], details


def _rows(name: str, number: int) -> str:
    return many(number, "digest" if name == "digests" else "alert")


def _ids(ids: Sequence[int], count: int) -> str:
    """``ids 1–12, 14``: what is without a gap is a range."""
    ranges: list[list[int]] = []
    for one in sorted(ids):
        if ranges and one == ranges[-1][1] + 1:
            ranges[-1][1] = one
        else:
            ranges.append([one, one])
    listed = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in ranges)
    more = f" and {count - len(ids):,} more" if len(ids) < count else ""
    return f"{'id' if count == 1 else 'ids'} {listed}{more}"


def _waits(waiting: Mapping[str, Mapping[str, int]]) -> _Said:
    """The dry run's rows that are not to be sent now: how many in all by reason, and by channel."""
    totals: dict[str, int] = {}
    for reasons in waiting.values():
        for reason, number in reasons.items():
            totals[reason] = totals.get(reason, 0) + number
    said = [f"would not send {sum(totals.values()):,}: {_numbers(totals, _WAITS)}"] if totals else []
    return said, [f"not by {channel}: {_numbers(reasons, _WAITS)}" for channel, reasons in waiting.items() if reasons]


# --- words ----------------------------------------------------------------------------------------------------------


def _if_any(said: Sequence[tuple[int, str]]) -> list[str]:
    return [words for number, words in said if number]


def _listed(numbers: Sequence[tuple[int, str]]) -> str:
    return ", ".join(f"{number:,} {words}" for number, words in numbers if number)


def _numbers(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    """The largest first; what has no words is named as it is."""
    largest_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return _listed([(number, words.get(name, name.replace("_", " "))) for name, number in largest_first])


def _known(words: Mapping[Any, str], name: str) -> str:
    return words.get(name, name)
