"""What a terminal may be given (SPEC M-4, section 3)."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.plain_text import visible, visible_in_json

BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]
JOINERS = {"\u200c", "\u200d"}


def obeyed(character: str) -> bool:
    """Whether a terminal would do something at it, or break a line of ours."""
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or ord(character) in BIDI


def test_no_character_that_a_terminal_obeys_gets_through():
    """Every control, C1, bidi, separator and surrogate of Unicode, but for the line feed."""
    every = (chr(code) for code in range(sys.maxunicode + 1))
    let_through = {one for one in every if obeyed(one) and any(map(obeyed, visible(one)))}
    assert let_through == {"\n"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b2J", r"\x9b2J"),
        ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("one\r\ntwo\rthree", "one\ntwo\\x0dthree"),
        ("a\tb", "a    b"),
        ("\U000e0041", r"\U000e0041"),
        ("\udc80", r"\udc80"),
    ],
)
def test_what_is_hidden_is_shown_by_its_escape(text: str, shown: str):
    """So an operator sees that it is there, and two texts that differ look different."""
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["Größe – 20 %", "خانه‌ها", "👩‍🚒 🇺🇦", "天然气", "a b", "", "two\nlines"])
def test_people_read_their_own_script(text: str):
    """Letters, marks, joiners and emoji of any script are left alone."""
    assert visible(text) == text


@given(st.text())
def test_showing_twice_is_showing_once(text: str):
    """It leaves nothing that it would change."""
    assert visible(visible(text)) == visible(text)


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_json_says_the_same_to_a_program_and_nothing_to_a_terminal(text: str):
    """Exact for whoever reads it, harmless for whoever looks at it."""
    written = visible_in_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(written)["text"] == json.loads(json.dumps(text))
    assert not any(map(obeyed, written))
