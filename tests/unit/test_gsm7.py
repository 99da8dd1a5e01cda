"""SMS alphabet and segments (SPEC M-2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.rendering.gsm7 import sms, to_gsm7


@pytest.mark.parametrize(
    ("text", "encoding", "segments"),
    [
        ("", "GSM-7", 1),
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("a" * 306, "GSM-7", 2),
        ("a" * 307, "GSM-7", 3),
        ("€" * 80, "GSM-7", 1),
        ("€" * 81, "GSM-7", 2),
        ("€" * 153, "GSM-7", 3),
        ("a" * 152 + "€" + "a" * 20, "GSM-7", 2),
        ("я" * 70, "UCS-2", 1),
        ("я" * 71, "UCS-2", 2),
        ("я" * 134, "UCS-2", 2),
        ("я" * 135, "UCS-2", 3),
        ("😀" * 35, "UCS-2", 1),
        ("😀" * 66, "UCS-2", 2),
        ("😀" * 67, "UCS-2", 3),
    ],
)
def test_segments_are_counted_as_networks_count_them(text: str, encoding: str, segments: int) -> None:
    """160/153 septets, escape pairs are two and stay together; 70/67 UTF-16 units (SPEC M-2)."""
    message = sms(text)
    assert (message.encoding, message.segments) == (encoding, segments)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Iraq\N{EN DASH}Türkiye", "Iraq-Türkiye"),
        ("Libya\N{RIGHT SINGLE QUOTATION MARK}s “halt”…", 'Libya\'s "halt"...'),
        ("20\N{NO-BREAK SPACE}% → 30\N{NARROW NO-BREAK SPACE}%", "20 % -> 30 %"),
        ("Łódź, Orbán, Işık", "Lodz, Orban, Isik"),
        ("CO₂ in m³", "CO2 in m3"),
        ("`code`", "'code'"),
        ("{€}", "{€}"),
    ],
)
def test_typographic_signs_and_accents_are_spelled_in_gsm7(text: str, spelled: str) -> None:
    """A text stays in the cheap alphabet where that can say it (SPEC M-2)."""
    assert to_gsm7(text) == spelled


@pytest.mark.parametrize("text", ["Газпром", "东京", "🔥 fire", "Iraq \N{EN DASH} Ирак"])
def test_a_text_that_gsm7_cannot_say_is_kept_as_it_is(text: str) -> None:
    """Other scripts go out in UCS-2, with their own typography (SPEC M-2)."""
    message = sms(text)
    assert (message.body, message.encoding) == (text, "UCS-2")


@given(st.text(alphabet="aZ9 €[]{}~^\\|", max_size=900))
def test_segments_agree_with_a_packing_written_out(text: str) -> None:
    """The count is that of a phone which fills segments one after the other (SPEC M-2)."""
    units = [2 if character in "€[]{}~^\\|" else 1 for character in text]
    segments: list[int] = [0]
    for unit in units:
        if segments[-1] + unit > 153:
            segments.append(0)
        segments[-1] += unit
    assert sms(text).segments == (1 if sum(units) <= 160 else len(segments))
