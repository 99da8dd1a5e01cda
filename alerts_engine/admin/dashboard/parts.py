"""The parts of the page, each from the operation that the API and the command line ask as well (SPEC P-4, P-4a)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alerts_engine.admin import api, lookups
from alerts_engine.admin.dashboard.templating import rendered
from alerts_engine.admin.dashboard.views import overview
from alerts_engine.admin.parameters import Parameters, refuse, required
from alerts_engine.channels import channels
from alerts_engine.database import database_now
from alerts_engine.operations import search
from alerts_engine.operations.causes import FailureState
from alerts_engine.operations.retry_failed import RetryReason
from alerts_engine.phases.send.claims import SourceName

if TYPE_CHECKING:
    from datetime import datetime

    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.exchange import Answer, Request
    from alerts_engine.engine import AlertsEngine

RETRY_HOURS = 24.0
_DELIVERIES_SHOWN = 20


async def _part(engine: AlertsEngine, template: str, *, now: datetime | None = None, **values: Any) -> Answer:
    moment = now or await database_now(engine.database)
    return rendered(template, now=moment, zone=engine.settings.time_zone, **values)


async def overview_part(source: EngineSource, request: Request) -> Answer:
    """Everything at a glance."""
    Parameters(request).done()
    engine = await source.open()
    view = await overview(engine)
    return await _part(engine, "overview.html", now=view.now, view=view)


async def search_part(source: EngineSource, request: Request) -> Answer:
    """What was found."""
    text = lookups.searched_text(request)
    engine = await source.open()
    return await _part(engine, "search.html", found=await search.search(engine.database, text))


# --- what is wrong, and trying it again -----------------------------------------------------------------------------


async def cause_part(source: EngineSource, request: Request) -> Answer:
    """A page of the rows of one cause."""
    parameters = Parameters(request)
    cause = parameters.text("cause", longest=api.LONGEST_CODE)
    channel = parameters.word("channel", tuple(channels()))
    cursor = parameters.pair("cursor")
    parameters.done()
    if cause is None:
        refuse("cause", "is missing")
    engine = await source.open()
    report = await engine.failures(since_hours=RETRY_HOURS, channel=channel, cause=cause, cursor=cursor)
    return await _part(engine, "cause.html", report=report, cause=cause, channel=channel, first=cursor is None)


async def retry_part(source: EngineSource, request: Request) -> Answer:
    """What a press would queue again; and once it is confirmed, what it has."""
    parameters = Parameters(request)
    kind = required("kind", parameters.choice("kind", SourceName))
    channel = parameters.word("channel", tuple(channels()))
    cause = parameters.text("cause", longest=api.LONGEST_CODE)
    state = required("state", parameters.choice("state", FailureState))
    confirmed = parameters.flag("confirmed")
    parameters.done()
    unconfigured = state is FailureState.NOT_CONFIGURED
    engine = await source.open()
    result = await engine.retry_failed(
        kind,
        RETRY_HOURS,
        reset_attempts=True,
        reason=RetryReason.CHANNEL_NOT_CONFIGURED if unconfigured else None,
        cause=None if unconfigured else cause,
        channel=channel,
        dry_run=not confirmed,
    )
    asked = {"kind": kind.value, "channel": channel or "", "cause": cause or "", "state": state.value}
    return await _part(engine, "retry.html", result=result, asked=asked, hours=int(RETRY_HOURS))


# --- one thing ------------------------------------------------------------------------------------------------------


async def run_part(source: EngineSource, request: Request) -> Answer:
    """A run and its phases."""
    found = await api.found_run(source, request)
    return await _part(await source.open(), "run.html", run=found)


async def delivery_part(source: EngineSource, request: Request) -> Answer:
    """A delivery's life."""
    number, engine = lookups.number_in_path(request), await source.open()
    return await _part(engine, "life.html", life=await engine.delivery_life(number))


async def digest_part(source: EngineSource, request: Request) -> Answer:
    """A digest's life."""
    number, engine = lookups.number_in_path(request), await source.open()
    return await _part(engine, "life.html", life=await engine.digest_life(number))


async def user_part(source: EngineSource, request: Request) -> Answer:
    """A user: the newest events and why, the newest deliveries."""
    number, engine = lookups.number_in_path(request), await source.open()
    known = await search.user(engine.database, number)
    explanations = await engine.explain(number)
    page = await _deliveries(engine, number, None)
    return await _part(engine, "user.html", user=known, explanations=explanations, **page)


async def deliveries_part(source: EngineSource, request: Request) -> Answer:
    """More of a user's deliveries."""
    parameters = Parameters(request)
    before = parameters.number("before")
    number, engine = lookups.number_in_path(request, parameters), await source.open()
    known = await search.user(engine.database, number)
    return await _part(engine, "deliveries.html", user=known, **await _deliveries(engine, number, before))


async def _deliveries(engine: AlertsEngine, user_id: int, before: int | None) -> dict[str, Any]:
    found = await search.user_deliveries(engine.database, user_id, before=before, limit=_DELIVERIES_SHOWN + 1)
    return {"deliveries": found[:_DELIVERIES_SHOWN], "before": lookups.next_before(found, _DELIVERIES_SHOWN)}


async def event_part(source: EngineSource, request: Request) -> Answer:
    """An event, what became of it, and the question who gets it."""
    number, engine = lookups.number_in_path(request), await source.open()
    return await _part(engine, "event.html", way=await search.event_way(engine.database, number))


async def explain_part(source: EngineSource, request: Request) -> Answer:
    """Why a user does or does not get an event."""
    _, explanations = await lookups.explained(source, request)
    return await _part(await source.open(), "explain.html", explanations=explanations)
