"""The sandbox as a server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from alerts_engine.errors import AlertsEngineError
from alerts_engine.sandbox.brevo import Brevo
from alerts_engine.sandbox.control import Control
from alerts_engine.sandbox.exchange import Exchange
from alerts_engine.sandbox.faults import Faults
from alerts_engine.sandbox.mailbox import Mailbox
from alerts_engine.sandbox.resend import Resend
from alerts_engine.sandbox.telegram import Telegram
from alerts_engine.sandbox.twilio import Twilio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from alerts_engine.sandbox.model import Attempt, SandboxMessage
    from alerts_engine.sandbox.rules import ProviderRules

_LARGEST_REQUEST = 4 * 1024 * 1024
_CLOSE_SECONDS = 1.0
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound to


class SandboxAddressError(AlertsEngineError):
    """The sandbox cannot listen there: the port is taken, or the host is not this machine's."""


class Sandbox:
    """Brevo, Resend, Telegram and Twilio in one server; ``async with Sandbox.start() as sandbox``."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.url = ""
        """The base URL of all four providers, and the inbox page's address."""
        self._mailbox = Mailbox()
        self._stopping = asyncio.Event()
        # Where each provider is called; no two paths clash.
        self._providers: Mapping[str, ProviderRules] = {
            "/v3/smtp/email": Brevo(),
            "/emails": Resend(),
            "/bot{token}/{method}": Telegram(),
            "/2010-04-01/Accounts/{sid}/Messages.json": Twilio(),
        }

    @classmethod
    @asynccontextmanager
    async def start(cls, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Sandbox]:
        """Serve until the block ends; port 0 takes a free one. Raises ``SandboxAddressError``."""
        sandbox = cls()
        # A handler is cancelled when its client leaves, so that nothing goes on hanging.
        runner = web.AppRunner(
            sandbox._application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_CLOSE_SECONDS,
        )
        await runner.setup()
        try:
            sandbox.url = await _listen(runner, host, port)
            yield sandbox
        finally:
            sandbox._stopping.set()
            await runner.cleanup()

    @property
    def messages(self) -> tuple[SandboxMessage, ...]:
        """What was accepted, in order: the newest 100,000."""
        return tuple(self._mailbox.messages)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every call whose answer is decided, also refused ones, in order: the newest 100,000."""
        return tuple(self._mailbox.attempts)

    @property
    def requests(self) -> int:
        """How many calls have arrived, also those that are still being answered."""
        return self._mailbox.requests

    def clear(self) -> None:
        """Drop messages, attempts and remembered idempotency keys; faults stay."""
        self._mailbox.clear()
        for rules in self._providers.values():
            rules.keys.forget()

    async def wait_for_requests(self, count: int) -> None:
        """Return once at least so many calls have arrived."""
        await self._mailbox.wait_until(lambda: self._mailbox.requests >= count)

    async def wait_for_messages(self, count: int) -> None:
        """Return once at least so many messages are kept."""
        await self._mailbox.wait_until(lambda: len(self._mailbox.messages) >= count)

    def _application(self) -> web.Application:
        exchange = Exchange(self._mailbox, self.faults, self._stopping)
        application = web.Application(client_max_size=_LARGEST_REQUEST)
        application.add_routes(Control(self._mailbox, self.faults, self.clear).routes())
        for path, rules in self._providers.items():
            application.router.add_post(path, partial(exchange.handle, rules))
        return application


async def run_forever(host: str, port: int, on_ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; ``on_ready`` gets the URL once calls are answered.

    Raises ``SandboxAddressError``.
    """
    async with Sandbox.start(host, port) as sandbox:
        on_ready(sandbox.url)
        await stop.wait()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SandboxAddressError(
            f"The sandbox cannot listen on {host}:{port} ({reason}): choose another port."
        ) from error
    bound_port = runner.addresses[0][1]
    reachable = _EVERY_INTERFACE.get(host, host)
    return f"http://[{reachable}]:{bound_port}" if ":" in reachable else f"http://{reachable}:{bound_port}"
