"""From outcome to what is written of it (SPEC C-5 … C-7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.phases.send.backoff import RetryPolicy
from alerts_engine.phases.send.row_update import SEND_UNCERTAIN, Provider, RowUpdate, row_update_for
from alerts_engine.types import (
    ChannelDown,
    DownCause,
    Failed,
    FailureKind,
    Retry,
    Sent,
    Skipped,
    SkipReason,
    Status,
    Uncertain,
)

POLICY = RetryPolicy(base_seconds=60, max_seconds=3600, max_attempts=5)

policies = st.builds(RetryPolicy, st.floats(0.1, 1e4), st.floats(0.1, 1e5), st.integers(1, 20))
before = st.integers(0, 30)
KEYED = Provider(key_seconds=1800, can_ask=True, gives_up=False)
MUTE = Provider(key_seconds=None, can_ask=False, gives_up=False)
providers = st.builds(Provider, st.none() | st.floats(1, 1e5), st.booleans(), st.booleans())
randoms = st.floats(0, 1)


def settle(
    outcome,
    attempts: int = 0,
    policy: RetryPolicy = POLICY,
    random: float = 0.0,
    *,
    provider: Provider = KEYED,
    is_repeat: bool = False,
) -> RowUpdate | None:
    return row_update_for(outcome, attempts, policy, provider, random=random, is_repeat=is_repeat)


@given(before)
def test_success_is_sent_with_its_id_and_no_error(attempts: int):
    """Success: ``sent``, the provider's id, no error (SPEC C-5)."""
    assert settle(Sent("id"), attempts) == RowUpdate(Status.SENT, attempts + 1, provider_message_id="id")


@given(before)
def test_a_permanent_failure_ends_at_once(attempts: int):
    """Permanent: ``failed``, whatever attempts are left (SPEC C-5)."""
    expected = RowUpdate(Status.FAILED, attempts + 1, error="e", failure_kind=FailureKind.PERMANENT)
    assert settle(Failed("e"), attempts) == expected


@given(policies, before, randoms)
def test_a_transient_failure_is_queued_until_the_attempts_are_used_up(
    policy: RetryPolicy, attempts: int, random: float
):
    """Transient: one attempt more, queued with a delay, or ``failed`` when attempts are reached (SPEC C-5)."""
    made = settle(Retry("e"), attempts, policy, random)
    assert made.attempts == attempts + 1
    assert made.failure_kind is FailureKind.TRANSIENT
    if attempts + 1 >= policy.max_attempts:
        assert (made.status, made.retry_seconds) == (Status.FAILED, None)
    else:
        assert made.status is Status.QUEUED
        assert made.retry_seconds > 0


@given(policies, randoms, st.integers(1, 100))
def test_being_too_fast_never_fails_a_message(policy: RetryPolicy, random: float, times: int):
    """A 429 counts as an attempt, but never as the last one (SPEC C-5, C-8)."""
    attempts = 0
    for _ in range(times):
        made = settle(Retry("429", retry_after=1, rate_limited=True), attempts, policy, random)
        assert made.status is Status.QUEUED
        assert made.attempts <= policy.max_attempts - 1
        attempts = made.attempts


@given(st.floats(0, 1e6), randoms)
def test_it_waits_as_long_as_the_provider_asks(asked: float, random: float):
    """Retry-After holds if it is later than the backoff (SPEC C-5)."""
    assert settle(Retry("e", retry_after=asked), 0, POLICY, random).retry_seconds == max(60 * (1 + 0.2 * random), asked)


@given(before)
def test_the_channels_fault_spends_nothing(attempts: int):
    """A channel that is down gives its rows back as they were (SPEC C-7)."""
    assert settle(ChannelDown(DownCause.AUTH_FAILED, "e"), attempts) is None


@given(before, st.sampled_from(SkipReason))
def test_a_skip_spends_nothing_and_says_why(attempts: int, reason: SkipReason):
    """Skipped is terminal, with its reason and no attempt (SPEC C-10)."""
    assert settle(Skipped(reason), attempts) == RowUpdate(Status.SKIPPED, attempts, error=reason)


@given(st.text(max_size=400) | st.just("\ud800"))
def test_any_id_of_a_provider_can_be_stored(text: str):
    """No provider's id keeps a batch of outcomes from being written (SPEC C-13)."""
    kept = settle(Sent(text)).provider_message_id
    assert "\0" not in kept
    assert len(kept) <= 255
    kept.encode()


# --- uncertain sends ------------------------------------------------------------------------------------------------


@given(policies, before, providers, randoms)
def test_an_uncertain_send_ends_only_where_nobody_can_ever_tell(
    policy: RetryPolicy, attempts: int, provider: Provider, random: float
):
    """While a key or a question can settle it, it stays; it spends an attempt like any other (SPEC C-17)."""
    made = settle(Uncertain("timeout"), attempts, policy, random, provider=provider)
    is_last = attempts + 1 >= policy.max_attempts
    assert made.attempts == attempts + 1
    if (is_last and not provider.can_ask) or (provider.gives_up and not provider.can_tell):
        assert (made.status, made.error, made.uncertain) == (Status.FAILED, SEND_UNCERTAIN, False)
    else:
        assert (made.status, made.uncertain, made.can_tell) == (Status.QUEUED, True, provider.can_tell)
        assert made.failure_kind is FailureKind.TRANSIENT
        assert made.key_seconds == (None if is_last else provider.key_seconds)


def test_what_is_given_up_is_never_tried_again():
    """With ``ALERTS_UNCERTAIN_SEND=fail`` it is permanent, so that no later repair sends it twice (SPEC C-17)."""
    made = settle(Uncertain("timeout"), provider=Provider(None, can_ask=False, gives_up=True))
    assert (made.status, made.failure_kind) == (Status.FAILED, FailureKind.PERMANENT)


@given(policies, before, randoms, st.booleans())
def test_a_repeat_that_is_refused_for_now_settles_nothing(
    policy: RetryPolicy, attempts: int, random: float, rate_limited: bool
):
    """The first send may have been accepted all the same (SPEC C-17)."""
    made = settle(Retry("e", rate_limited=rate_limited), attempts, policy, random, is_repeat=True)
    assert (made.status, made.uncertain) == (Status.QUEUED, True)


def test_a_key_that_failed_is_not_relied_on():
    """The provider knows it with other bytes: it is asked instead (SPEC C-12)."""
    made = settle(Uncertain("changed", key_failed=True))
    assert (made.uncertain, made.key_seconds, made.can_tell) == (True, None, True)


def test_a_twin_in_flight_spends_nothing():
    """Its answer is worth waiting for: tried again soon (SPEC C-12)."""
    made = settle(Retry("twin", spends_attempt=False), 4)
    assert (made.status, made.attempts, made.uncertain) == (Status.QUEUED, 4, False)
    assert 0 < made.retry_seconds < 60


def test_where_nobody_can_tell_it_is_sent_again():
    """Telegram with ``retry``: at least once (SPEC C-17)."""
    made = settle(Uncertain("timeout"), provider=MUTE)
    assert (made.status, made.uncertain, made.can_tell, made.retry_seconds) == (Status.QUEUED, True, False, 60)
