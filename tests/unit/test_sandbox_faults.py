"""Which fault applies to a call, and how often."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.sandbox import Fault, FaultError, Faults, Provider
from alerts_engine.sandbox.brevo import Brevo
from alerts_engine.sandbox.resend import Resend
from alerts_engine.sandbox.telegram import Telegram
from alerts_engine.sandbox.twilio import Twilio

BREVO, RESEND, TELEGRAM, TWILIO = Brevo("key"), Resend("key"), Telegram("1:key"), Twilio("AC1", "key")


def test_an_exact_destination_goes_before_anyone() -> None:
    """A fault for one destination wins over a fault for all."""
    faults = Faults()
    faults.add(Fault(status=500))
    faults.add(Fault("a@b.example", status=503))
    taken = [faults.take(Provider.BREVO, who) for who in ("a@b.example", "c@d.example")]
    assert [fault and fault.status for fault in taken] == [503, 500]


def test_a_fault_of_one_provider_leaves_the_others_alone() -> None:
    """The same destination can fail at one provider and work at another."""
    faults = Faults()
    faults.add(Fault(provider=Provider.TWILIO, status=500))
    assert faults.take(Provider.BREVO, "x") is None
    assert faults.take(Provider.TWILIO, "x") is not None


def test_faults_apply_in_turn_and_as_often_as_they_say() -> None:
    """Two failures, then another kind, then all is well."""
    faults = Faults()
    faults.add(Fault("x", status=500, times=2))
    faults.add(Fault("x", status=429, times=1))
    taken = [faults.take(Provider.BREVO, "x") for _ in range(4)]
    assert [fault and fault.status for fault in taken] == [500, 500, 429, None]
    assert faults.list == ()


def test_the_list_shows_what_is_left() -> None:
    """``times`` counts down, and the order is that of adding."""
    faults = Faults()
    faults.add(Fault("b", status=500, times=3))
    faults.add(Fault("a", status=500))
    faults.take(Provider.BREVO, "b")
    assert [(fault.destination, fault.times) for fault in faults.list] == [("b", 2), ("a", None)]


DEFAULT_STATUS = {
    "retry_after": ({"retry_after": 5}, 429),
    "retry_after_date": ({"retry_after_date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 429),
    "redirect_to": ({"redirect_to": "https://example.com/"}, 302),
    "code": ({"code": "x"}, 400),
    "migration": ({"migrate_to_chat_id": -1001}, 400),
    "body": ({"body": "nonsense"}, 200),
    "size": ({"size": 3}, 200),
    "truncate": ({"truncate": True}, 500),
}


@pytest.mark.parametrize(("fields", "status"), DEFAULT_STATUS.values(), ids=DEFAULT_STATUS)
def test_the_status_follows_from_the_other_fields(fields: dict[str, object], status: int) -> None:
    """A fault need not say its status where there is a natural one."""
    assert Fault(**fields).answer(TELEGRAM).status == status  # type: ignore[arg-type]


def test_errors_take_the_form_of_the_provider() -> None:
    """The same fault is four different bodies (providers' documentation)."""
    fault = Fault(status=429, retry_after=30)
    bodies = {rules.provider: json.loads(fault.answer(rules).body) for rules in (BREVO, RESEND, TELEGRAM, TWILIO)}
    assert bodies[Provider.BREVO]["code"] == "too_many_requests"
    assert bodies[Provider.RESEND]["name"] == "rate_limit_exceeded"
    assert bodies[Provider.TELEGRAM]["parameters"] == {"retry_after": 30}
    assert bodies[Provider.TWILIO]["code"] == 20429


def test_retry_after_takes_the_form_of_the_provider() -> None:
    """Each provider has its own header for it (providers' documentation)."""
    fault = Fault(retry_after=30)
    assert fault.answer(BREVO).headers["x-sib-ratelimit-reset"] == "30"
    assert fault.answer(RESEND).headers["retry-after"] == "30"
    assert fault.answer(TELEGRAM).headers["Retry-After"] == "30"
    assert fault.answer(TWILIO).headers["Retry-After"] == "30"


def test_an_own_code_replaces_the_usual_one() -> None:
    """Quota errors differ from rate limits by their code alone (C-7)."""
    quota = Fault(status=429, code="daily_quota_exceeded").answer(RESEND)
    blocked = Fault(status=403, code="Forbidden: user is deactivated").answer(TELEGRAM)
    assert json.loads(quota.body)["name"] == "daily_quota_exceeded"
    assert json.loads(blocked.body)["description"] == "Forbidden: user is deactivated"


def test_a_status_nobody_planned_has_a_body_all_the_same() -> None:
    """Any 4xx or 5xx can be asked for."""
    assert json.loads(Fault(status=418).answer(BREVO).body)["code"] == "invalid_parameter"
    assert json.loads(Fault(status=599).answer(BREVO).body)["code"] == "internal_server_error"


WRONG = {
    "misspelt field": ({"statsu": 500}, "statsu"),
    "status out of range": ({"status": 42}, "status"),
    "text for a number": ({"status": "500"}, "status"),
    "unknown provider": ({"status": 500, "provider": "mailgun"}, "provider"),
    "no times": ({"status": 500, "times": 0}, "times"),
    "negative delay": ({"delay": -1}, "delay"),
    "endless size": ({"size": 10**12}, "size"),
    "two wrong fields": ({"delay": "x", "hang": 1}, "delay"),
    "not an object": ([], "body"),
    "nothing wrong": ({"destination": "x", "times": 1}, "must say what goes wrong"),
}


@pytest.mark.parametrize(("described", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_description_is_refused_by_name(described: object, named: str) -> None:
    """A fault that was mistyped must not silently do nothing."""
    with pytest.raises(FaultError, match=named):
        Fault.from_json(json.dumps(described).encode())


def test_text_that_is_not_json_is_refused() -> None:
    """Broken JSON is a ``FaultError`` too."""
    with pytest.raises(FaultError):
        Fault.from_json(b"{")


@given(
    st.builds(
        Fault,
        st.sampled_from(["*", "a@b.example"]),
        provider=st.none() | st.sampled_from(Provider),
        status=st.integers(200, 599),
        code=st.none() | st.text(st.characters(exclude_categories=["Cs"])) | st.integers(),
        delay=st.floats(0, 100),
        accept=st.booleans(),
        retry_after=st.none() | st.integers(0, 10**6),
        times=st.none() | st.integers(1, 99),
    )
)
def test_what_is_shown_can_be_sent_back(fault: Fault) -> None:
    """The JSON of a fault describes the same fault."""
    assert Fault.from_json(json.dumps(fault.as_json()).encode()) == fault
