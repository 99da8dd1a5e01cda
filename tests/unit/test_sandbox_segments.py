"""The sandbox's count of SMS segments."""

import pytest

from alerts_engine.sandbox.gsm7 import segments

COUNTS = {
    "one letter": ("a", 1),
    "full GSM-7 message": ("a" * 160, 1),
    "two GSM-7 parts": ("a" * 161, 2),
    "two full GSM-7 parts": ("a" * 306, 2),
    "three GSM-7 parts": ("a" * 307, 3),
    "extended characters count twice": ("€" * 80, 1),
    "extended characters beyond one message": ("€" * 81, 2),
    "an escape is not cut in two": ("a" * 152 + "€" + "a" * 152, 3),
    "GSM-7 beyond ASCII": ("Δé£" * 53, 1),
    "full UCS-2 message": ("ł" * 70, 1),
    "two UCS-2 parts": ("ł" * 71, 2),
    "two full UCS-2 parts": ("ł" * 134, 2),
    "emoji count twice": ("🔴" * 35, 1),
    "a surrogate pair is not cut in two": ("🔴" * 67, 3),
    "backtick is not GSM-7": ("`" * 71, 2),
}


@pytest.mark.parametrize(("body", "count"), COUNTS.values(), ids=COUNTS)
def test_segments(body: str, count: int) -> None:
    """160 or 153 septets, 70 or 67 UTF-16 units (M-2)."""
    assert segments(body) == count
