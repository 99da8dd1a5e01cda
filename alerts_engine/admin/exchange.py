"""HTTP without a framework: what a handler gets, and what it answers (SPEC P-3).

Nothing here knows aiohttp or FastAPI; the bindings translate to and from them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from alerts_engine.reports import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JSON, HTML, FORM = "application/json", "text/html; charset=utf-8", "application/x-www-form-urlencoded"
_MOST_FIELDS = 50
_NOTHING: Mapping[str, Any] = MappingProxyType({})

Values = dict[str, tuple[str, ...]]
"""Each name with all the values that were given for it, in order."""


class HttpError(Exception):
    """Ends a handler with an error answer; ``message`` is shown to the caller."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] = _NOTHING) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as far as a handler may look at it."""

    method: str
    path: str
    """What stands behind the site's prefix, decoded: ``/runs``."""
    url_path: str = ""
    """The whole path, as the client asked for it."""
    query_string: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By lower-case name; what was sent several times is joined by commas."""
    remote: str = field(default="", repr=False)
    """The address that the connection came from; of a proxy, if there is one."""
    local: str = field(default="", repr=False)
    """The address at which it arrived."""
    path_values: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def query(self) -> Values:
        """The values behind the ``?``. Raises :class:`HttpError` for one that cannot be read."""
        return fields_in(self.query_string)

    @property
    def form(self) -> Values:
        """The values in the body, a form. Raises :class:`HttpError` for one that cannot be read."""
        kind = self.headers.get("content-type", FORM).partition(";")[0].strip().lower()
        if self.body and kind != FORM:
            raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {FORM}")
        try:
            return fields_in(self.body.decode("utf-8"))
        except UnicodeDecodeError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "the body must be UTF-8") from None


def fields_in(text: str) -> Values:
    """``a=1&b=2`` as values by name. Raises :class:`HttpError`."""
    values: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the parameters must be UTF-8") from None
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"there are more than {_MOST_FIELDS} parameters") from None
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: tuple(given) for name, given in values.items()}


def header_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name. One that came twice is no longer what either of them was."""
    values: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        values[key] = f"{values[key]}, {value}" if key in values else value
    return values


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. ``headers`` come before those that every answer has."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def having(self, headers: Mapping[str, str]) -> Answer:
        """The same with more headers; those that it has already stay."""
        return replace(self, headers={**headers, **self.headers})


def json_answer(value: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] = _NOTHING) -> Answer:
    """``value`` as :func:`to_json` has it: dataclasses, times and enums are welcome."""
    text = json.dumps(to_json(value), ensure_ascii=False, separators=(",", ":"))
    return Answer(status, text.encode(errors="backslashreplace"), JSON, headers)


def html_answer(text: str, status: int = HTTPStatus.OK, headers: Mapping[str, str] = _NOTHING) -> Answer:
    """A page, or a piece of one."""
    return Answer(status, text.encode(errors="backslashreplace"), HTML, headers)


def error_answer(status: int, message: str, headers: Mapping[str, str] = _NOTHING) -> Answer:
    """``{"error": message}``."""
    return json_answer({"error": message}, status, headers)
