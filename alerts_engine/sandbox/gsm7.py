"""How many segments an SMS takes (3GPP TS 23.038 and 23.040), apart from the engine's own count."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
_GSM_LIMITS = (160, 153)
_UCS_LIMITS = (70, 67)
_BMP_END = 0xFFFF


def segments(body: str) -> int:
    """How many SMS are billed for the body: 160 or 153 septets each in GSM-7, else 70 or 67 UTF-16 units."""
    if all(char in _BASIC or char in _EXTENDED for char in body):
        return _count((2 if char in _EXTENDED else 1 for char in body), *_GSM_LIMITS)
    return _count((2 if ord(char) > _BMP_END else 1 for char in body), *_UCS_LIMITS)


def _count(widths: Iterable[int], alone: int, chained: int) -> int:
    """Fill segments one by one: neither an escape sequence nor a surrogate pair is cut in two."""
    total, used, filled = 0, 0, 1
    for width in widths:
        total += width
        if used + width > chained:
            filled, used = filled + 1, 0
        used += width
    return 1 if total <= alone else filled
