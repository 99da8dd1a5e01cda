"""Text from events is data (SPEC M-4): here it loses what could deceive a reader or break a header, and gets its limit.

Lengths are UTF-16 code units, the safe reading of every provider's limit: Telegram and SMS count so, and no text
has more characters than units.
"""

from __future__ import annotations

import re
import unicodedata

ELLIPSIS = "…"
_LOOSE_ENDS = " \n,;:-\N{EN DASH}\N{EM DASH}"

_JOINERS = "\u200c\u200d"
_EMOJI_VARIATIONS = "\ufe0e\ufe0f"
_GLUE = _JOINERS + _EMOJI_VARIATIONS
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"

# Controls that are not white space, and Unicode's default-ignorable code points (bidi overrides, zero-width
# spaces, tags ...) but for the joiners and variation selectors that Persian, Indic scripts and emoji need.
_UNWANTED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_STRAY_GLUE = re.compile(rf"(?<!\S)[{_GLUE}{_MARKS}]+|[{_JOINERS}]+(?!\S)")
_GLUE_RUNS = re.compile(rf"(?=[{_GLUE}])([{_EMOJI_VARIATIONS}]?[{_JOINERS}]?)[{_GLUE}]*")
_MARK_TOWERS = re.compile(rf"([{_MARKS}]{{3}})[{_MARKS}]+")

_LONGEST_GRAPHEME = 32
_MOST_LINES = 40
_REGIONAL_INDICATORS = ("\U0001f1e6", "\U0001f1ff")
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")


def clean(text: str, limit: int) -> str:
    """One line of visible text of at most ``limit`` UTF-16 units, safe in a subject or a header (SPEC M-4)."""
    return cut(_one_line(text), limit)


def clean_lines(text: str, limit: int) -> tuple[str, ...]:
    """The non-blank lines of ``text``, each cleaned, together at most ``limit`` UTF-16 units.

    Lines that would make a very long column are run together.
    """
    lines = [line for line in map(_one_line, text.splitlines()) if line]
    column = [*lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])]
    kept = cut("\n".join(column).rstrip("\n"), limit)
    return tuple(kept.split("\n")) if kept else ()


def utf16_length(text: str) -> int:
    """How many UTF-16 code units ``text`` takes."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, limit: int, mark: str = ELLIPSIS) -> str:
    """``text``, or its beginning and ``mark`` within ``limit`` UTF-16 units.

    It ends at a word where one ends near, and never inside a surrogate pair or a grapheme.
    """
    if utf16_length(text) <= limit:
        return text
    end = _whole_graphemes(text, _index_at(text, max(limit - len(mark), 0)))
    return text[: _word_end(text, end)].rstrip(_LOOSE_ENDS) + mark[:limit]


def _one_line(text: str) -> str:
    return " ".join(_visible(text).split())


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = _UNWANTED.sub("", _SURROGATES.sub("\ufffd", text))
    if text.isascii():
        return text
    text = _MARK_TOWERS.sub(r"\1", _GLUE_RUNS.sub(r"\1", text))
    return _STRAY_GLUE.sub("", text)


def _index_at(text: str, units: int) -> int:
    """How many whole characters fit into ``units``."""
    if text.isascii():
        return units
    return len(text.encode("utf-16-le", "surrogatepass")[: 2 * units].decode("utf-16-le", "ignore"))


def _word_end(text: str, end: int) -> int:
    """Where the last whole word before ``end`` ends; ``end`` itself when a third of the text would go with the word."""
    near = end - end // 3
    space = max(text.rfind(" ", near, end + 1), text.rfind("\n", near, end + 1))
    return end if space < 0 else space


def _whole_graphemes(text: str, index: int) -> int:
    for place in range(index, max(index - _LONGEST_GRAPHEME, 0), -1):
        if not _joined(text, place):
            return place
    return index


def _joined(text: str, place: int) -> bool:
    """Whether the characters on both sides of ``place`` are one grapheme to the reader."""
    before, after = text[place - 1], text[place]
    if _in(before, _REGIONAL_INDICATORS) and _in(after, _REGIONAL_INDICATORS):
        return _flag_letters_before(text, place) % 2 == 1
    return before == "\u200d" or after in _GLUE or _in(after, _SKIN_TONES) or unicodedata.category(after)[0] == "M"


def _flag_letters_before(text: str, place: int) -> int:
    count = 0
    while count < place and _in(text[place - 1 - count], _REGIONAL_INDICATORS):
        count += 1
    return count


def _in(character: str, bounds: tuple[str, str]) -> bool:
    return bounds[0] <= character <= bounds[1]
