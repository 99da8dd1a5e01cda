"""The admin site over real HTTP, by either binding, on a test's database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from alerts_engine.admin import aiohttp_app, fastapi_router
from alerts_engine.admin.admin_site import PREFIX
from tests.support.serving import served
from tests.support.world import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web
    from fastapi import APIRouter

TOKEN = "a-token-that-nobody-guesses"
HEADERS = {"x-internal-token": TOKEN}


def made(binding: str, url: str, token: str | None = TOKEN, **fields: Any) -> web.Application | APIRouter:
    """What ``create_app`` or ``create_router`` makes; ``fields`` are settings, and what those take."""
    own = {name: fields.pop(name) for name in ("engine", "prefix", "allowed_hosts") if name in fields}
    given = settings(url, internal_runner_token=token, **fields)
    return aiohttp_app.create_app(given, **own) if binding == "aiohttp" else fastapi_router.create_router(given, **own)


class Client:
    """Asks under the prefix, with the token unless told otherwise."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def __call__(
        self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, Any]:
        """The status, and the JSON or the text."""
        given = HEADERS if headers is None else headers
        async with self.session.request(method, self.url + path, headers=given, **more) as response:
            text = await response.text()
            return response.status, await response.json() if response.content_type == "application/json" else text

    async def get(self, path: str, **more: Any) -> Any:
        """What a GET answers, which must be well."""
        status, said = await self("GET", path, **more)
        assert status == 200, said
        return said

    async def post(self, path: str, **more: Any) -> Any:
        """What a POST answers, which must be well."""
        status, said = await self("POST", path, **more)
        assert status == 200, said
        return said


@asynccontextmanager
async def client_of(app: web.Application | APIRouter, prefix: str = PREFIX) -> AsyncIterator[Client]:
    """A client of what a binding made."""
    async with served(app) as url, aiohttp.ClientSession() as session:
        yield Client(session, url + prefix)
