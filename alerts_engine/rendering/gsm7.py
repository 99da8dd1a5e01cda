"""The alphabet of SMS, 3GPP TS 23.038: what GSM-7 can say, and how many segments a text takes (SPEC M-2)."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from alerts_engine.types import SmsMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

GSM_7 = "GSM-7"
UCS_2 = "UCS-2"

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
_ALPHABET = _BASIC | _EXTENDED

_SINGLE, _PART = {GSM_7: 160, UCS_2: 70}, {GSM_7: 153, UCS_2: 67}

# What NFKD does not take apart, written as a reader would type it.
_SPELLINGS = str.maketrans(
    dict.fromkeys("`\u00b4\u2018\u2019\u201a\u201b\u2032\u02bc\u2039\u203a", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2022\u00b7\u2023", "-")
    | dict.fromkeys("\u2044\u2215\u00f7", "/")
    | {"\u00d7": "x", "±": "+/-", "≈": "~", "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "←": "<-"}
    | {"°": "deg", "¢": "c", "©": "(c)", "®": "(R)", "¦": "|", "\t": " "}
    | {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "\u0131": "i", "œ": "oe", "Œ": "OE", "ð": "d", "Ð": "D"}
    | {"þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T", "ẞ": "SS"}
)


def sms(text: str) -> SmsMessage:
    """``text`` as it will be sent: in GSM-7 if that can say it, else unchanged in UCS-2."""
    spelled = to_gsm7(text)
    if spelled is None:
        return SmsMessage(text, UCS_2, _segments(text, UCS_2))
    return SmsMessage(spelled, GSM_7, _segments(spelled, GSM_7))


def to_gsm7(text: str) -> str | None:
    """``text`` with typographic signs and accents spelled in GSM-7; ``None`` when that has no spelling for it."""
    if _ALPHABET.issuperset(text):
        return text
    spelled = "".join(c if c in _ALPHABET else _spell(c) for c in text)
    return spelled if _ALPHABET.issuperset(spelled) else None


def _spell(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character.translate(_SPELLINGS)).translate(_SPELLINGS)
    return "".join(part for part in parts if not unicodedata.combining(part))


def _segments(text: str, encoding: str) -> int:
    """How many messages the network carries; no escape pair or surrogate pair is split between two."""
    sizes = _sizes(text, encoding)
    if sum(sizes) <= _SINGLE[encoding]:
        return 1
    return _packed(sizes, _PART[encoding])


def _sizes(text: str, encoding: str) -> list[int]:
    """Septets of each character in GSM-7, UTF-16 units of each in UCS-2."""
    if encoding == GSM_7:
        return [2 if character in _EXTENDED else 1 for character in text]
    return [2 if character > "\uffff" else 1 for character in text]


def _packed(sizes: Iterable[int], room: int) -> int:
    count, free = 1, room
    for size in sizes:
        if size > free:
            count, free = count + 1, room
        free -= size
    return count
