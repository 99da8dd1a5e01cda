"""Every form of "come back later" (SPEC C-8, C-14)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts_engine.channels.retry_after import MAX_WAIT_SECONDS, wait_from_headers, wait_from_seconds

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001  made aware here
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
WAITS = st.integers(0, 48 * 3600)


def http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def wait(headers: dict[str, str], *, now: datetime = NOW, rate_limited: bool = True) -> float | None:
    return wait_from_headers(headers, now=now, rate_limited=rate_limited)


@unhurried
@given(WAITS)
def test_seconds_in_a_header_are_read_and_clamped_to_a_day(seconds: int) -> None:
    """C-8: ``Retry-After: 120`` is 120 seconds, and never more than 24 hours."""
    assert wait({"Retry-After": str(seconds)}) == min(seconds, MAX_WAIT_SECONDS)


@unhurried
@given(st.floats(0, 1e9, allow_subnormal=False).map(lambda value: f"{value:.3f}"))
def test_fractions_of_seconds_are_kept(text: str) -> None:
    """C-8: a provider that says ``0.25`` is taken at its word."""
    assert wait({"retry-after": text}) == min(float(text), MAX_WAIT_SECONDS)


@unhurried
@given(MOMENTS, WAITS, st.timedeltas(timedelta(days=-3000), timedelta(days=3000)))
def test_a_date_is_measured_by_the_answers_own_clock(date: datetime, seconds: int, skew: timedelta) -> None:
    """C-14: however wrong this host's clock is, the wait is the same."""
    headers = {"Date": http_date(date), "Retry-After": http_date(date + timedelta(seconds=seconds))}
    assert wait(headers, now=date + skew) == min(seconds, MAX_WAIT_SECONDS)


@unhurried
@given(WAITS)
def test_a_date_without_a_date_header_is_measured_by_the_given_clock(seconds: int) -> None:
    """C-8: a date alone is compared with the time that the caller gives."""
    assert wait({"Retry-After": http_date(NOW + timedelta(seconds=seconds))}) == min(seconds, MAX_WAIT_SECONDS)


def test_a_date_that_has_passed_asks_for_no_wait() -> None:
    """C-8: the provider is ready already."""
    assert wait({"Retry-After": http_date(NOW - timedelta(hours=1))}) == 0.0


@pytest.mark.parametrize("form", ["Sunday, 01-Mar-26 12:01:00 GMT", "Sun Mar  1 12:01:00 2026"])
def test_the_obsolete_date_forms_are_read_as_utc(form: str) -> None:
    """C-8: HTTP has three date forms, all of them UTC."""
    assert wait({"Retry-After": form}) == 60.0


@pytest.mark.parametrize("header", ["ratelimit-reset", "x-sib-ratelimit-reset", "X-Sib-RateLimit-Reset"])
def test_reset_headers_count_only_when_the_rate_was_refused(header: str) -> None:
    """C-8: they stand on every answer, and would make a plain failure wait for the whole rate window."""
    assert wait({header: "37"}, rate_limited=True) == 37.0
    assert wait({header: "37"}, rate_limited=False) is None


def test_retry_after_comes_before_the_reset_headers() -> None:
    """C-8: what the provider asks for outranks when its window ends."""
    assert wait({"ratelimit-reset": "37", "Retry-After": "2"}) == 2.0


def test_an_unreadable_retry_after_leaves_the_word_to_the_reset_headers() -> None:
    """C-8: garbage in one header does not hide the other."""
    assert wait({"Retry-After": "soon", "ratelimit-reset": "nope", "x-sib-ratelimit-reset": "9"}) == 9.0


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "+5", "1e3", "nan", "inf", "1_000", "\u0661", "0x10", "5 s", "5,6", "1.", ".5", "9" * 400],
)
def test_garbage_asks_for_nothing(text: str) -> None:
    """C-8: what is not plainly a number of seconds or a date is no wait."""
    assert wait({"Retry-After": text}) is None


@unhurried
@given(st.dictionaries(st.sampled_from(["Retry-After", "Date", "ratelimit-reset"]), st.text()), st.booleans())
def test_no_header_can_raise_or_leave_the_bounds(headers: dict[str, str], rate_limited: bool) -> None:
    """C-6: an answer's nonsense is no error of ours."""
    seconds = wait(headers, rate_limited=rate_limited)
    assert seconds is None or 0 <= seconds <= MAX_WAIT_SECONDS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@unhurried
@given(JSON)
def test_no_json_value_can_raise_or_leave_the_bounds(value: object) -> None:
    """C-6: Telegram's ``parameters.retry_after`` may be anything once a gateway answers for it."""
    seconds = wait_from_seconds(value)
    assert seconds is None or 0 <= seconds <= MAX_WAIT_SECONDS


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(35, 35.0), (0, 0.0), (2.5, 2.5), ("35", 35.0), (10**400, MAX_WAIT_SECONDS), (1e300, MAX_WAIT_SECONDS)],
)
def test_json_numbers_are_seconds(value: object, seconds: float) -> None:
    """C-8: ``parameters.retry_after`` is a number, and waits of hours were seen."""
    assert wait_from_seconds(value) == seconds


@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, True, None, [], {}, [3]])
def test_json_garbage_asks_for_nothing(value: object) -> None:
    """C-8: negative, not finite or not a number: no wait."""
    assert wait_from_seconds(value) is None
