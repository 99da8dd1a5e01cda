import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import asyncpg
from fastapi import FastAPI, Request

from alerts_engine import AlertsEngine, AlertsEngineError, NewEvent, Published, load_settings
from alerts_engine.admin.fastapi_router import create_router

log = logging.getLogger("newsroom")


async def report_outage(engine: AlertsEngine, connection: Any, plant: str) -> Published:
    """The outage and its alert are there together, or neither of them."""
    event = NewEvent(
        alert_type="HIGH_IMPACT_EVENT", severity=4, headline=f"{plant} is down", event_fingerprint=f"outage:{plant}"
    )
    async with connection.transaction():
        await connection.execute("INSERT INTO outages (plant) VALUES ($1)", plant)
        return await engine.publish(event, connection=connection)


async def work(engine: AlertsEngine, wake: asyncio.Event, stopping: asyncio.Event) -> None:
    """A run when there is something new, and every minute for what is due; a lost database ends nothing."""
    while not stopping.is_set():
        wake.clear()
        try:
            await engine.run(stopping=stopping)
        except AlertsEngineError as error:
            log.warning("alerts are late: %s", error)
        with suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), timeout=60)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = load_settings()
    assert settings.database_url is not None
    wake, stopping = asyncio.Event(), asyncio.Event()
    async with asyncpg.create_pool(settings.database_url.get_secret_value()) as pool:
        await pool.execute("CREATE TABLE IF NOT EXISTS outages (plant text PRIMARY KEY)")
        async with AlertsEngine(settings, pool=pool) as engine:
            app.state.pool, app.state.engine, app.state.wake = pool, engine, wake
            worker = asyncio.create_task(work(engine, wake, stopping))
            yield
            stopping.set()  # sends in flight are finished, everything else waits for the next start
            wake.set()
            await worker


app = FastAPI(lifespan=lifespan)
app.include_router(create_router(engine=lambda: app.state.engine))  # the dashboard, for whoever has the token


@app.post("/outages/{plant}")
async def outage(request: Request, plant: str) -> dict[str, object]:
    state = request.app.state
    async with state.pool.acquire() as connection:
        published = await report_outage(state.engine, connection, plant)
    state.wake.set()
    return asdict(published)
