"""The providers' outcome tables, written a second time by hand, and the rules around them (SPEC C-6, C-7)."""

from __future__ import annotations

import json
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from alerts_engine.channels import brevo, resend, telegram, twilio
from alerts_engine.channels.http import Answer
from alerts_engine.channels.outcomes import WORDS, OutcomeTable, error_code, refused, sent, usable_id
from alerts_engine.types import ChannelDown, DownCause, Failed, Outcome, Retry, Sent, Uncertain

if TYPE_CHECKING:
    from collections.abc import Callable

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

ADAPTERS = {"brevo": brevo, "resend": resend, "telegram": telegram, "twilio": twilio}
CODE_FIELD = {"brevo": "code", "resend": "name", "twilio": "code"}
NEW_CODE: dict[str, str | None] = {"brevo": "brand_new", "resend": "brand_new", "telegram": None, "twilio": "29999"}
"""A code in the provider's own form that no table has."""
AUTH, QUOTA = DownCause.AUTH_FAILED, DownCause.QUOTA_EXHAUSTED


def again(_: str) -> Outcome:
    return Sent(None, already_accepted=True)


def rate_limited(error: str) -> Outcome:
    return Retry(error, rate_limited=True)


def twin(error: str) -> Outcome:
    return Retry(error, retry_after=5.0, spends_attempt=False)


def down(cause: DownCause) -> Callable[[str], Outcome]:
    return partial(ChannelDown, cause)


EXPECTED: dict[str, dict[tuple[int | None, str | None], Callable[[str], Outcome]]] = {
    "brevo": {
        (None, "duplicate_parameter"): again,
        (400, "invalid_parameter"): Failed,
        (400, "missing_parameter"): Failed,
        (400, "out_of_range"): Failed,
        (400, "bad_request"): Failed,
        (406, "not_acceptable"): Failed,
        (401, None): down(AUTH),
        (403, None): down(AUTH),
        (None, "unauthorized"): down(AUTH),
        (None, "permission_denied"): down(AUTH),
        (None, "account_under_validation"): down(AUTH),
        (402, None): down(DownCause.OUT_OF_CREDIT),
        (None, "not_enough_credits"): down(DownCause.OUT_OF_CREDIT),
    },
    "resend": {
        (409, "concurrent_idempotent_requests"): twin,
        (409, "invalid_idempotent_request"): partial(Uncertain, key_failed=True),
        (409, None): Uncertain,
        (400, "validation_error"): Failed,
        (400, "invalid_idempotency_key"): Failed,
        (422, "validation_error"): Failed,
        (422, "missing_required_field"): Failed,
        (422, "invalid_parameter"): Failed,
        (451, "security_error"): Failed,
        (401, None): down(AUTH),
        (403, None): down(AUTH),
        (None, "missing_api_key"): down(AUTH),
        (None, "invalid_api_key"): down(AUTH),
        (None, "restricted_api_key"): down(AUTH),
        (None, "suspended_api_key"): down(AUTH),
        (None, "invalid_from_address"): down(AUTH),
        (429, "rate_limit_exceeded"): rate_limited,
        (429, "daily_quota_exceeded"): down(QUOTA),
        (429, "monthly_quota_exceeded"): down(QUOTA),
        (500, "application_error"): Retry,
        (500, "internal_server_error"): Retry,
    },
    "telegram": {
        (400, None): Failed,
        (401, None): down(AUTH),
        (403, None): Failed,
        (404, None): down(AUTH),
        (429, None): rate_limited,
        (502, None): Uncertain,
        (504, None): Uncertain,
    },
    "twilio": {
        (400, "21211"): Failed,
        (400, "21408"): Failed,
        (403, "21408"): Failed,
        (400, "21602"): Failed,
        (400, "21604"): Failed,
        (400, "21606"): Failed,
        (400, "21608"): Failed,
        (400, "21610"): Failed,
        (400, "21612"): Failed,
        (400, "21614"): Failed,
        (400, "21617"): Failed,
        (400, "30005"): Failed,
        (400, "30006"): Failed,
        (401, None): down(AUTH),
        (None, "20003"): down(AUTH),
        (None, "20005"): down(AUTH),
        (None, "20403"): down(AUTH),
        (None, "20404"): down(AUTH),
        (None, "30002"): down(AUTH),
        (None, "21212"): down(AUTH),
        (None, "21660"): down(AUTH),
        (None, "21611"): down(DownCause.QUEUE_FULL),
        (None, "30001"): down(DownCause.QUEUE_FULL),
        (None, "63038"): down(QUOTA),
        (None, "20429"): rate_limited,
    },
}
"""The row, and what makes its outcome out of the error. A row for any status is tried with 400."""

ROWS = [(provider, *row, make) for provider, rows in EXPECTED.items() for row, make in rows.items()]


def answer(provider: str, status: int, code: str | None = None, **headers: str) -> Answer:
    """A refusal as the provider words it, with a text that must not decide or show; without a code, with a new one."""
    if provider == "telegram":
        return Answer(
            status, body={"ok": False, "error_code": status, "description": "chat not found"}, headers=headers
        )
    code = code or NEW_CODE[provider] or ""
    body: dict[str, object] = {
        "message": "not enough credits, unauthorized",
        CODE_FIELD[provider]: int(code) if code.isdigit() else code,
    }
    return Answer(status, body=body, headers=headers)


def outcome(provider: str, refusal: Answer | Retry | Uncertain) -> Outcome:
    return ADAPTERS[provider].outcome_of(refusal)


def error_of(provider: str, status: int, code: str | None = None) -> str:
    return f"{provider}_{code or NEW_CODE[provider] or status}"


@pytest.mark.parametrize(("provider", "status", "code", "make"), ROWS)
def test_every_row_means_what_the_provider_says(
    provider: str, status: int | None, code: str | None, make: Callable[[str], Outcome]
) -> None:
    """C-6, C-7: status and error code decide whether the message, the channel or neither is at fault."""
    assert outcome(provider, answer(provider, status or 400, code)) == make(error_of(provider, status or 400, code))


@pytest.mark.parametrize("provider", ADAPTERS)
def test_every_row_of_a_table_is_tested(provider: str) -> None:
    """C-6: a row that is added without a test is found here."""
    assert set(ADAPTERS[provider].OUTCOMES.rows) == set(EXPECTED[provider])


@pytest.mark.parametrize(
    ("provider", "status", "code", "expected"),
    [
        ("brevo", 402, "account_under_validation", ChannelDown(AUTH, "brevo_account_under_validation")),
        ("brevo", 401, "brand_new", ChannelDown(AUTH, "brevo_brand_new")),
        ("resend", 403, "validation_error", ChannelDown(AUTH, "resend_validation_error")),
        ("resend", 429, None, Retry("resend_brand_new", rate_limited=True)),
        ("resend", 409, None, Uncertain("resend_brand_new")),
        ("twilio", 429, "63038", ChannelDown(QUOTA, "twilio_63038")),
        ("twilio", 401, "20003", ChannelDown(AUTH, "twilio_20003")),
    ],
)
def test_the_most_telling_row_decides(provider: str, status: int, code: str | None, expected: Outcome) -> None:
    """C-6: status and code together come first, then the code, then the status."""
    assert outcome(provider, answer(provider, status, code)) == expected


@pytest.mark.parametrize(("provider", "status"), [*product(ADAPTERS, [408, 425, 500, 503, 599])])
def test_times_out_and_server_errors_are_transient(provider: str, status: int) -> None:
    """C-6: 408, 425 and 5xx are worth another try, when the provider itself says so."""
    assert outcome(provider, answer(provider, status)) == Retry(error_of(provider, status))


@pytest.mark.parametrize("provider", ADAPTERS)
def test_too_many_requests_pause_the_channel_for_as_long_as_asked(provider: str) -> None:
    """C-8: a 429 tells that the rate was too high, and its ``Retry-After`` for how long."""
    refusal = answer(provider, 429, **{"Retry-After": "11"})
    assert outcome(provider, refusal) == Retry(error_of(provider, 429), retry_after=11.0, rate_limited=True)


@pytest.mark.parametrize("provider", ADAPTERS)
def test_a_server_error_may_ask_to_wait_without_being_a_rate_limit(provider: str) -> None:
    """C-5: the Retry-After of a 503 is kept, and the channel's rate and its window are left alone."""
    refusal = answer(provider, 503, **{"Retry-After": "11", "x-sib-ratelimit-reset": "3000"})
    assert outcome(provider, refusal) == Retry(error_of(provider, 503), retry_after=11.0)
    unlimited = answer(provider, 503, **{"x-sib-ratelimit-reset": "3000"})
    assert outcome(provider, unlimited) == Retry(error_of(provider, 503))


@pytest.mark.parametrize(("provider", "status"), [*product(ADAPTERS, [405, 410, 413, 418])])
def test_other_client_errors_are_permanent(provider: str, status: int) -> None:
    """C-6: a 4xx that no row names will not get better by itself."""
    assert outcome(provider, answer(provider, status)) == Failed(error_of(provider, status))


@pytest.mark.parametrize(("provider", "status"), [*product(ADAPTERS, [300, 301, 302, 307, 308])])
def test_redirects_are_uncertain(provider: str, status: int) -> None:
    """C-6: who sends us elsewhere need not know what became of the message."""
    assert outcome(provider, Answer(status)) == Uncertain(f"{provider}_redirect")
    assert isinstance(outcome(provider, answer(provider, status)), Uncertain)


@pytest.mark.parametrize("provider", ADAPTERS)
def test_an_answer_that_is_not_in_the_providers_form_proves_nothing(provider: str) -> None:
    """C-6: a gateway's error page is not the provider's word, whatever its status; nor is a gateway's JSON."""
    pages: list[dict[str, object]] = [
        {},
        {"message": "Internal Server Error"},
        {"error": {"code": 503, "message": "unavailable"}},
        {"code": 503, "name": 503, "error_code": "503", "message": "unavailable"},
        {"code": "Bad Gateway", "name": "Bad Gateway", "ok": False, "message": "Bad Gateway"},
        {"code": None, "name": None, "error_code": None, "ok": False},
    ]
    for status, page in product([*range(200, 300), *range(400, 600)], pages):
        assert outcome(provider, Answer(status, body=page)) == Uncertain(f"{provider}_unreadable_{status}")


@pytest.mark.parametrize("provider", ADAPTERS)
def test_no_known_code_makes_a_server_error_permanent(provider: str) -> None:
    """C-6: 5xx is transient even when the body has the code of a permanent refusal."""
    table: OutcomeTable = ADAPTERS[provider].OUTCOMES
    for (_, code), status in product(table.rows, [500, 503]):
        assert not isinstance(outcome(provider, answer(provider, status, code)), Failed)


@pytest.mark.parametrize("provider", ADAPTERS)
def test_what_kept_an_answer_from_coming_says_whether_the_message_was_handed_over(provider: str) -> None:
    """C-6: a timeout before the message was written is tried again, one after it is uncertain."""
    assert outcome(provider, Retry("timeout")) == Retry("timeout")
    assert outcome(provider, Uncertain("timeout")) == Uncertain("timeout")


def test_a_repeat_with_other_bytes_is_reported() -> None:
    """C-12: the engine promises the same bytes under the same key; an operator should hear when it failed."""
    with capture_logs() as logs:
        refusal = answer("resend", 409, "invalid_idempotent_request")
        assert outcome("resend", refusal) == Uncertain("resend_invalid_idempotent_request", key_failed=True)
    assert [(log["log_level"], log["event"]) for log in logs] == [("error", "repeat_had_other_bytes")]


def test_a_twin_in_flight_is_waited_for_as_long_as_asked() -> None:
    """C-12: the provider's own wait goes before the usual few seconds; no attempt is spent either way."""
    refusal = answer("resend", 409, "concurrent_idempotent_requests", **{"Retry-After": "2"})
    assert outcome("resend", refusal) == Retry(
        "resend_concurrent_idempotent_requests", retry_after=2.0, spends_attempt=False
    )


@pytest.mark.parametrize(
    ("provider", "body", "expected"),
    [
        ("brevo", {"messageId": "<1@relay>"}, Sent("<1@relay>")),
        ("resend", {"id": "49a3999c"}, Sent("49a3999c")),
        ("telegram", {"ok": True, "result": {"message_id": 7}}, Sent("7")),
        ("twilio", {"sid": "SM1", "status": "queued"}, Sent("SM1")),
    ],
)
def test_a_success_carries_the_providers_message_id(provider: str, body: dict[str, object], expected: Sent) -> None:
    """C-5: sent, with the id under which the provider knows the message."""
    assert outcome(provider, Answer(200, body=body)) == expected
    assert outcome(provider, Answer(201, body=body)) == expected


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        *((provider, {}) for provider in ADAPTERS),
        ("brevo", {"messageId": None}),
        ("brevo", {"messageIds": ["<1@relay>"]}),
        ("resend", {"id": {"nested": "1"}}),
        ("resend", {"id": ""}),
        ("twilio", {"sid": "SM\x00"}),
        ("twilio", {"sid": "S" * 300}),
        ("telegram", {"ok": True}),
        ("telegram", {"ok": True, "result": [7]}),
        ("telegram", {"ok": True, "result": {"message_id": True}}),
        ("telegram", {"ok": "true", "result": {"message_id": 7}}),
        ("telegram", {"ok": False, "result": {"message_id": 7}}),
    ],
)
def test_a_success_of_the_wrong_shape_is_uncertain(provider: str, body: dict[str, object]) -> None:
    """C-6: without the id that every success has, nobody knows what happened."""
    assert outcome(provider, Answer(200, body=body)) == Uncertain(f"{provider}_unreadable_200")


def test_telegrams_error_code_outranks_the_http_status() -> None:
    """C-6: ``error_code`` is Telegram's own word."""
    refusal = Answer(200, body={"ok": False, "error_code": 403, "description": "Forbidden"})
    assert outcome("telegram", refusal) == Failed("telegram_403")


@pytest.mark.parametrize("error", [True, 7, 200, "403", None, 10**30, {}])
def test_an_impossible_telegram_error_code_refuses_nothing(error: object) -> None:
    """C-6: only a 4xx or 5xx number is an error code."""
    refusal = Answer(400, body={"ok": False, "error_code": error})
    assert outcome("telegram", refusal) == Uncertain("telegram_unreadable_400")


def test_telegrams_own_wait_outranks_the_header() -> None:
    """C-8: ``parameters.retry_after`` first, ``Retry-After`` only without it."""
    body = {"ok": False, "error_code": 429, "parameters": {"retry_after": 35}}
    refusal = Answer(429, body=body, headers={"Retry-After": "2"})
    assert outcome("telegram", refusal) == Retry("telegram_429", retry_after=35.0, rate_limited=True)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["ok", "code", "name", "error_code", "parameters", "result", "id", "sid", "messageId", "retry_after"]
)


@unhurried
@given(st.integers(200, 599), st.dictionaries(FIELDS, JUNK), st.booleans())
def test_no_answer_can_raise_or_show_a_text_in_its_error(status: int, body: dict[str, object], readable: bool) -> None:
    """C-6, O-3: any JSON at all comes to an outcome, and error codes are short words."""
    for provider, adapter in ADAPTERS.items():
        result = adapter.outcome_of(Answer(status, readable, body if readable else {}))
        error = getattr(result, "error", provider)
        assert error.isascii()
        assert error.replace("_", "").isalnum()
        assert len(error) <= len(provider) + 41
        if not readable:
            assert isinstance(result, Uncertain)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("invalid_parameter", "invalid_parameter"),
        ("invalid_api_Key", "invalid_api_key"),
        (21211, "21211"),
        ("21211", "21211"),
        ("user@example.com", None),
        ("Invalid parameter", None),
        ("+31612345678", None),
        (31612345678, None),
        ("31612345678", None),
        ("chat_7700112233", None),
        ("x1234567", None),
        ("error_123456", "error_123456"),
        (-1001234567890, None),
        ("x" * 41, None),
        ("", None),
        ("\u0661", None),
        ("word\n", None),
        (True, None),
        (None, None),
        (21211.0, None),
        (["a"], None),
    ],
)
def test_only_short_words_and_numbers_are_error_codes(code: object, expected: str | None) -> None:
    """O-3: an address, a number of a phone or a sentence never becomes a part of ``last_error``."""
    assert error_code(code) == expected


SECRET = "AbCdEf-0123_Key"
DESTINATION = "Very_Private@example.com"


@pytest.mark.parametrize("provider", ["brevo", "resend"])
@pytest.mark.parametrize(
    "code",
    ["abcdef0123key", "ABCDEF_0123_KEY", "abcdef_0123", "key_abcdef_0123_key", "very_private", "private_example_com"],
)
def test_a_code_that_repeats_the_request_is_dropped(provider: str, code: str) -> None:
    """O-3: a credential or a destination, in any letter case, or a part of it: error and log do not have it."""
    refusal = Answer(400, body={CODE_FIELD[provider]: code})
    with capture_logs() as logs:
        result = ADAPTERS[provider].outcome_of(refusal, (SECRET, DESTINATION))
    assert result == Failed(f"{provider}_400")
    assert logs == []


def test_a_number_that_repeats_the_request_is_dropped() -> None:
    """O-3: six digits of a phone number have the form of a code, and are none."""
    with capture_logs() as logs:
        result = twilio.outcome_of(Answer(400, body={"code": 234567}), ("+31612345678",))
    assert result == Failed("twilio_400")
    assert logs == []


@pytest.mark.parametrize("provider", CODE_FIELD)
def test_other_codes_stay_whatever_the_secrets_are(provider: str) -> None:
    """C-6: a code of the table is a code, and a short one is like a secret by chance."""
    for (_, code), secrets in product(ADAPTERS[provider].OUTCOMES.rows, [("",), ("invalid_parameter", "21211", " ")]):
        if code is not None:
            refusal = Answer(500, body={CODE_FIELD[provider]: code})
            outcomes = (ADAPTERS[provider].outcome_of(refusal, secrets), ADAPTERS[provider].outcome_of(refusal))
            assert outcomes[0] == outcomes[1]
    result = ADAPTERS[provider].outcome_of(answer(provider, 400), ("another-key",))
    assert result == Failed(error_of(provider, 400))


def test_an_unknown_code_is_told_once_and_decided_by_its_status() -> None:
    """C-6: vendors add codes without notice; the operator hears of each once, and it is handled safely."""
    refusal = Answer(400, body={"code": "brand_new_code", "message": "about user@example.com"})
    with capture_logs() as logs:
        outcomes = [outcome("brevo", refusal) for _ in range(3)]
    assert outcomes == [Failed("brevo_brand_new_code")] * 3
    told = {"provider": "brevo", "status": 400, "code": "brand_new_code"}
    assert logs == [{"event": "unknown_provider_code", "log_level": "warning"} | told]


def test_known_codes_are_not_told() -> None:
    """C-6: a code that the table has, on whatever status, is no news."""
    with capture_logs() as logs:
        for provider, status, code, _ in ROWS:
            if code is not None or provider == "telegram":
                outcome(provider, answer(provider, status or 400, code))
        outcome("resend", answer("resend", 403, "validation_error"))
    assert [log for log in logs if log["event"] == "unknown_provider_code"] == []


@unhurried
@given(JUNK)
def test_a_message_id_is_a_short_printable_text_or_a_number(value: object) -> None:
    """C-5: what cannot be stored as an id is no id."""
    message_id = usable_id(value)
    if message_id is None:
        assert sent(OutcomeTable("nobody", WORDS, {}), Answer(200), value) == Uncertain("nobody_unreadable_200")
    else:
        assert 0 < len(message_id) < 256
        assert message_id.isprintable()
        assert "\x00" not in json.dumps(message_id)


def test_a_table_without_rows_is_decided_by_status_alone() -> None:
    """C-6: the safe default needs no table."""
    table = OutcomeTable("nobody", WORDS, {})
    assert refused(table, Answer(400), code="new") == Failed("nobody_new")
    assert refused(table, Answer(500), code="new") == Retry("nobody_new")
    assert refused(table, Answer(199), code="new") == Uncertain("nobody_new")
    assert refused(table, Answer(400)) == Uncertain("nobody_unreadable_400")
