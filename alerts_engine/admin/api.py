"""The admin API: what the command line asks, over HTTP; the same operations, the same JSON (SPEC section 11)."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

from alerts_engine.admin import lookups
from alerts_engine.admin.exchange import JSON, Answer, HttpError, json_answer
from alerts_engine.admin.parameters import Parameters, refuse, required
from alerts_engine.admin.site import Route
from alerts_engine.channels import channels
from alerts_engine.operations.retry_failed import RetryReason
from alerts_engine.operations.runs import LAST, RunName
from alerts_engine.phases.send.claims import SourceName
from alerts_engine.types import MOST_SINCE_HOURS

if TYPE_CHECKING:
    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.exchange import Request
    from alerts_engine.admin.lookups import Operation
    from alerts_engine.operations.runs import RecordedRun

MOST_RUNS = 500
LONGEST_CODE = 2000
"""Of the engine's own none has more than 100 characters; an application may have written any text."""
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


# --- runs -----------------------------------------------------------------------------------------------------------


async def runs(source: EngineSource, request: Request) -> Answer:
    """The run history, the newest first."""
    parameters = Parameters(request)
    limit = parameters.number("limit", most=MOST_RUNS) or 50
    before = parameters.uuid("before")
    parameters.done()
    engine = await source.open()
    return json_answer({"runs": await engine.recorded_runs(limit, before=before)})


async def run(source: EngineSource, request: Request) -> Answer:
    """One run and its items."""
    return json_answer(await found_run(source, request))


async def found_run(source: EngineSource, request: Request) -> RecordedRun:
    """A run by its id, the first characters of it, or ``last``."""
    Parameters(request).done()
    try:
        name = RunName.of(request.path_values["run_id"])
    except ValueError:
        raise HttpError(HTTPStatus.NOT_FOUND, f"there is no such run: give its id, or {LAST}") from None
    return await (await source.open()).named_run(name)


# --- what is wrong --------------------------------------------------------------------------------------------------


async def health(source: EngineSource, request: Request) -> Answer:
    """How the engine is; 200 also when it is failing, since the question was answered."""
    Parameters(request).done()
    return json_answer(await (await source.open()).health())


async def failures(source: EngineSource, request: Request) -> Answer:
    """What is wrong, by cause; with ``cause`` its deliveries and digests."""
    parameters = Parameters(request)
    since_hours = parameters.hours("since_hours", most=MOST_SINCE_HOURS) or 24
    channel = parameters.word("channel", tuple(channels()))
    cause = parameters.text("cause", longest=LONGEST_CODE)
    limit = parameters.number("limit", most=lookups.MOST_LISTED) or 20
    cursor = parameters.pair("cursor")
    parameters.done()
    engine = await source.open()
    return json_answer(
        await engine.failures(since_hours=since_hours, channel=channel, cause=cause, limit=limit, cursor=cursor)
    )


async def retry_failed(source: EngineSource, request: Request) -> Answer:
    """Queue again what failed, where another try can help; ``dry_run`` only counts it."""
    parameters = Parameters(request)
    kind = required("kind", parameters.choice("kind", SourceName))
    since_hours = parameters.hours("since_hours", most=MOST_SINCE_HOURS)
    reset_attempts = parameters.flag("reset_attempts")
    reason = parameters.choice("reason", RetryReason)
    channel = parameters.word("channel", tuple(channels()))
    cause = parameters.text("cause", longest=LONGEST_CODE)
    dry_run = parameters.flag("dry_run")
    parameters.done()
    if since_hours is None:
        refuse("since_hours", "is missing")
    if reason is not None and cause is not None:
        refuse("cause", "cannot be given together with reason")
    engine = await source.open()
    result = await engine.retry_failed(
        kind, since_hours, reset_attempts=reset_attempts, reason=reason, cause=cause, channel=channel, dry_run=dry_run
    )
    return json_answer(result)


async def metrics(source: EngineSource, request: Request) -> Answer:
    """What Prometheus reads."""
    Parameters(request).done()
    text = await (await source.open()).metrics()
    return Answer(HTTPStatus.OK, text.encode(), _PROMETHEUS)


async def description(_: EngineSource, request: Request) -> Answer:
    """The OpenAPI description of all this."""
    Parameters(request).done()
    return Answer(HTTPStatus.OK, (files(__package__) / "openapi.json").read_bytes(), JSON)


# --- all of it ------------------------------------------------------------------------------------------------------

_OPERATIONS: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/runs", runs),
    ("GET", "/runs/{run_id}", run),
    ("GET", "/health", health),
    ("GET", "/failures", failures),
    ("POST", "/retry_failed", retry_failed),
    ("GET", "/deliveries/{id}", lookups.delivery),
    ("GET", "/digests/{id}", lookups.digest),
    ("GET", "/events", lookups.list_events),
    ("GET", "/events/{id}", lookups.event),
    ("GET", "/users/{id}/deliveries", lookups.deliveries_of_user),
    ("GET", "/explain", lookups.explanations),
    ("POST", "/explain", lookups.explanations),
    ("POST", "/search", lookups.find),
    ("GET", "/openapi.json", description),
)


def api_routes(source: EngineSource) -> tuple[Route, ...]:
    """The routes of the API."""
    asked = (Route(method, path, partial(operation, source)) for method, path, operation in _OPERATIONS)
    return (*asked, Route("GET", "/metrics", partial(metrics, source), bearer=True))
