"""One call of a provider, from its arrival to its answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from alerts_engine.sandbox.model import Answer, Call, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts_engine.sandbox.faults import Fault, Faults
    from alerts_engine.sandbox.mailbox import Mailbox
    from alerts_engine.sandbox.model import Submission
    from alerts_engine.sandbox.rules import ProviderRules

_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)


class Exchange:
    """Reads a call by a provider's rules, keeps what is accepted and answers, or fails as it was told to."""

    def __init__(self, mailbox: Mailbox, faults: Faults, stopping: asyncio.Event) -> None:
        self._mailbox = mailbox
        self._faults = faults
        self._stopping = stopping

    async def handle(self, rules: ProviderRules, request: web.Request) -> web.StreamResponse:
        """Answer one call; between reading it and keeping its message only a fault waits for anything."""
        body = await request.read()
        self._mailbox.arrived()
        call = Call(request.headers, request.match_info, body)
        try:
            submission = rules.read(call)
            with rules.keys.in_flight(submission):
                fault = self._faults.take(rules.provider, submission.destination)
                if fault is not None:
                    own = partial(self._accept_or_refuse, rules, submission)
                    log = partial(self._mailbox.log, rules.provider, call, fault=True)
                    return await self.fail(fault, rules, request, own, log)
                return self._respond(rules, call, self._accept(rules, submission))
        except RefusedError as refused:
            return self._respond(rules, call, rules.refuse(refused))

    def _accept(self, rules: ProviderRules, submission: Submission) -> Answer:
        earlier = rules.keys.recall(submission)
        if earlier is not None:
            return earlier
        number = self._mailbox.next_number()
        acceptance = rules.accept(submission, number)
        rules.keys.remember(submission, acceptance.answer)
        if not submission.dropped:
            self._mailbox.keep(rules.provider, submission, number, acceptance)
        return acceptance.answer

    def _accept_or_refuse(self, rules: ProviderRules, submission: Submission) -> Answer:
        try:
            return self._accept(rules, submission)
        except RefusedError as refused:
            return rules.refuse(refused)

    def _respond(self, rules: ProviderRules, call: Call, answer: Answer) -> web.Response:
        self._mailbox.log(rules.provider, call, answer.status, fault=False)
        return http_response(answer)

    async def fail(
        self,
        fault: Fault,
        rules: ProviderRules,
        request: web.Request,
        own: Callable[[], Answer],
        log: Callable[[int | None], None],
    ) -> web.StreamResponse:
        """Do what the fault says; ``own`` makes the provider's own answer, ``log`` gets the status in the end."""
        status = None
        try:
            answer = own() if fault.accept else None
            await self._wait_for_stop(fault.delay)
            if fault.hang:
                await self._wait_for_stop(None)
            if fault.hang or fault.reset:
                return _reset(request)
            if fault.changes_answer or (fault.truncate and answer is None):
                answer = fault.answer(rules)
            answer = answer or own()
            status = answer.status
        finally:
            log(status)
        return await _cut_short(request, answer) if fault.truncate else http_response(answer)

    async def _wait_for_stop(self, seconds: float | None) -> None:
        """Wait this long, or for ever; the sandbox's end ends it, and so does the client's leaving."""
        if seconds == 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def http_response(answer: Answer) -> web.Response:
    """The answer as aiohttp sends it."""
    return web.Response(status=answer.status, body=answer.body, headers=_headers(answer))


def _headers(answer: Answer) -> dict[str, str]:
    return {"Content-Type": answer.content_type, **answer.headers}


def _reset(request: web.Request) -> web.Response:
    """Break the connection off with a TCP reset, no matter what is still to be sent."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def _cut_short(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Announce the whole answer, send half of it and close."""
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.content_length = max(len(answer.body), 1)
    response.force_close()
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
