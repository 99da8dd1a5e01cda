"""A request's parameters, each with its type; what cannot be used is a 400 that says which (SPEC P-2)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn, TypeVar
from uuid import UUID

from alerts_engine.admin.exchange import HttpError

if TYPE_CHECKING:
    from enum import StrEnum

    from alerts_engine.admin.exchange import Request

MOST_ID = 2**63 - 1
"""No id in PostgreSQL is larger."""
_LONGEST_TEXT = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_YES, _NO = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off", ""})

Choice = TypeVar("Choice", bound="StrEnum")


class Parameters:
    """Those of the URL, and of a POST's form. Each is taken by its name; :meth:`done` refuses what nobody took."""

    def __init__(self, request: Request) -> None:
        self._given = dict(request.query)
        if request.method == "POST":
            for name, values in request.form.items():
                self._given[name] = self._given.get(name, ()) + values

    def done(self) -> None:
        """A name that nobody knows may be a misspelt one, and its default would be taken unseen."""
        for name in sorted(self._given):
            refuse(name, "is no parameter of this")

    def text(self, name: str, *, longest: int = _LONGEST_TEXT) -> str | None:
        """A text; an empty one is none."""
        values = self._given.pop(name, ())
        if len(values) > 1:
            refuse(name, "is given more than once")
        text = values[0] if values else ""
        if len(text) > longest:
            refuse(name, f"is longer than {longest} characters")
        if _CONTROL.search(text):
            refuse(name, "has control characters")
        return text or None

    def number(self, name: str, *, least: int = 1, most: int = MOST_ID) -> int | None:
        """A whole number, such as an id."""
        text = self.text(name)
        if text is None:
            return None
        if not _is_number(text) or not least <= int(text) <= most:
            refuse(name, f"must be a whole number {_between(least, most)}")
        return int(text)

    def hours(self, name: str, *, most: float) -> float | None:
        """Hours, also parts of one."""
        text = self.text(name)
        if text is None:
            return None
        try:
            hours = float(text)
        except ValueError:
            hours = -1.0
        if not 0 < hours <= most:  # NaN is neither
            refuse(name, f"must be a number of hours above 0 and up to {most:g}")
        return hours

    def pair(self, name: str) -> str | None:
        """Two numbers with a dot between them: the cursor of a list that has two parts."""
        text = self.text(name)
        if text is not None:
            first, dot, second = text.partition(".")
            if not dot or not all(_is_number(part) for part in (first, second)):
                refuse(name, "must be what the page before gave")
        return text

    def uuid(self, name: str) -> UUID | None:
        """A run's whole id."""
        text = self.text(name)
        try:
            return None if text is None else UUID(text)
        except ValueError:
            refuse(name, "must be the whole id of a run")

    def flag(self, name: str) -> bool:
        """``true`` or ``false``."""
        text = (self.text(name) or "").lower()
        if text not in _YES | _NO:
            refuse(name, "must be true or false")
        return text in _YES

    def choice(self, name: str, kind: type[Choice]) -> Choice | None:
        """One of the words of an enum."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return kind(text)
        except ValueError:
            refuse(name, f"must be one of {', '.join(kind)}")

    def word(self, name: str, words: tuple[str, ...]) -> str | None:
        """One of ``words``."""
        text = self.text(name)
        if text is not None and text not in words:
            refuse(name, f"must be one of {', '.join(words)}")
        return text


def refuse(name: str, why: str) -> NoReturn:
    """A 400 that says which parameter it is; never its value."""
    shown = name if name.isprintable() else ascii(name)
    raise HttpError(HTTPStatus.BAD_REQUEST, f"parameter {shown[:40]}: {why}")


def required(name: str, value: Choice | None) -> Choice:
    """``value``, which must have been given."""
    if value is None:
        refuse(name, "is missing")
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_ID)) and int(text) <= MOST_ID


def _between(least: int, most: int) -> str:
    return f"of at least {least}" if most == MOST_ID else f"from {least} to {most}"
