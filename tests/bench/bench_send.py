"""``make bench-send``: phase C beside a bare aiohttp loop that posts the same bodies to the same server (SPEC section 16).

The sandbox runs in a process of its own. The loop has as many workers as phase C has sends in flight, reads every
answer, and knows neither a database nor an outcome. Rounds take turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import pstats
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase, schema
from alerts_engine.channels import create_session
from alerts_engine.command import run_loop
from alerts_engine.embedded import embedded_postgres
from tests.chaos import ground
from tests.chaos.stage import base_urls
from tests.chaos.storm import remote_sandbox

if TYPE_CHECKING:
    from tests.chaos.storm import RemoteSandbox

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
_ACCEPTED = {"messageId": "<1>", "sid": "SM1", "ok": True, "result": {"message_id": 1}}
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
    bare, engine = [], []
    async with remote_sandbox() as sandbox:
        await _phase_c(url, sandbox, options)
        if options.profile:
            with cProfile.Profile() as profile:
                await _phase_c(url, sandbox, options)
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
            return
        await _bare_loop(sandbox, requests, options.concurrency)
        for _ in range(options.rounds):
            bare.append(await _bare_loop(sandbox, requests, options.concurrency))
            engine.append(await _phase_c(url, sandbox, options))
    _print(options, bare, engine)


async def _record(url: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What phase C posts, request by request, as it goes over the wire."""
    requests: list[dict[str, Any]] = []

    async def keep(request: web.Request) -> web.Response:
        kept = {"Content-Type", "Authorization", "api-key", "Idempotency-Key"}
        headers = {name: value for name, value in request.headers.items() if name in kept}
        requests.append({"path": request.raw_path, "headers": headers, "data": await request.read()})
        return web.json_response(_ACCEPTED, status=200 if options.channel == "telegram" else 201)

    application = web.Application()
    application.router.add_post("/{path:.*}", keep)
    async with TestServer(application) as server:
        elsewhere = base_urls(str(server.make_url("")).rstrip("/"))
        report = await ground.run(ground.settings(url, "http://unused", send_timeout_seconds=20, send_lease_seconds=60, **elsewhere))
    assert len(requests) == options.messages, report
    return requests


async def _bare_loop(sandbox: RemoteSandbox, requests: list[dict[str, Any]], concurrency: int) -> float:
    await _clear(sandbox)
    waiting = iter(requests)
    async with create_session(connections=concurrency) as session:

        async def work() -> None:
            for request in waiting:
                target = sandbox.url + request["path"]
                async with session.post(target, headers=request["headers"], data=request["data"]) as answer:
                    json.loads(await answer.read())
                    assert answer.status in {200, 201}

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - started


async def _phase_c(url: str, sandbox: RemoteSandbox, options: argparse.Namespace) -> float:
    await _clear(sandbox)
    with closing(ground.connect(url)) as db:
        db.execute(AGAIN)
        db.execute("VACUUM ANALYZE user_alert_deliveries")
    fields = {"send_concurrency": options.concurrency, "send_timeout_seconds": 20, "send_lease_seconds": 60}
    async with AlertsEngine(ground.settings(url, sandbox.url, **fields)) as engine:
        started = time.perf_counter()
        report = await engine.run(Phase.C)
        took = time.perf_counter() - started
    assert report.phases[0].counts["sent"] == options.messages, report
    return took


async def _clear(sandbox: RemoteSandbox) -> None:
    async with sandbox.session.delete(f"{sandbox.url}/api/messages") as answer:
        assert answer.status == 204


def _print(options: argparse.Namespace, bare: list[float], engine: list[float]) -> None:
    table = Table(title=f"{options.messages} messages by {options.channel}, {options.concurrency} in flight")
    for column in ("", "median s", "messages/s", "rounds"):
        table.add_column(column, justify="right")
    for name, rounds in (("bare aiohttp loop", bare), ("phase C", engine)):
        median = statistics.median(rounds)
        shown = " ".join(f"{one:.2f}" for one in rounds)
        table.add_row(name, f"{median:.2f}", f"{options.messages / median:,.0f}", shown)
    Console(width=120).print(table)
    ratio = statistics.median(bare) / statistics.median(engine)
    Console().print(f"phase C sends at {ratio:.0%} of the bare loop's rate (bar: 85 %)")


if __name__ == "__main__":
    main()
