"""Masking catches what should not have been in a text at all (SPEC O-3)."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts_engine.masking import MASK, Redaction, without_values

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = {
    "brevo": "xkeysib-0123456789abcdef/Secret+Key=",
    "telegram": "987654321:telegram-secret-0123456789abcdef",
    "sid": "ACsecret0123456789abcdef0123456789",
    "twilio": "twilio secret 0123456789",
    "odd": "back\\slash 'quoted' \"twice\" ü",
    "sender": "+15005550006",
}
IN_OTHER_WORDS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "lower": str.lower,
    "upper": str.upper,
    "repr": repr,
    "JSON": json.dumps,
    "in a path": quote,
    "in a query": quote_plus,
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a URL, lower": lambda secret: quote(secret, safe="").lower(),
    "in Base64": lambda secret: b64encode(secret.encode()).decode(),
    "in Base64 for URLs": lambda secret: urlsafe_b64encode(secret.encode()).decode(),
    "after a user": lambda secret: b64encode(f"user:{secret}".encode()).decode(),
    "after another user": lambda secret: b64encode(f"us:{secret}".encode()).decode(),
    "before a password": lambda secret: b64encode(f"{secret}:password".encode()).decode(),
    "between": lambda secret: b64encode(f"x{secret}yz".encode()).decode(),
}


def remains(text: str, spelled: str, least: int) -> bool:
    """Whether any ``least`` characters in a row of ``spelled`` can still be read in ``text``."""
    return any(spelled[start : start + least] in text for start in range(len(spelled) - least + 1))


@pytest.mark.parametrize("words", IN_OTHER_WORDS)
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_however_it_is_written(name: str, words: str) -> None:
    """As texts quote it, as URLs carry it, and inside Base64, as in Basic authentication."""
    secret = SECRETS[name]
    spelled = IN_OTHER_WORDS[words](secret)
    text = Redaction([secret]).text(f"before {spelled} after")
    assert MASK in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert not remains(text, spelled.strip("'\""), 8)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=9, max_size=40), st.binary(max_size=5))
def test_any_secret_is_masked_within_base64(secret: str, before: bytes) -> None:
    """Wherever in the encoded text it begins."""
    spelled = b64encode(before + secret.encode() + b":x").decode()
    assert len(Redaction([secret]).text(spelled)) <= len(spelled) - 8 + len(MASK)


@pytest.mark.parametrize("space", [" ", "\n", "\t \r\n"])
def test_a_secret_is_masked_as_it_is_used_without_the_space_around_it(space: str) -> None:
    """Adapters strip what a copied variable brings along; both forms are masked."""
    redaction = Redaction([f"{space}very-secret-key{space}"])
    assert redaction.text("invalid header 'very-secret-key'") == f"invalid header '{MASK}'"
    assert redaction.text(f"[{space}very-secret-key{space}]") == f"[{MASK}]"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.telegram.org/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/sendMessage",
        "https://api.telegram.org/bot123456%3AABC-DEF1234ghIkl-zyx57W2v1u123ew11/sendMessage",
        "token 123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
    ],
)
def test_a_bot_token_is_known_by_its_form(url: str) -> None:
    """Also where no word ends before it, as in the URL of a call, and when it is nobody's secret here."""
    text = Redaction([]).text(url)
    assert "ghIkl" not in text
    assert "123456" not in text


def test_a_short_bot_token_is_masked_within_a_url() -> None:
    """A known secret is masked inside a word, too."""
    assert Redaction(["1:token"]).text("POST /bot1:token/sendMessage") == f"POST /bot{MASK}/sendMessage"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail to ada.lovelace@example.com now", f"mail to {MASK} now"),
        ("?to=ada%40example.com&x=1", f"?to={MASK}&x=1"),
        ("to +1 (500) 555-0006.", f"to {MASK}."),
        ("?To=%2B15005550006&x=1", f"?To={MASK}&x=1"),
        ("https://user:pw@host.example/x", f"https://{MASK}@host.example/x"),
        ("https://user@host.example/x", f"https://{MASK}@host.example/x"),
        ("postgresql://u:a/b#c?d@e@db.example:5432/x", f"postgresql://{MASK}@db.example:5432/x"),
        ("host=db password='a b' user=x", f"host=db password={MASK} user=x"),
        ("host=db PASSWORD=abc user=x", f"host=db PASSWORD={MASK} user=x"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZC1vZi1hbnlib2R5", f"Authorization: Basic {MASK}"),
        ("Authorization: Bearer re_0123456789abcdef", f"Authorization: Bearer {MASK}"),
        ("api-key: xkeysib-0123456789abcdef-x", f"api-key: {MASK}"),
        ("/Accounts/AC0123456789abcdef0123456789abcdef/Messages", f"/Accounts/{MASK}/Messages"),
    ],
)
def test_what_has_the_form_of_a_destination_or_a_key_is_masked(text: str, masked: str) -> None:
    """Nobody has to know it for that."""
    assert Redaction([]).text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-10T12:00:00+00:00", "phase a: 3 events created", "run 4f1c2d3e-0000-4000-8000-123456789012",
        "postgresql://db.example:5432/alerts", "see https://example.com/@someone", "12:30 and 1234567",
        "no connection to the database at 127.0.0.1:5432", "Basic facts about Bearer tokens",
    ],
)  # fmt: skip
def test_other_texts_stay(text: str) -> None:
    """Masking everything would be masking nothing."""
    assert Redaction(["very-secret-key"]).text(text) == text


# --- DATABASE_URL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "leak"),
    [
        ("postgresql://ada:S3cr3t-W0rd@h/db", "password S3cr3t-W0rd"),
        ("postgresql://ada:S3cr3t-W0rd@h/db", "password=S3cr3t-W0rd host=h"),
        ("postgresql://ada:S3cr3t%2FW0rd@h/db", "S3cr3t/W0rd"),
        ("postgresql://ada:S3cr3t%2FW0rd@h/db", "S3cr3t%2fW0rd"),
        ("postgresql://ada:S3cr3t/W0rd@h/db", "invalid literal for int() with base 10: 'S3cr3t'"),
        ("postgresql://ada:S3cr3t?W0rd@h/db", "bad query field: 'W0rd@h/db'"),
        ("postgresql://ada:S3cr3t#W0rd@h/db", "could not translate host name 'ada:S3cr3t'"),
        ("postgresql://ada:S3cr3t@W0rd@h/db", "could not translate host name 'W0rd@h'"),
        ("postgresql://ada:S3cr3t:W0rd@h/db", 'missing "S3cr3t:W0rd"'),
        ("postgresql://ada:S3cr3t%W0rd@h/db", 'invalid percent-encoded token: "S3cr3t%W0rd"'),
        ("postgresql://ada:S3cr3t W0rd@h/db", 'unexpected spaces found in "S3cr3t W0rd"'),
        ("postgresql://h/db?user=ada&password=S3cr3t-W0rd", "password S3cr3t-W0rd"),
        ("postgresql://h/db?sslpassword=S3cr3t-W0rd", "password S3cr3t-W0rd"),
        ("postgresql://ada:S3cr3t-W0rd@h/db", "connect to postgresql://ada:S3cr3t-W0rd@h/db?x"),
    ],
)
def test_the_databases_password_is_masked_in_whole_and_in_part(url: str, leak: str) -> None:
    """Also the pieces that a parser of a malformed URL takes for a host or a port (SPEC section 4)."""
    text = Redaction([url]).text(leak)
    assert MASK in text
    for part in ("S3cr3t", "W0rd"):
        assert part not in text


def test_a_password_that_is_a_word_is_masked_as_a_word() -> None:
    """Developers have such; the sentence around it stays readable."""
    redaction = Redaction(["postgresql://alerts:alerts@127.0.0.1/alerts"])
    assert redaction.text("run alerts-engine migrate, ALERTS_TIMEZONE") == "run alerts-engine migrate, ALERTS_TIMEZONE"
    assert redaction.text("password 'alerts', alerts@h") == f"password '{MASK}', {MASK}@h"


def test_secrets_of_less_than_four_characters_are_not_masked() -> None:
    """They would take every text apart, and are no secrets (replit.md, settings)."""
    assert Redaction(["abc", "", "  "]).text("abc at 12:00") == "abc at 12:00"
    assert Redaction(["abcd"]).text("xabcdx") == f"x{MASK}x"
    assert Redaction(["postgresql://u:p@h/db"]).text("up, p and u") == "up, p and u"


# --- log lines ------------------------------------------------------------------------------------------------------


def test_every_value_of_a_log_line_is_masked_at_any_depth() -> None:
    """Texts, lists, objects and their keys; numbers stay numbers."""

    class Odd:
        def __str__(self) -> str:
            return "very-secret-key"

    line = {
        "event": "a very-secret-key", "count": 3, "share": 0.5, "flag": True, "nothing": None,
        "many": ["very-secret-key", ("ada@example.com", 1)], "by": {"VERY-SECRET-KEY": {"x": "very-secret-key"}},
        "odd": Odd(), "bytes": b"very-secret-key",
    }  # fmt: skip
    assert Redaction(["very-secret-key"])(None, "info", line) == {
        "event": f"a {MASK}", "count": 3, "share": 0.5, "flag": True, "nothing": None,
        "many": [MASK, [MASK, 1]], "by": {MASK: {"x": MASK}}, "odd": MASK, "bytes": f"b'{MASK}'",
    }  # fmt: skip


# --- sentences of a server ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "without"),
    [
        ('column "ada@example.com" does not exist', 'column "***" does not exist'),
        ('column "7700112233" does not exist', 'column "***" does not exist'),
        ('column "Ada Lovelace" of relation "users" does not exist', 'column "***" does not exist'),
        ("Spalte »Ada Lovelace« existiert nicht", 'Spalte "***" existiert nicht'),
        ("la colonne « Ada Lovelace » n'existe pas", "la colonne \"***\" n'existe pas"),
        ('unterminated quoted identifier at or near ""Ada Lovelace FROM x"', 'unterminated quoted identifier at or near "***"'),  # noqa: E501
        ("unterminated quoted string at or near \"'Ada FROM x\"", 'unterminated quoted string at or near "***"'),
        ('syntax error at or near "\'Ada\'"', 'syntax error at or near "***"'),
        ("could not find 7700112233", "could not find ***"),
    ],
)  # fmt: skip
def test_values_that_a_server_quotes_are_masked(sentence: str, without: str) -> None:
    """In any language that the server speaks (A-5)."""
    assert without_values(sentence) == without


@pytest.mark.parametrize(
    "sentence",
    [
        'relation "nowhere" does not exist', 'column e.severity of "events" does not exist',
        'syntax error at or near "FROM"', 'syntax error at or near ","', 'syntax error at or near "$3"',
        "operator does not exist: text = integer", "function foo(text, integer) does not exist",
        'duplicate key value violates unique constraint "users_email_key"', "Relation »nowhere« existiert nicht",
        "la relation « nowhere » n'existe pas", 'missing FROM-clause entry for table "e"', "deadlock detected",
        "there is no parameter $3", "permission denied for table users",
    ],
)  # fmt: skip
def test_names_that_a_server_quotes_stay(sentence: str) -> None:
    """They say what to look at."""
    assert without_values(sentence) == sentence
