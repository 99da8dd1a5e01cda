"""From a send's outcome to what is written of it (SPEC C-5 … C-7, C-17). Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from alerts_engine.phases.send.backoff import RetryPolicy, retry_delay
from alerts_engine.types import ChannelDown, Failed, FailureKind, Outcome, Retry, Sent, Skipped, Status, Uncertain

SEND_UNCERTAIN = "send_uncertain"
"""The ``last_error`` of a send that nobody can tell about (SPEC C-17)."""
TWIN_SECONDS = 5.0
"""After this long a twin call has an answer that a repeat can have, too."""
_LONGEST_MESSAGE_ID = 255


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider can tell about a send whose answer was lost, and what is done when it cannot (SPEC C-17)."""

    key_seconds: float | None
    """How long it recognises a repeat under the idempotency key; ``None``: it does not."""
    can_ask: bool
    gives_up: bool
    """``ALERTS_UNCERTAIN_SEND=fail``: what nobody can tell about is not sent again."""

    @property
    def can_tell(self) -> bool:
        """Whether an uncertain send can be settled at all."""
        return self.can_ask or self.key_seconds is not None


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """The new state of a row that was sent, or not."""

    status: Status
    attempts: int
    retry_seconds: float | None = None
    error: str | None = None
    failure_kind: FailureKind | None = None
    provider_message_id: str | None = None
    uncertain: bool = False
    """The row is uncertain, or stays so: somebody may have the message."""
    key_seconds: float | None = None
    """Uncertain rows: how long their key is recognised."""
    can_tell: bool = False
    """Uncertain rows: whether the provider can settle them."""


def row_update_for(
    outcome: Outcome, before: int, policy: RetryPolicy, provider: Provider, *, random: float, is_repeat: bool = False
) -> RowUpdate | None:
    """What to write after ``outcome`` of a row that made ``before`` attempts; ``None``: give it back, unspent.

    ``is_repeat``: an earlier attempt is uncertain; only an acceptance or a permanent refusal settles that one, too.
    A 429 spends an attempt like any failure, but never the last one: being too fast is not the message's fault.
    """
    match outcome:
        case Sent(provider_message_id=message_id):
            return RowUpdate(Status.SENT, before + 1, provider_message_id=_storable(message_id))
        case Failed(error=error):
            return RowUpdate(Status.FAILED, before + 1, error=error, failure_kind=FailureKind.PERMANENT)
        case Skipped(reason=reason):
            return RowUpdate(Status.SKIPPED, before, error=reason)
        case ChannelDown():
            return None
        case Retry():
            update = _retry(outcome, before, policy, random)
            return _still_uncertain(update, policy, provider, random) if is_repeat else update
        case Uncertain():
            update = RowUpdate(Status.QUEUED, before + 1, error=outcome.error, failure_kind=FailureKind.TRANSIENT)
            told_by = replace(provider, key_seconds=None) if outcome.key_failed else provider
            return _still_uncertain(update, policy, told_by, random)
        case _:
            assert_never(outcome)


def _storable(message_id: str | None) -> str | None:
    """A provider's id as PostgreSQL can keep it: one odd id must not keep a batch of outcomes from being written."""
    if message_id is None:
        return None
    return message_id.encode("utf-8", "replace").decode().replace("\0", "")[:_LONGEST_MESSAGE_ID]


def _retry(outcome: Retry, before: int, policy: RetryPolicy, random: float) -> RowUpdate:
    if not outcome.spends_attempt:
        seconds = outcome.retry_after or TWIN_SECONDS
        return RowUpdate(Status.QUEUED, before, seconds, outcome.error, FailureKind.TRANSIENT)
    attempts = before + 1
    if outcome.rate_limited:
        attempts = min(attempts, max(policy.max_attempts - 1, 0))
    if attempts >= policy.max_attempts and not outcome.rate_limited:
        return RowUpdate(Status.FAILED, attempts, error=outcome.error, failure_kind=FailureKind.TRANSIENT)
    delay = retry_delay(policy, attempts, retry_after=outcome.retry_after, random=random)
    return RowUpdate(Status.QUEUED, attempts, delay, outcome.error, FailureKind.TRANSIENT)


def _still_uncertain(update: RowUpdate, policy: RetryPolicy, provider: Provider, random: float) -> RowUpdate:
    """The update of a row that may have been accepted: it ends only where nobody can ever tell."""
    is_last = update.attempts >= policy.max_attempts
    if (is_last and not provider.can_ask) or (provider.gives_up and not provider.can_tell):
        kind = FailureKind.PERMANENT if provider.gives_up else FailureKind.TRANSIENT
        return RowUpdate(Status.FAILED, update.attempts, error=SEND_UNCERTAIN, failure_kind=kind)
    seconds = update.retry_seconds
    if seconds is None:
        seconds = retry_delay(policy, update.attempts, retry_after=None, random=random)
    return replace(
        update,
        status=Status.QUEUED,
        retry_seconds=seconds,
        uncertain=True,
        # The last attempt is not repeated under the key, but asked about.
        key_seconds=None if is_last else provider.key_seconds,
        can_tell=provider.can_tell,
    )
