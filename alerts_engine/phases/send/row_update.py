"""From a send's outcome to what is written of it (SPEC C-5 … C-7). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from alerts_engine.phases.send.backoff import RetryPolicy, retry_delay
from alerts_engine.types import ChannelDown, Failed, FailureKind, Outcome, Retry, Sent, Skipped, Status

_LONGEST_MESSAGE_ID = 255


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """The new state of a row that was sent, or not."""

    status: Status
    attempts: int
    retry_seconds: float | None = None
    error: str | None = None
    failure_kind: FailureKind | None = None
    provider_message_id: str | None = None


def row_update_for(outcome: Outcome, attempts: int, policy: RetryPolicy, *, random: float) -> RowUpdate | None:
    """What to write after ``outcome`` of a row that made ``attempts`` before; ``None``: give it back, unspent.

    A 429 spends an attempt like any failure, but never the last one: being too fast is not the message's fault.
    """
    match outcome:
        case Sent(provider_message_id=message_id):
            return RowUpdate(Status.SENT, attempts + 1, provider_message_id=_storable(message_id))
        case Failed(error=error):
            return RowUpdate(Status.FAILED, attempts + 1, error=error, failure_kind=FailureKind.PERMANENT)
        case Skipped(reason=reason):
            return RowUpdate(Status.SKIPPED, attempts, error=reason)
        case ChannelDown():
            return None
        case Retry():
            return _retry(outcome, attempts, policy, random)
        case _:
            assert_never(outcome)


def _storable(message_id: str | None) -> str | None:
    """A provider's id as PostgreSQL can keep it: one odd id must not keep a batch of outcomes from being written."""
    if message_id is None:
        return None
    return message_id.encode("utf-8", "replace").decode().replace("\0", "")[:_LONGEST_MESSAGE_ID]


def _retry(outcome: Retry, before: int, policy: RetryPolicy, random: float) -> RowUpdate:
    attempts = before + 1
    if outcome.rate_limited:
        attempts = min(attempts, max(policy.max_attempts - 1, 0))
    if attempts >= policy.max_attempts and not outcome.rate_limited:
        return RowUpdate(Status.FAILED, attempts, error=outcome.error, failure_kind=FailureKind.TRANSIENT)
    delay = retry_delay(policy, attempts, retry_after=outcome.retry_after, random=random)
    return RowUpdate(Status.QUEUED, attempts, delay, outcome.error, FailureKind.TRANSIENT)
