"""The admin API: what the command line asks, over HTTP; the same operations, the same JSON (SPEC section 11)."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

from alerts_engine.admin.exchange import JSON, Answer, HttpError, json_answer
from alerts_engine.admin.parameters import Parameters, refuse
from alerts_engine.admin.site import Route
from alerts_engine.database import database_now
from alerts_engine.operations.explain import explain
from alerts_engine.operations.runs import LAST, RunName, named_run, newest_runs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.exchange import Request

    Operation = Callable[[EngineSource, Request], Awaitable[Answer]]

MOST_RUNS = 500


async def runs(source: EngineSource, request: Request) -> Answer:
    """The run history, the newest first."""
    parameters = Parameters(request)
    limit = parameters.number("limit", most=MOST_RUNS) or 50
    parameters.done()
    engine = await source.open()
    return json_answer({"runs": await newest_runs(engine.database, limit)})


async def run(source: EngineSource, request: Request) -> Answer:
    """One run and its items; by its id, the first characters of it, or ``last``."""
    Parameters(request).done()
    try:
        name = RunName.of(request.path_values["run_id"])
    except ValueError:
        raise HttpError(HTTPStatus.NOT_FOUND, f"there is no such run: give its id, or {LAST}") from None
    engine = await source.open()
    return json_answer(await named_run(engine.database, name))


async def explanations(source: EngineSource, request: Request) -> Answer:
    """Why a user does or does not get an event, or the newest ones."""
    parameters = Parameters(request)
    user = parameters.number("user")
    event = parameters.number("event")
    parameters.done()
    if user is None:
        refuse("user", "is missing")
    engine = await source.open()
    now = await database_now(engine.database)
    found = await explain(engine.database, engine.settings, user_id=user, event_id=event, now=now)
    return json_answer({"user_id": user, "explanations": found})


async def description(_: EngineSource, request: Request) -> Answer:
    """The OpenAPI description of all this."""
    Parameters(request).done()
    return Answer(HTTPStatus.OK, (files(__package__) / "openapi.json").read_bytes(), JSON)


def api_routes(source: EngineSource) -> tuple[Route, ...]:
    """The routes of the API."""
    operations: tuple[tuple[str, str, Operation], ...] = (
        ("GET", "/runs", runs),
        ("GET", "/runs/{run_id}", run),
        ("GET", "/explain", explanations),
        ("POST", "/explain", explanations),
        ("GET", "/openapi.json", description),
    )
    return tuple(Route(method, path, partial(operation, source)) for method, path, operation in operations)
