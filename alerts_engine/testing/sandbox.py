"""The providers' doubles on a thread of their own, so that a test needs no event loop to ask what arrived."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from alerts_engine.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from alerts_engine.sandbox import SandboxMessage

_SECONDS = 30.0
Answer = TypeVar("Answer")


class Inbox:
    """What the providers accepted, as the readers got it."""

    def __init__(self, sandbox: Sandbox, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._sandbox = sandbox
        self._call = call

    @property
    def messages(self) -> list[SandboxMessage]:
        """Every message, in order: ``channel``, ``destination``, ``subject``, ``text``, ``html``."""
        return list(self._call(lambda: self._sandbox.messages))

    def of(self, destination: str) -> list[SandboxMessage]:
        """What one address, Telegram chat or phone number got, in order.

        >>> report = run(engine.run())
        >>> ["Strike in the port" in message.text for message in inbox.of("a@example.com")]
        [True]
        """
        return [message for message in self.messages if message.destination == destination]

    def fail(
        self,
        destination: str = "*",
        *,
        times: int | None = None,
        status: int | None = None,
        code: str | int | None = None,
        retry_after: int | None = None,
        hang: bool = False,
        reset: bool = False,
        accept: bool = False,
    ) -> None:
        """Let the providers refuse what goes to ``destination``, this many ``times`` or until :meth:`heal`.

        ``*`` is everybody. Without more it is a 500, after which the engine tries again. ``status`` and ``code`` are
        the provider's; ``retry_after`` (seconds) is a 429; with ``hang`` no answer comes, with ``reset`` the connection
        breaks; with ``accept`` the message arrives all the same, and only the answer is lost.

        >>> inbox.fail("a@example.com", times=1)
        """
        if status is None and not (hang or reset or code is not None or retry_after is not None):
            status = 500
        fault = Fault(
            destination, times=times, status=status, code=code, retry_after=retry_after, hang=hang, reset=reset,
            accept=accept,
        )  # fmt: skip
        self._call(lambda: self._sandbox.faults.add(fault))

    def heal(self) -> None:
        """Take all failures back.

        >>> inbox.heal()
        """
        self._call(self._sandbox.faults.clear)

    def clear(self) -> None:
        """Forget every message, and the keys by which repeats are recognised.

        >>> inbox.clear()
        """
        self._call(self._sandbox.clear)


class AlertsSandbox:
    """Brevo, Resend, Telegram and Twilio on one local port."""

    def __init__(self, sandbox: Sandbox, call: Callable[[Callable[[], Any]], Any]) -> None:
        self.url = sandbox.url
        """The inbox as a page for people, and every provider's base URL."""
        self.settings = sandbox.settings
        """The environment variables that point an engine at it, with their values."""
        self.inbox = Inbox(sandbox, call)

    @property
    def fields(self) -> dict[str, Any]:
        """The same, as fields of ``Settings``."""
        return {name.lower(): value for name, value in self.settings.items()}


@contextmanager
def sandbox_thread() -> Iterator[AlertsSandbox]:
    """Serve until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="alerts-engine sandbox", daemon=True)
    thread.start()

    def wait_for(work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_SECONDS)

    def call(ask: Callable[[], Any]) -> Any:
        async def asked() -> Any:
            return ask()

        return wait_for(asked())

    serving = Sandbox.start()
    try:
        sandbox = wait_for(_entered(serving))
        try:
            yield AlertsSandbox(sandbox, call)
        finally:
            wait_for(_left(serving))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _entered(serving: Any) -> Sandbox:
    entered: Sandbox = await serving.__aenter__()
    return entered


async def _left(serving: Any) -> None:
    await serving.__aexit__(None, None, None)
