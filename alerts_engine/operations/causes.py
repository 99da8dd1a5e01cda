"""What each code in ``last_error`` means to an operator, and what helps: the one table of it (SPEC O-6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class FailureState(StrEnum):
    """What happens to the rows of a cause (SPEC O-6)."""

    PERMANENT = "permanent"
    """Failed, and trying again cannot help."""
    EXHAUSTED = "exhausted"
    """Failed after the last attempt; ``retry-failed`` takes them up."""
    WAITING = "waiting"
    """They are tried again by themselves."""
    UNCERTAIN = "uncertain"
    """They may have been accepted; the provider is asked (SPEC C-17)."""
    NOT_CONFIGURED = "not_configured"
    """Skipped, since the channel had no credentials."""
    CHANNEL_DOWN = "channel_down"
    """Not tried: their channel is down as a whole (SPEC C-7)."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What a code means, and what to do about it."""

    codes: str
    """As the manual shows it."""
    pattern: re.Pattern[str]
    meaning: str
    advice: str
    only_permanent: bool = False
    """It speaks of rows that failed for good."""


def _cause(codes: str, pattern: str, meaning: str, advice: str, *, only_permanent: bool = False) -> Cause:
    return Cause(codes, re.compile(pattern), meaning, advice, only_permanent)


CAUSES: tuple[Cause, ...] = (
    _cause(
        "auth_failed", r"auth_failed",
        "the provider refuses the key, the account or the sender",
        "set the variable that preflight --check-credentials names; the next run sends what waits",
    ),
    _cause(
        "out_of_credit", r"out_of_credit",
        "the provider's account is out of credit",
        "top it up in the provider's console; the next run sends what waits",
    ),
    _cause(
        "quota_exhausted, queue_full", r"quota_exhausted|queue_full",
        "the provider takes no more messages for now",
        "wait, or raise the account's limit; the next run sends what waits",
    ),
    _cause(
        "timeout, dns_error, tls_error, connection_error, connection_reset",
        r"timeout|dns_error|tls_error|connection_error|connection_reset",
        "the network between here and the provider",
        "look at the provider's status page and at this computer's network; what waits is tried again by itself",
    ),
    _cause(
        "…_unreadable_…, …_redirect", r"\w+_unreadable_\d+|\w+_redirect",
        "something between here and the provider answered in its place",
        "look at the provider's status page, at a proxy, and at its …_BASE_URL",
    ),
    _cause(
        "…_429, …_rate_limit_exceeded, twilio_20429", r"\w+_429|\w+_rate_limit_exceeded|twilio_20429",
        "the provider says that it is too many at once",
        "set the channel's ALERTS_RATE_LIMIT_…_PER_MINUTE to what the account allows",
    ),
    _cause(
        "twilio_21610", r"twilio_21610",
        "the reader answered STOP",
        "nothing: the reader has to answer START to get messages again",
    ),
    _cause(
        "twilio_21211, twilio_21614, twilio_30005, twilio_30006", r"twilio_(?:21211|21614|30005|30006)",
        "the number cannot get text messages",
        "correct the user's number: the sample says whose it is",
    ),
    _cause(
        "telegram_403", r"telegram_403",
        "the reader has blocked the bot, or has left the chat",
        "nothing, until the reader starts the bot again",
    ),
    _cause(
        "invalid_destination", r"invalid_destination",
        "the address has characters that no provider may be asked about",
        "correct the user's address",
    ),
    _cause(
        "render_failed", r"render_failed",
        "the message could not be made",
        "preview --delivery shows the error; correct the template or the event",
    ),
    _cause(
        "send_uncertain", r"send_uncertain",
        "it may have been accepted, and nobody can tell",
        "look into the provider's log; ALERTS_UNCERTAIN_SEND decides whether such a send is repeated",
    ),
    _cause(
        "channel_not_configured", r"channel_not_configured",
        "the channel had no credentials",
        "set them, then retry-failed --reason channel_not_configured takes these up",
    ),
    _cause(
        "invalid_request, unreadable_answer", r"invalid_request|unreadable_answer",
        "the HTTP library could not make the request, or not read the answer",
        "look for a line break in a credential, and at the …_BASE_URL",
    ),
    _cause(
        "lease_expired", r"lease_expired",
        "the process was killed, or lost, while it was being sent",
        "nothing: the next runs find out what became of it",
    ),
    _cause(
        "missing_destination", r"missing_destination",
        "the user has no address for this channel",
        "nothing: the next alert after the user gives one is sent",
    ),
    _cause(
        "channel_disabled", r"channel_disabled",
        "the user has switched the channel off",
        "nothing",
    ),
    _cause(
        "batched_into_digest, empty_digest", r"batched_into_digest|empty_digest",
        "it is sent with its digest; a digest without any is not sent",
        "nothing",
    ),
    _cause(
        "other codes of a provider, failed for good", r"[a-z.]+_\w+",
        "the provider refuses this message or this address",
        "look at one of them: explain says what the user has, preview shows the message",
        only_permanent=True,
    ),
    _cause(
        "other codes of a provider, tried again", r"[a-z.]+_\w+",
        "the provider has trouble of its own",
        "look at its status page; what waits is tried again by itself",
    ),
)  # fmt: skip
"""The first that fits."""

UNKNOWN = Cause(
    "…", re.compile(""), "a code that this version has no sentence for", "look at one of them with delivery show"
)


def cause_of(code: str, *, is_permanent: bool) -> Cause:
    """What is known of ``code`` of a row that failed for good, or did not."""
    known = (cause for cause in CAUSES if is_permanent or not cause.only_permanent)
    return next((cause for cause in known if cause.pattern.fullmatch(code)), UNKNOWN)


def command_for(state: FailureState, channel: str, kind: str, sample_id: int | None) -> str:
    """The command to type next."""
    retry = f"alerts-engine retry-failed --kind {_plural(kind)} --since-hours 24"
    match state:
        case FailureState.EXHAUSTED:
            return f"{retry} --reset-attempts --channel {channel}"
        case FailureState.NOT_CONFIGURED:
            return f"{retry} --reason channel_not_configured"
        case FailureState.CHANNEL_DOWN:
            return "alerts-engine preflight --check-credentials"
        case FailureState.PERMANENT | FailureState.WAITING | FailureState.UNCERTAIN:
            return f"alerts-engine {kind} show {sample_id}"
        case _:
            assert_never(state)


def _plural(kind: str) -> str:
    return "deliveries" if kind == "delivery" else "digests"
