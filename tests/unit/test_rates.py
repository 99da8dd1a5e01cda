"""Rate limits with a clock that is set by hand (SPEC C-8, C-9)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.phases.send.rates import Pacer, SearchPause, TokenBucket

WINDOW = 60.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


limits = st.integers(1, 6000)
waits = st.lists(st.floats(0, 20), min_size=1, max_size=200)


def send_all(bucket: TokenBucket, clock: Clock, wishes: list[tuple[float, int]]) -> list[float]:
    """Wait, then send as many as are wished for and may go; the times of all sends."""
    times: list[float] = []
    for wait, wish in wishes:
        clock.now += wait
        count = min(wish, int(bucket.available()))
        bucket.take(count)
        times += [clock.now] * count
    return times


@given(limits, st.lists(st.tuples(st.floats(0, 20), st.integers(0, 500)), max_size=200))
def test_no_minute_has_more_than_the_limit_and_the_burst(limit: int, wishes: list[tuple[float, int]]):
    """However sends are spread, no 60 seconds hold more than limit + burst (SPEC C-9)."""
    clock = Clock()
    bucket = TokenBucket(limit, clock)
    times = send_all(bucket, clock, wishes)
    for index, start in enumerate(times):
        assert bisect_left(times, start + WINDOW) - index <= limit + bucket.burst


@given(limits)
def test_the_burst_is_one_second_and_at_least_one(limit: int):
    """A rested bucket lets one second's worth out at once, and never less than one (SPEC C-9)."""
    bucket = TokenBucket(limit, Clock())
    assert bucket.burst == max(1.0, limit / 60)
    assert bucket.available() == int(bucket.burst + 1e-9)


@given(limits, waits)
def test_nobody_starves(limit: int, pauses: list[float]):
    """Waiting as long as the bucket says is always enough for the next message (SPEC C-9)."""
    clock = Clock()
    bucket = TokenBucket(limit, clock)
    for pause in pauses:
        clock.now += pause + bucket.wait_for_one()
        assert bucket.available() >= 1
        bucket.take(int(bucket.available()))


@given(limits)
def test_a_busy_bucket_reaches_its_rate(limit: int):
    """Sending whenever it is allowed gives the whole limit in a minute, not less (SPEC C-9)."""
    clock = Clock()
    bucket, sent, start = TokenBucket(limit, clock), 0, clock.now
    while True:
        clock.now += bucket.wait_for_one()
        if clock.now >= start + WINDOW:
            break
        count = int(bucket.available())
        bucket.take(count)
        sent += count
    assert sent >= limit - 1


@given(st.one_of(st.none(), limits), st.floats(0.001, 1e5), st.floats(0, 1e5))
def test_a_pause_lets_nothing_out_and_a_shorter_one_does_not_end_it(limit: int | None, longer: float, shorter: float):
    """Retry-After pauses the bucket, with or without a limit (SPEC C-8)."""
    clock = Clock()
    bucket = TokenBucket(limit, clock)
    longer, shorter = max(longer, shorter), min(longer, shorter)
    bucket.pause(longer)
    bucket.pause(shorter)
    assert bucket.available() == 0
    assert bucket.wait_for_one() >= bucket.paused_for() > 0
    clock.now += bucket.wait_for_one() + 1e-6
    assert bucket.available() >= 1
    assert bucket.paused_for() == 0


def test_no_limit_is_no_limit():
    """Without a setting everything may go (SPEC section 4)."""
    bucket = TokenBucket(None, Clock())
    bucket.take(1_000_000)
    assert bucket.available() == float("inf")
    assert bucket.wait_for_one() == 0


def test_a_clock_that_goes_back_takes_nothing_away():
    """A clock's step back neither takes tokens nor gives them twice (SPEC C-9)."""
    clock = Clock()
    bucket = TokenBucket(60, clock)
    clock.now -= 500
    assert bucket.available() == 1
    bucket.take(1)
    assert bucket.available() == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc")), max_size=100))
def test_a_chat_gets_one_message_a_second(visits: list[tuple[float, str]]):
    """No two messages to one chat within a second, and no chat waits for another's rest (Telegram's limit)."""
    clock, last = Clock(), dict[str, float]()
    pacer = Pacer(1.0, clock)
    for wait, chat in visits:
        clock.now += wait
        rests = chat in pacer.resting()
        assert rests == (chat in last and clock.now < last[chat] + 1.0)
        if not rests:
            pacer.sent_to(chat)
            last[chat] = clock.now


def test_the_pacer_says_when_the_first_chat_is_ready():
    """It waits for the chat that is ready first, and for nothing when none rests."""
    clock = Clock()
    pacer = Pacer(1.0, clock)
    assert pacer.wait_for_one() == 0
    pacer.sent_to("a")
    clock.now += 0.25
    pacer.sent_to("b")
    assert pacer.wait_for_one() == 0.75
    clock.now += 0.75
    assert pacer.resting() == ["b"]


@given(st.floats(0, 10))
def test_a_long_search_takes_at_most_a_fifth_of_the_time(seconds: float):
    """A short one takes no rest at all, so that many chats get their messages at once (SPEC C-9, K-2)."""
    clock = Clock()
    pause = SearchPause(clock)
    pause.searched(seconds)
    assert (pause.left() > 0) == (seconds > 0.02)
    assert pause.left() == 0 or pause.left() > 3.9 * seconds
    clock.now += 4.1 * seconds
    assert pause.left() == 0
