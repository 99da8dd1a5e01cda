"""The sandbox as a server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from alerts_engine.errors import AlertsEngineError
from alerts_engine.sandbox.accounts import Accounts
from alerts_engine.sandbox.asking import Asking
from alerts_engine.sandbox.brevo import Brevo
from alerts_engine.sandbox.control import Control
from alerts_engine.sandbox.credentials import Credentials
from alerts_engine.sandbox.exchange import Exchange
from alerts_engine.sandbox.faults import Faults
from alerts_engine.sandbox.gate import Gate, is_loopback
from alerts_engine.sandbox.mailbox import Mailbox
from alerts_engine.sandbox.resend import Resend
from alerts_engine.sandbox.telegram import Telegram
from alerts_engine.sandbox.twilio import Twilio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from alerts_engine.sandbox.model import Attempt, Provider, SandboxMessage
    from alerts_engine.sandbox.rules import ProviderRules

log = structlog.get_logger("alerts_engine.sandbox")
_LARGEST_REQUEST = 4 * 1024 * 1024
_CLOSE_SECONDS = 1.0
_PUBLIC = "whoever reaches this machine can read the messages and set faults; --host 127.0.0.1 keeps it to this machine"
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound to


class SandboxAddressError(AlertsEngineError):
    """The sandbox cannot listen there: the port is taken, or the host is not this machine's."""


class Sandbox:
    """Brevo, Resend, Telegram and Twilio in one server; ``async with Sandbox.start() as sandbox``."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        keys = credentials or Credentials()
        self.faults = Faults()
        self.url = ""
        """The base URL of all four providers, and the inbox page's address."""
        self._keys = keys
        self._mailbox = Mailbox()
        self._stopping = asyncio.Event()
        self._exchange = Exchange(self._mailbox, self.faults, self._stopping)
        self.asking = Asking(self._mailbox, self.faults, self._exchange)
        """What the providers can be asked: ``lag_seconds`` can be set, ``questions`` are those that came."""
        # Where each provider is called; no two paths clash.
        self._providers: Mapping[str, ProviderRules] = {
            "/v3/smtp/email": Brevo(keys.brevo_api_key),
            "/emails": Resend(keys.resend_api_key),
            "/bot{token}/{method}": Telegram(keys.telegram_bot_token),
            "/2010-04-01/Accounts/{sid}/Messages.json": Twilio(keys.twilio_account_sid, keys.twilio_auth_token),
        }
        for rules in self._providers.values():
            rules.keys.live_by(self._mailbox.clock.monotonic)

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        credentials: Credentials | None = None,
        allowed_hosts: Iterable[str] = (),
    ) -> AsyncIterator[Sandbox]:
        """Serve until the block ends; port 0 takes a free one. Raises ``SandboxAddressError``.

        Calls with any other keys than ``credentials`` are refused. Besides ``host`` and the names and addresses of the
        machine itself, clients may call it by the names in ``allowed_hosts``.
        """
        sandbox = cls(credentials)
        # A handler is cancelled when its client leaves, so that nothing goes on hanging.
        runner = web.AppRunner(
            sandbox._application(Gate((*_names_of(host), *allowed_hosts))),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_CLOSE_SECONDS,
        )
        await runner.setup()
        try:
            sandbox.url = await _listen(runner, host, port)
            _warn_if_public(runner, sandbox.url)
            yield sandbox
        finally:
            sandbox._stopping.set()
            await runner.cleanup()

    @property
    def settings(self) -> dict[str, str]:
        """The engine's variables and their values that make it send here, on all channels."""
        return self._keys.settings(self.url)

    @property
    def messages(self) -> tuple[SandboxMessage, ...]:
        """What was accepted, in order: the newest that take 256 MiB, 100,000 at most."""
        return tuple(self._mailbox.messages)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every call whose answer is decided, also refused ones, in order; as many as take 64 MiB, or 100,000."""
        return tuple(self._mailbox.attempts)

    @property
    def requests(self) -> int:
        """How many calls have arrived, also those that are still being answered."""
        return self._mailbox.requests

    def clear(self) -> None:
        """Drop messages, attempts, questions and remembered idempotency keys; faults stay."""
        self._mailbox.clear()
        self.asking.questions.clear()
        for rules in self._providers.values():
            rules.keys.forget()

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once: keys grow old, and lists get to know."""
        self._mailbox.clock.advance(seconds)

    def set_key_life(self, provider: Provider, seconds: float) -> None:
        """Let the provider remember idempotency keys this long."""
        next(rules for rules in self._providers.values() if rules.provider is provider).keys.keep_for(seconds)

    async def wait_for_requests(self, count: int) -> None:
        """Return once at least this many calls have arrived."""
        await self._mailbox.wait_until(lambda: self._mailbox.requests >= count)

    async def wait_for_messages(self, count: int) -> None:
        """Return once at least this many messages have been accepted."""
        await self._mailbox.wait_until(lambda: self._mailbox.accepted >= count)

    def _application(self, gate: Gate) -> web.Application:
        application = web.Application(client_max_size=_LARGEST_REQUEST, middlewares=[gate.middleware()])
        application.add_routes(Control(self._mailbox, self.faults, self.clear, lambda: self.settings).routes())
        application.add_routes(Accounts(self._keys, self._providers.values()).routes())
        for path, rules in self._providers.items():
            application.router.add_post(path, partial(self._exchange.handle, rules))
        application.add_routes(self.asking.routes(self._providers.values()))
        return application


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
    reachable = _EVERY_INTERFACE.get(host, host).strip("[]")
    return f"http://[{reachable}]:{bound_port}" if ":" in reachable else f"http://{reachable}:{bound_port}"


def _names_of(host: str) -> tuple[str, ...]:
    return () if host in _EVERY_INTERFACE else (host,)


def _warn_if_public(runner: web.AppRunner, url: str) -> None:
    addresses = [str(address[0]) for address in runner.addresses]
    if not all(map(is_loopback, addresses)):
        log.warning("sandbox_is_public", url=url, listens_on=addresses, hint=_PUBLIC)
