"""``make bench-send``: phase C beside a bare aiohttp loop that posts the same bodies to the same server (section 16).

The sandbox runs in a process of its own. The loop has as many workers as phase C has sends in flight, reads every
answer, and knows neither a database nor an outcome. pgqueuer, procrastinate and the smallest queue there can be make
the same posts as jobs. Rounds take turns; the ratios are those of the medians. A server that answers at once makes it a
contest for the processor, in which PostgreSQL takes part; real ones take 50 ms and more. A run's beginning and end take
100 ms, however much it sends.
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

import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase
from alerts_engine.channels import create_session
from alerts_engine.commands.frame import run_loop
from alerts_engine.embedded import embedded_postgres
from tests.bench.other_queues import pgqueuer_seconds, procrastinate_seconds
from tests.bench.smallest_queue import smallest_queue_seconds
from tests.chaos.storm import remote_sandbox
from tests.support import ground
from tests.support.databases import fresh_database
from tests.support.ground import base_urls

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from tests.chaos.storm import RemoteSandbox

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
_ACCEPTED = {"messageId": "<1>", "sid": "SM1", "ok": True, "result": {"message_id": 1}}
OTHERS = {
    "smallest queue": smallest_queue_seconds,
    "pgqueuer": pgqueuer_seconds,
    "procrastinate": procrastinate_seconds,
}
_PATIENT = {"send_timeout_seconds": 20, "send_lease_seconds": 60}
AGAIN = """
UPDATE user_alert_deliveries
   SET status = 'queued', sent_at = NULL, attempts = 0, provider_message_id = NULL, claimed_by = NULL,
       send_started_at = NULL, key_used_at = NULL, sent_by = NULL, reasons = NULL, ended_at = NULL
"""


def main() -> None:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with embedded_postgres(FOLDER) as server:
        run_loop(_bench(server, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--channel", choices=("email", "telegram", "sms"), default="email")
    parser.add_argument(
        "--delays", type=float, nargs="+", default=[0.0, 0.02, 0.05], help="seconds until the server answers"
    )
    parser.add_argument("--profile", action="store_true", help="profile phase C instead of comparing it")
    return parser.parse_args()


async def _bench(server: str, options: argparse.Namespace) -> None:
    url = fresh_database(server, "bench_send")
    others = {queue: fresh_database(server, f"bench_{number}", migrated=False) for number, queue in enumerate(OTHERS)}
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
            await _answer_after(sandbox, delay)
            took: dict[str, list[float]] = {name: [] for name in ("bare", "engine", *OTHERS)}
            for _ in range(options.rounds):
                took["bare"].append(await _bare_loop(sandbox, requests, options.concurrency))
                took["engine"].append(await _phase_c(url, sandbox, options))
                for queue, work in OTHERS.items():
                    took[queue].append(await _other(work, others[queue], sandbox, requests, options.concurrency))
            _add_row(table, options.messages, delay, took)
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
            ground.settings(url, "https://unused.example", send_timeout_seconds=20, send_lease_seconds=60, **elsewhere)
        )
    assert len(requests) == options.messages, report
    return requests


async def _bare_loop(sandbox: RemoteSandbox, requests: list[dict[str, Any]], concurrency: int) -> float:
    await _clear(sandbox)
    waiting = iter(requests)
    async with create_session(connections=concurrency) as session:

        async def work() -> None:
            for request in waiting:
                await _post(session, sandbox, request)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - started


async def _post(session: ClientSession, sandbox: RemoteSandbox, request: dict[str, Any]) -> None:
    target = sandbox.url + request["path"]
    async with session.post(target, headers=request["headers"], **request["body"]) as answer:
        await answer.json()
        assert answer.status in {200, 201}


async def _other(
    work: Any, url: str, sandbox: RemoteSandbox, requests: list[dict[str, Any]], concurrency: int
) -> float:
    """Another queue makes the same posts; each must have arrived."""
    await _clear(sandbox)
    posted = 0
    async with create_session(connections=concurrency) as session:

        async def post(number: int) -> None:
            nonlocal posted
            await _post(session, sandbox, requests[number])
            posted += 1

        seconds = await work(url, post, len(requests), concurrency)
    assert posted == len(requests), posted
    return seconds


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
    for column in ("server answers after", "bare aiohttp loop", "phase C", "phase C / bare (bar: 85 %)", *OTHERS):
        table.add_column(column, justify="right")
    return table


def _add_row(table: Table, messages: int, delay: float, took: dict[str, list[float]]) -> None:
    rate = {name: messages / statistics.median(rounds) for name, rounds in took.items()}
    shown = {name: f"{one:,.0f}/s" for name, one in rate.items()}
    ratio = f"{rate['engine'] / rate['bare']:.0%}"
    table.add_row(f"{delay * 1000:.0f} ms", shown["bare"], shown["engine"], ratio, *(shown[name] for name in OTHERS))


if __name__ == "__main__":
    main()
