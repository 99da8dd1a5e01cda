"""Telegram's ``parse_mode=HTML``: which texts it takes, and what remains when the markup is taken away.

Follows the Bot API's "Formatting options" and the parser that Telegram publishes (tdlib), with its error
texts. Stricter on purpose in one point: Telegram shows an entity that it does not know (``&nbsp;``) as it
stands, although its documentation forbids it; here it is an error, for no message is meant to look like that.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

TAGS = frozenset(
    "a b blockquote code del em i ins pre s span strike strong tg-emoji tg-spoiler u".split()  # noqa: SIM905 - a list of words reads best
)

_SPACE = " \t\r\n\0\v"
_TOKEN = re.compile(r"[^<&]+|<|&")
_TAG_NAME = re.compile(rf"[^{_SPACE}>]*")
_SPACES = re.compile(rf"[{_SPACE}]*")
_ATTRIBUTE_NAME = re.compile(rf"[^{_SPACE}=>]*")
_BARE_VALUE = re.compile(r"[A-Za-z0-9.-]*")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_ENTITY = re.compile(r"&(?:#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))|(lt|gt|amp|quot)(?![A-Za-z]));?")
_LOOKS_LIKE_ENTITY = re.compile(r"&(?:#|[A-Za-z][A-Za-z0-9]*;)")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class MarkupError(ValueError):
    """The text's markup is wrong; the message is Telegram's."""


@dataclass(slots=True)
class _Cursor:
    """Where in the markup the reader stands."""

    markup: str
    at: int = 0

    @property
    def char(self) -> str:
        """The character under the cursor; empty at the end."""
        return self.markup[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        """What matches here, ``""`` when nothing does; moves past it."""
        found = pattern.match(self.markup, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found.group()

    def place(self, at: int) -> str:
        """The place as Telegram names it in its errors."""
        return f"at byte offset {len(self.markup[:at].encode())}"


def plain_text(markup: str) -> str:
    """The text that remains after parsing; raises ``MarkupError`` as Telegram would."""
    cursor = _Cursor(markup)
    text: list[str] = []
    open_tags: list[str] = []
    while cursor.at < len(markup):
        match cursor.char:
            case "<" if markup.startswith("</", cursor.at):
                _close_tag(cursor, open_tags)
            case "<":
                open_tags.append(_open_tag(cursor))
            case "&":
                text.append(_entity(cursor))
            case _:
                text.append(cursor.take(_TOKEN))
    if open_tags:
        raise MarkupError(f'Can\'t find end tag corresponding to start tag "{open_tags[-1]}"')
    return "".join(text)


def length(text: str) -> int:
    """How long Telegram may count a text: in UTF-16 code units, the unit of all its offsets and lengths.

    No count of characters is larger, so that what fits by this one fits by any.
    """
    return len(text.encode("utf-16-le")) // 2


def _close_tag(cursor: _Cursor, open_tags: list[str]) -> None:
    start = cursor.at
    if not open_tags:
        raise MarkupError(f"Unexpected end tag {cursor.place(start)}")
    cursor.at += len("</")
    found = cursor.take(_TAG_NAME).lower()
    cursor.take(_SPACES)
    if cursor.char != ">":
        raise MarkupError(f"Unclosed end tag {cursor.place(start)}")
    cursor.at += 1
    expected = open_tags.pop()
    # Telegram takes the nameless </> as the end of whatever is open.
    if found not in ("", expected):
        place = cursor.place(start)
        raise MarkupError(f'Unmatched end tag {place}, expected "</{expected}>", found "</{found}>"')


def _open_tag(cursor: _Cursor) -> str:
    start = cursor.at
    cursor.at += 1
    tag = cursor.take(_TAG_NAME).lower()
    if not cursor.char:
        raise MarkupError(f"Unclosed start tag {cursor.place(start)}")
    if tag not in TAGS:
        raise MarkupError(f'Unsupported start tag "{tag}" {cursor.place(start)}')
    attributes = _attributes(cursor, tag, start)
    if tag == "span" and attributes.get("class") != "tg-spoiler":
        raise MarkupError(f'Tag "span" must have class "tg-spoiler" {cursor.place(start)}')
    if tag == "tg-emoji" and not re.fullmatch(r"[0-9]{1,19}", attributes.get("emoji-id", "")):
        raise MarkupError("Invalid custom emoji identifier specified")
    return tag


def _attributes(cursor: _Cursor, tag: str, tag_start: int) -> dict[str, str]:
    """Read up to and with the tag's ``>``. Attributes that Telegram does not know do no harm."""
    attributes: dict[str, str] = {}
    while True:
        cursor.take(_SPACES)
        if cursor.char == ">":
            cursor.at += 1
            return attributes
        name = cursor.take(_ATTRIBUTE_NAME).lower()
        if not name:
            problem = "Empty attribute name in the tag" if cursor.char else "Unclosed start tag"
            raise MarkupError(f'{problem} "{tag}" {cursor.place(tag_start)}')
        cursor.take(_SPACES)
        if cursor.char == "=":
            cursor.at += 1
            attributes[name] = _attribute_value(cursor, tag, tag_start)
        else:
            attributes[name] = ""


def _attribute_value(cursor: _Cursor, tag: str, tag_start: int) -> str:
    cursor.take(_SPACES)
    if not cursor.char:
        raise MarkupError(f'Unclosed start tag "{tag}" {cursor.place(tag_start)}')
    if cursor.char in "\"'":
        quoted = cursor.take(_QUOTED)
        if not quoted:
            raise MarkupError(f"Unclosed start tag {cursor.place(tag_start)}")
        return html.unescape(quoted[1:-1])
    start = cursor.at
    value = cursor.take(_BARE_VALUE)
    if cursor.char not in (*_SPACE, ">"):
        raise MarkupError(f"Unexpected end of name token {cursor.place(start)}")
    return value


def _entity(cursor: _Cursor) -> str:
    found = _ENTITY.match(cursor.markup, cursor.at)
    if found is None:
        return _ampersand(cursor)
    hexadecimal, decimal, name = found.groups()
    char = _NAMED[name] if name else _character(int(hexadecimal or decimal, 16 if hexadecimal else 10))
    if not char:
        return _ampersand(cursor)
    cursor.at = found.end()
    return char


def _character(code_point: int) -> str:
    known = 0 < code_point <= _LAST_CODE_POINT and code_point not in _SURROGATES
    return chr(code_point) if known else ""


def _ampersand(cursor: _Cursor) -> str:
    if _LOOKS_LIKE_ENTITY.match(cursor.markup, cursor.at):
        raise MarkupError(f"Unsupported HTML entity {cursor.place(cursor.at)}")
    cursor.at += 1
    return "&"
