"""``make bench-send``: phase C beside a bare aiohttp loop that posts the same bodies to the same server (section 16).

The sandbox runs in a process of its own. The loop has as many workers as phase C has sends in flight, reads every
answer, and knows neither a database nor an outcome. Rounds take turns; the ratio is that of the medians. A server that
answers at once makes it a contest for the processor, in which PostgreSQL takes part; real ones take 50 ms and more.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import pstats
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase, schema
from alerts_engine.channels import create_session
from alerts_engine.commands.frame import run_loop
from alerts_engine.embedded import embedded_postgres
from tests.chaos import ground
from tests.chaos.stage import base_urls
from tests.chaos.storm import remote_sandbox

if TYPE_CHECKING:
    from tests.chaos.storm import RemoteSandbox

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
_ACCEPTED = {"messageId": "<1>", "sid": "SM1", "ok": True, "result": {"message_id": 1}}
_PATIENT = {"send_timeout_seconds": 20, "send_lease_seconds": 60}
AGAIN = """
UPDATE user_alert_deliveries
   SET status = 'queued', sent_at = NULL, attempts = 0, provider_message_id = NULL, claimed_by = NULL
"""


def main() -> None:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with embedded_postgres(FOLDER) as server:
        run_loop(_bench(_fresh_database(server), options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--channel", choices=("email", "telegram", "sms"), default="email")
    parser.add_argument(
        "--delays", type=float, nargs="+", default=[0.0, 0.02, 0.1], help="seconds until the server answers"
    )
    parser.add_argument("--profile", action="store_true", help="profile phase C instead of comparing it")
    return parser.parse_args()


def _fresh_database(server: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench_send WITH (FORCE)")
        connection.execute("CREATE DATABASE bench_send")
    url = server.replace("/postgres?", "/bench_send?")
    schema.apply(url)
    return url


async def _bench(url: str, options: argparse.Namespace) -> None:
    ground.seed(url, options.messages, (options.channel,))
    requests = await _record(url, options)
    async with remote_sandbox() as sandbox:
        await _bare_loop(sandbox, requests, options.concurrency)
        await _phase_c(url, sandbox, options)
        if options.profile:
            with cProfile.Profile() as profile:
                await _phase_c(url, sandbox, options)
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
            return
        table = _table(options)
        for delay in options.delays:
            bare, engine = [], []
            await _answer_after(sandbox, delay)
            for _ in range(options.rounds):
                bare.append(await _bare_loop(sandbox, requests, options.concurrency))
                engine.append(await _phase_c(url, sandbox, options))
            _add_row(table, options.messages, delay, bare, engine)
    Console(width=120).print(table)


async def _answer_after(sandbox: RemoteSandbox, delay: float) -> None:
    async with sandbox.session.delete(f"{sandbox.url}/api/faults") as answer:
        assert answer.status == 204
    if delay:
        await sandbox.add_fault(delay=delay)


async def _record(url: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What phase C posts, request by request, as it goes over the wire."""
    requests: list[dict[str, Any]] = []

    async def keep(request: web.Request) -> web.Response:
        kept = {"Authorization", "api-key", "Idempotency-Key"}
        headers = {name: value for name, value in request.headers.items() if name in kept}
        body = (
            {"json": await request.json()}
            if request.content_type == "application/json"
            else {"data": await request.post()}
        )
        requests.append({"path": request.raw_path, "headers": headers, "body": body})
        return web.json_response(_ACCEPTED, status=200 if options.channel == "telegram" else 201)

    application = web.Application()
    application.router.add_post("/{path:.*}", keep)
    async with TestServer(application) as server:
        elsewhere = base_urls(str(server.make_url("")).rstrip("/"))
        report = await ground.run(
            ground.settings(url, "http://unused", send_timeout_seconds=20, send_lease_seconds=60, **elsewhere)
        )
    assert len(requests) == options.messages, report
    return requests


async def _bare_loop(sandbox: RemoteSandbox, requests: list[dict[str, Any]], concurrency: int) -> float:
    await _clear(sandbox)
    waiting = iter(requests)
    async with create_session(connections=concurrency) as session:

        async def work() -> None:
            for request in waiting:
                target = sandbox.url + request["path"]
                async with session.post(target, headers=request["headers"], **request["body"]) as answer:
                    await answer.json()
                    assert answer.status in {200, 201}

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - started


async def _phase_c(url: str, sandbox: RemoteSandbox, options: argparse.Namespace) -> float:
    await _clear(sandbox)
    with closing(ground.connect(url)) as db:
        db.execute(AGAIN)
        db.execute("VACUUM ANALYZE user_alert_deliveries")
    configured = ground.settings(url, sandbox.url, send_concurrency=options.concurrency, **_PATIENT)
    async with AlertsEngine(configured) as engine:
        started = time.perf_counter()
        report = await engine.run(Phase.C)
        took = time.perf_counter() - started
    assert report.phases[0].counts["sent"] == options.messages, report
    return took


async def _clear(sandbox: RemoteSandbox) -> None:
    async with sandbox.session.delete(f"{sandbox.url}/api/messages") as answer:
        assert answer.status == 204


def _table(options: argparse.Namespace) -> Table:
    table = Table(
        title=f"{options.messages:,} messages by {options.channel}, {options.concurrency} in flight, "
        f"median of {options.rounds} rounds in turns"
    )
    for column in ("server answers after", "bare aiohttp loop", "phase C", "phase C / bare (bar: 85 %)"):
        table.add_column(column, justify="right")
    return table


def _add_row(table: Table, messages: int, delay: float, bare: list[float], engine: list[float]) -> None:
    rates = [messages / statistics.median(rounds) for rounds in (bare, engine)]
    table.add_row(f"{delay * 1000:.0f} ms", *(f"{rate:,.0f}/s" for rate in rates), f"{rates[1] / rates[0]:.0%}")


if __name__ == "__main__":
    main()
