"""Text that a terminal may show: it says what the text says, and does nothing to the screen.

An event's headline is somebody else's text. Printed as it is, an escape sequence in it could colour, hide or
overwrite what an operator reads, or reach the clipboard; a bidi override could turn a line around.
"""

from __future__ import annotations

import re

# Controls (C0 but for the line feed, DEL, C1), soft hyphen, bidi controls, invisible characters, line and paragraph
# separators, annotation marks, lone surrogates (no encoding has them), tag characters. The joiners stay: Persian,
# Indic scripts and emoji are written with them.
_HIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_TAB = "    "


def visible(text: str) -> str:
    r"""``text`` with every character that a terminal would obey, or not show, as its escape, such as ``\x1b``.

    Line feeds stay, and a tab is four spaces.
    """
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(_escape, text.replace("\r\n", "\n").replace("\t", _TAB))


def visible_in_json(text: str) -> str:
    """A JSON text with the same characters written as JSON escapes: what a program reads is exact."""
    return _HIDDEN.sub(_json_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    for longest, form in ((0xFF, "\\x{:02x}"), (0xFFFF, "\\u{:04x}")):
        if code <= longest:
            return form.format(code)
    return f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2))
