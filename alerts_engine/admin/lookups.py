"""The part of the admin API that looks for one thing: a delivery, a user, an event, and why (SPEC P-4a)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from alerts_engine.admin.exchange import Answer, HttpError, json_answer
from alerts_engine.admin.parameters import MOST_ID, Parameters, refuse
from alerts_engine.operations.search import event_way, events, search, user, user_deliveries

if TYPE_CHECKING:
    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.exchange import Request
    from alerts_engine.operations.explain import Explanation

Operation = Callable[["EngineSource", "Request"], Awaitable[Answer]]
MOST_LISTED = 100


async def delivery(source: EngineSource, request: Request) -> Answer:
    """A delivery's life."""
    number = number_in_path(request)
    return json_answer(await (await source.open()).delivery_life(number))


async def digest(source: EngineSource, request: Request) -> Answer:
    """A digest's life."""
    number = number_in_path(request)
    return json_answer(await (await source.open()).digest_life(number))


async def explanations(source: EngineSource, request: Request) -> Answer:
    """Why a user, by id or address, does or does not get an event, or the newest ones.

    An address belongs into a POST: URLs are logged by everything on the way.
    """
    user_id, found = await explained(source, request)
    return json_answer({"user_id": user_id, "explanations": found})


async def explained(source: EngineSource, request: Request) -> tuple[int, list[Explanation]]:
    """The same, before it is JSON."""
    parameters = Parameters(request)
    who = parameters.text("user")
    event_id = parameters.number("event")
    parameters.done()
    if who is None:
        refuse("user", "is missing")
    engine = await source.open()
    user_id = await engine.user_named(who)
    return user_id, await engine.explain(user_id, event_id)


async def list_events(source: EngineSource, request: Request) -> Answer:
    """Events, the newest first; ``q`` are words of theirs, ``before`` is the last id of the page before."""
    parameters = Parameters(request)
    words = parameters.text("q")
    before = parameters.number("before")
    limit = parameters.number("limit", most=MOST_LISTED) or 20
    parameters.done()
    engine = await source.open()
    found = await events(engine.database, words=words, before=before, limit=limit + 1)
    return json_answer({"events": found[:limit], "before": next_before(found, limit)})


async def event(source: EngineSource, request: Request) -> Answer:
    """An event, and what became of its deliveries."""
    number = number_in_path(request)
    return json_answer(await event_way((await source.open()).database, number))


async def deliveries_of_user(source: EngineSource, request: Request) -> Answer:
    """A user's deliveries, the newest first."""
    parameters = Parameters(request)
    before = parameters.number("before")
    limit = parameters.number("limit", most=MOST_LISTED) or 20
    number = number_in_path(request, parameters)
    engine = await source.open()
    known = await user(engine.database, number)
    found = await user_deliveries(engine.database, number, before=before, limit=limit + 1)
    return json_answer({"user": known, "deliveries": found[:limit], "before": next_before(found, limit)})


async def find(source: EngineSource, request: Request) -> Answer:
    """Whatever ``q`` may mean. A POST, although it changes nothing: an address does not belong into a URL."""
    text = searched_text(request)
    return json_answer(await search((await source.open()).database, text))


def searched_text(request: Request) -> str:
    """What is looked for."""
    parameters = Parameters(request)
    text = parameters.text("q")
    parameters.done()
    if text is None:
        refuse("q", "is missing")
    return text


def number_in_path(request: Request, parameters: Parameters | None = None) -> int:
    """The id in the path; something else is no id that there could be."""
    (parameters or Parameters(request)).done()
    text = request.path_values["id"]
    if not (text.isascii() and text.isdecimal() and len(text) < len(str(MOST_ID))):
        raise HttpError(HTTPStatus.NOT_FOUND, "there is nothing with this id: it must be a whole number")
    return int(text)


def next_before(found: list[Any], limit: int) -> int | None:
    """The cursor of the next page; ``None`` on the last one."""
    return found[limit - 1].id if len(found) > limit else None
