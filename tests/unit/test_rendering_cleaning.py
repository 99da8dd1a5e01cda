"""Cleaning and cutting of texts from events (SPEC M-4)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.rendering.cleaning import clean, clean_lines, cut, utf16_length

ANY_TEXT = st.text(st.characters(), max_size=300)
FAMILY = "👩\u200d👩\u200d👧\u200d👦"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nBcc: x@example.com", "a Bcc: x@example.com"),
        ("a\x00b\x1b[31mc\x7f\x85d", "ab[31mc d"),
        ("  a \t\N{NO-BREAK SPACE} b\N{LINE SEPARATOR}c  ", "a b c"),
        ("pay\u202elatot\u202c \u2066x\u2069", "paylatot x"),
        ("ze\u200bro\ufeff wi\u2060dth\u00ad", "zero width"),
        ("\u200d \u200b \u2069", ""),
        ("lone \ud800 and \udfff", "lone \ufffd and \ufffd"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\u200d\u200d\u200db", "a\u200db"),
        ("❤\ufe0f\u200d🔥 " + FAMILY, "❤\ufe0f\u200d🔥 " + FAMILY),
        ("Z" + "\u0335" * 50 + "algo", "Z" + "\u0335" * 3 + "algo"),
        ("\u0338strike", "strike"),
        ("<b>&amp;*_`[x](y)", "<b>&amp;*_`[x](y)"),
    ],
)
def test_clean_keeps_what_can_be_seen_and_nothing_else(text: str, cleaned: str) -> None:
    """Controls, overrides, invisible characters and lone surrogates go; writing and emoji stay (SPEC M-4)."""
    assert clean(text, 200) == cleaned


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_clean_gives_one_bounded_encodable_line(text: str, limit: int) -> None:
    """Whatever comes in, a header could carry what comes out (SPEC M-4)."""
    cleaned = clean(text, limit)
    assert utf16_length(cleaned) <= limit
    assert cleaned == cleaned.strip()
    assert cleaned.splitlines() in ([], [cleaned])
    assert not {unicodedata.category(character) for character in cleaned} & {"Cc", "Cs"}
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned


@given(ANY_TEXT)
def test_clean_again_changes_nothing(text: str) -> None:
    """A cleaned text is clean (SPEC M-4)."""
    once = clean(text, 120)
    assert clean(once, 120) == once


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_clean_lines_are_clean_and_together_bounded(text: str, limit: int) -> None:
    """A body keeps its lines, but no blank ones, and its limit covers them all (SPEC M-4)."""
    lines = clean_lines(text, limit)
    assert utf16_length("\n".join(lines)) <= limit
    assert all(line and clean(line, limit) == line for line in lines)


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("Gazprom halts Nord Stream", 25, "Gazprom halts Nord Stream"),
        ("Gazprom halts Nord Stream", 24, "Gazprom halts Nord…"),
        ("Gazprom halts, Nord Stream", 16, "Gazprom halts…"),
        ("Unbreakablewordwithoutanyend", 10, "Unbreakab…"),
        ("A " + "b" * 30, 20, "A " + "b" * 17 + "…"),
        ("😀😀😀😀", 6, "😀😀…"),
        ("ab" + FAMILY, 9, "ab…"),
        ("x🇳🇱🇩🇪🇫🇷", 8, "x🇳🇱…"),
        ("noe\u0301l", 4, "no…"),
        ("👍🏽👍🏽", 6, "👍🏽…"),
        ("abc", 1, "…"),
    ],
)
def test_cut_ends_at_a_word_and_never_inside_a_grapheme(text: str, limit: int, short: str) -> None:
    """Lengths are UTF-16 units; words, flags, families and accents stay whole (SPEC M-2)."""
    assert cut(text, limit) == short


def test_a_hundred_kilobytes_of_anything_are_bounded() -> None:
    """Long hostile texts cost no more than their limit allows (SPEC M-4)."""
    for unit in ("a", "a ", "\u200d", "👩\u200d", "\u0301", "\ud800", "🇳", "\n"):
        assert utf16_length(clean(unit * 100_000, 140)) <= 140
        assert utf16_length("\n".join(clean_lines(unit * 100_000, 140))) <= 140
