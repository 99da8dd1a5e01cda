"""The admin's README holds: its commands and examples run, its routes are those that are served (SPEC section 11)."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace

import aiohttp
from aiohttp import web
from fastapi import FastAPI

from alerts_engine import AlertsEngine
from alerts_engine.admin.admin_site import admin_site
from alerts_engine.admin.engine_source import EngineSource
from tests.acceptance.conftest import CommandLine, answer_of
from tests.support.admin import TOKEN, client_of
from tests.support.world import settings

REPOSITORY = Path(__file__).parent.parent.parent
README = (REPOSITORY / "alerts_engine" / "admin" / "README.md").read_text("utf-8")
UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_routes_are_all_there() -> None:
    """One line each, and none that there is not."""
    rows = re.findall(r"^\| `(GET|POST) (/\S*)` \|", README, re.MULTILINE)
    routes = admin_site(EngineSource(settings=settings(UNREACHABLE))).routes
    parts = ("/dashboard/", "/assets/")
    assert sorted(rows) == sorted(
        (route.method, route.path) for route in routes if route.path and not route.path.startswith(parts)
    )


def test_tests_named_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)` \|$", README, re.MULTILINE))
    assert named
    assert named <= {path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")}


async def test_the_examples_run(database_url: str) -> None:
    """In FastAPI and in aiohttp, on the application's engine (P-3)."""
    in_fastapi, in_aiohttp = examples("python")
    async with AlertsEngine(settings(database_url, internal_runner_token=TOKEN)) as engine:
        app = FastAPI()
        app.state.engine = engine
        exec(in_fastapi, {"app": app})  # noqa: S102 - what the document shows
        async with client_of(app.router) as client:
            assert (await client.get("/health"))["status"] == "degraded"
        outer = web.Application()
        exec(in_aiohttp, vars(SimpleNamespace(app=outer, engine=engine)))  # noqa: S102
        async with client_of(outer) as client:
            assert (await client.get("/health"))["status"] == "degraded"
            assert "<title>alerts-engine</title>" in (await client.get("/", headers={}))


async def test_the_commands_run(alerts_engine: CommandLine) -> None:
    """The token as openssl makes it; the page, from the root as well (section 3)."""
    making, serving = examples("sh")[0].splitlines()
    made = await asyncio.create_subprocess_shell(
        f"{making}; printf %s $INTERNAL_RUNNER_TOKEN", stdout=asyncio.subprocess.PIPE
    )
    token = (await made.communicate())[0].decode()
    assert len(token) == 64
    words = shlex.split(serving)[1:]
    words[words.index("--port") + 1] = "0"
    process = await alerts_engine.start(*words, INTERNAL_RUNNER_TOKEN=token)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[1]
    async with aiohttp.ClientSession(headers={"x-internal-token": token}) as session:
        async with session.get(url.partition("/internal")[0] + "/") as response:
            assert (response.status, str(response.url)) == (200, url)
        async with session.get(f"{url}runs") as response:
            assert await response.json() == {"runs": []}
    process.send_signal(signal.SIGTERM)
    assert (await answer_of(process)).code == 0


async def test_a_port_that_is_taken_is_one_line(alerts_engine: CommandLine) -> None:
    """Exit 1, and what to do (CLI-2)."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await alerts_engine("serve", "--port", str(port), INTERNAL_RUNNER_TOKEN=TOKEN)
    server.close()
    assert answer.code == 1
    assert "choose another --port" in answer.err
    assert "Traceback" not in answer.err
