"""The readers' routes: a GET shows, a POST chooses, and whoever has no valid link learns nothing (SPEC U-1 … U-3)."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from http import HTTPStatus
from typing import TYPE_CHECKING

from alerts_engine.admin.exchange import Answer, HttpError, Request, html_answer
from alerts_engine.admin.site import Route, Site
from alerts_engine.database import database_now
from alerts_engine.operations.preferences import Choice, Choices, Way, choose, read_choices
from alerts_engine.preferences.page import choices_page, headers, note_page, said_of
from alerts_engine.preferences.patience import Patience
from alerts_engine.reader_links import PATH
from alerts_engine.settings.links import reader_links

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.reader_links import ReaderToken

_WRONG_LINK = "This link does not work (any more). Take the one in your newest email."
_TOO_MANY = "Too many requests: try again in a minute."
_ONE_CLICK = ("List-Unsubscribe", "One-Click")
_LARGEST_BODY = 16 * 1024


def preferences_site(source: EngineSource, prefix: str = PATH) -> Site:
    """The page of every reader under ``prefix``; 404 everywhere unless both settings are there."""
    pages = _Pages(source)
    routes = (Route("GET", "/{token}", pages.show, open=True), Route("POST", "/{token}", pages.choose, open=True))
    return Site("preferences", prefix, routes, error=_error_page, largest_body=_LARGEST_BODY)


class _Pages:
    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._of_strangers = Patience(per_minute=20)
        self._of_readers = Patience(per_minute=60)

    async def show(self, request: Request) -> Answer:
        reader = self._reader(request)
        engine = await self._source.open()
        return _page(reader, await read_choices(engine.database, reader))

    async def choose(self, request: Request) -> Answer:
        reader = self._reader(request)
        choice, way = _choice_in(request)
        if choice.is_about_type and not reader.scope:
            raise HttpError(HTTPStatus.BAD_REQUEST, "This link is about no type of alerts.")
        engine = await self._source.open()
        now = await database_now(engine.database)
        return _page(reader, await choose(engine.database, reader, choice, way, now), said_of(choice, reader))

    def _reader(self, request: Request) -> ReaderToken:
        """Who the link is of. A wrong one costs no look at the database, and is told nothing but that it is wrong."""
        links = reader_links(self._source.settings)
        reader = links.read(request.path_values["token"]) if links is not None else None
        if reader is None:
            if not self._of_strangers.has(request.remote):
                raise HttpError(HTTPStatus.TOO_MANY_REQUESTS, _TOO_MANY, {"Retry-After": "60"})
            raise HttpError(HTTPStatus.NOT_FOUND, _WRONG_LINK)
        if not self._of_readers.has(str(reader.user_id)):
            raise HttpError(HTTPStatus.TOO_MANY_REQUESTS, _TOO_MANY, {"Retry-After": "60"})
        return reader


def _page(reader: ReaderToken, choices: Choices | None, said: str = "") -> Answer:
    if choices is None:  # the user is gone, and a stranger must not learn that there was one
        raise HttpError(HTTPStatus.NOT_FOUND, _WRONG_LINK)
    return html_answer(choices_page(reader, choices, said), headers=headers())


def _error_page(status: int, message: str, more: Mapping[str, str]) -> Answer:
    return html_answer(note_page(message), status, {**headers(), **more})


def _choice_in(request: Request) -> tuple[Choice, Way]:
    """What a button of the page, or of a mail program (RFC 8058: as either kind of form), asks for."""
    fields = _fields(request)
    if fields.get(_ONE_CLICK[0]) == _ONE_CLICK[1]:
        return Choice.STOP_CHANNEL, Way.ONE_CLICK
    try:
        return Choice(fields.get("choice", "")), Way.PAGE
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "Nothing was chosen.") from None


def _fields(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        return {name: values[0] for name, values in request.form.items()}
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + request.body)
    fields = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields[name] = content.decode(errors="replace").strip()
    return fields
