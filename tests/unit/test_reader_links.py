"""The links by which readers stop alerts: ours are read, and nothing else is (SPEC U-1)."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.preferences.patience import Patience
from alerts_engine.reader_links import ReaderLinks, ReaderToken

SECRET, OTHER = "0123456789abcdef0123456789abcdef", "another secret, just as long 1234"
LINKS = ReaderLinks(SECRET, "https://app.example/")
ADA = ReaderToken(42, "email", "HIGH_IMPACT_EVENT")
TOKEN = LINKS.token(ADA)


@given(
    st.integers(1, 2**63 - 1), st.sampled_from(["email", "acme.webhook"]), st.text(max_size=40).filter(str.isprintable)
)
def test_a_token_says_again_who_and_what(user: int, channel: str, scope: str):
    """Whatever the alert type is called, and in a form that a URL carries as it is."""
    token = LINKS.token(ReaderToken(user, channel, scope))
    assert LINKS.read(token) == ReaderToken(user, channel, scope if len(scope.encode()) <= 100 else "")
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_a_link_is_always_the_same_and_holds_no_address():
    """So that a repeated email has the same bytes (SPEC C-12)."""
    assert LINKS.url(42, "email", "HIGH_IMPACT_EVENT") == f"https://app.example/alerts/preferences/{TOKEN}"
    assert ReaderLinks(SECRET, "https://app.example").token(ADA) == TOKEN
    assert SECRET not in TOKEN
    assert LINKS.read(LINKS.token(ReaderToken(42, "email", "X" * 5000))) == ReaderToken(42, "email", "")


@pytest.mark.parametrize("place", range(len(TOKEN)))
def test_an_altered_character_is_seen(place: int):
    """Also in the last one, whose lower bits mean nothing to base64."""
    for other in "AQgw5.-":
        if other != TOKEN[place]:
            assert LINKS.read(TOKEN[:place] + other + TOKEN[place + 1 :]) is None


@pytest.mark.parametrize("length", range(len(TOKEN)))
def test_a_truncated_token_is_none(length: int):
    """From nothing to all but one."""
    assert LINKS.read(TOKEN[:length]) is None


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", TOKEN + "=", TOKEN + "A", " " + TOKEN, TOKEN.upper(), TOKEN * 50, "a" * 10_000, "ä" + TOKEN,
     "\0", "%",
     "=" * 9, TOKEN.replace(".", "..")],
)  # fmt: skip
def test_what_is_no_token_is_none(token: str):
    """It ends in an answer, not in an error."""
    assert LINKS.read(token) is None


def test_another_users_id_needs_another_proof():
    """The proof of one reader is worth nothing for the next, nor for another channel or type."""
    proof = TOKEN.split(".")[1]
    for said in (
        "43:email:HIGH_IMPACT_EVENT",
        "42:telegram:HIGH_IMPACT_EVENT",
        "42:email:",
        "042:email:HIGH_IMPACT_EVENT",
    ):
        forged = urlsafe_b64encode(said.encode()).rstrip(b"=").decode()
        assert LINKS.read(f"{forged}.{proof}") is None


def test_a_new_secret_ends_all_earlier_links():
    """Replayed after the change they are as good as none."""
    assert ReaderLinks(OTHER, "https://app.example").read(TOKEN) is None


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading(text: str):
    """Whatever a stranger sends."""
    assert LINKS.read(text) is None


def test_a_caller_has_so_many_requests_a_minute():
    """They come back with time; others have their own, and only the newest callers are remembered."""
    now = [0.0]
    patience = Patience(per_minute=3, clock=lambda: now[0])
    assert [patience.has("a") for _ in range(4)] == [True, True, True, False]
    assert patience.has("b")
    now[0] = 20.0
    assert [patience.has("a") for _ in range(2)] == [True, False]
    for number in range(20_000):
        patience.has(f"caller {number}")
    assert len(patience._left) <= 10_000
