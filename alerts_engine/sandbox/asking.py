"""What the providers can be asked about the messages they accepted: their own endpoints, faults and a lag."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from alerts_engine.sandbox.exchange import http_response
from alerts_engine.sandbox.faults import ANYONE
from alerts_engine.sandbox.lists import brevo_events, resend_email, resend_emails, twilio_messages
from alerts_engine.sandbox.model import KEPT, Answer, Attempt, Call, Provider, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine.sandbox.exchange import Exchange
    from alerts_engine.sandbox.faults import Faults
    from alerts_engine.sandbox.lists import Page
    from alerts_engine.sandbox.mailbox import Mailbox
    from alerts_engine.sandbox.model import SandboxMessage
    from alerts_engine.sandbox.rules import ProviderRules


class Asking:
    """Answers questions about earlier messages; they count as questions, not as calls that send."""

    def __init__(self, mailbox: Mailbox, faults: Faults, exchange: Exchange) -> None:
        self._mailbox = mailbox
        self._faults = faults
        self._exchange = exchange
        self.lag_seconds = 0.0
        """Messages that were accepted less than this long ago are not listed yet."""
        self.questions: deque[Attempt] = deque(maxlen=KEPT)

    def routes(self, providers: Iterable[ProviderRules]) -> list[web.RouteDef]:
        """Every list that can be read, of those providers that have one."""
        rules = {one.provider: one for one in providers}
        return [
            web.get("/v3/smtp/statistics/events", partial(self._answer, rules[Provider.BREVO], brevo_events, "email")),
            web.get("/emails", partial(self._answer, rules[Provider.RESEND], resend_emails, "")),
            web.get("/emails/{id}", partial(self._answer, rules[Provider.RESEND], resend_email, "")),
            web.get(
                "/2010-04-01/Accounts/{sid}/Messages.json",
                partial(self._answer, rules[Provider.TWILIO], twilio_messages, "To"),
            ),
        ]

    async def _answer(self, rules: ProviderRules, page: Page, about: str, request: web.Request) -> web.StreamResponse:
        """``about`` is the parameter that names a destination, by which a fault can be for it alone."""
        destination = request.query.get(about)
        own = partial(self._own_answer, rules, page, request)
        fault = self._faults.take(rules.provider, destination or ANYONE, when_asked=True)
        if fault is not None:
            log = partial(self._log, rules.provider, destination, fault=True)
            return await self._exchange.fail(fault, rules, request, own, log)
        answer = own()
        self._log(rules.provider, destination, answer.status, fault=False)
        return http_response(answer)

    def _own_answer(self, rules: ProviderRules, page: Page, request: web.Request) -> Answer:
        call = Call(request.headers, request.match_info, b"")
        try:
            rules.authenticate(call)
            return page(self._listed(rules.provider), request, self._mailbox.clock.now())
        except RefusedError as refused:
            return rules.refuse(refused)

    def _listed(self, provider: Provider) -> list[SandboxMessage]:
        """What the provider shows by now, the newest first."""
        latest = self._mailbox.clock.now() - timedelta(seconds=self.lag_seconds)
        messages = reversed(self._mailbox.messages)
        return [one for one in messages if one.provider is provider and one.received_at <= latest]

    def _log(self, provider: Provider, destination: str | None, status: int | None, *, fault: bool) -> None:
        number, now = len(self.questions) + 1, self._mailbox.clock.now()
        self.questions.append(Attempt(number, now, provider, destination, status, idempotency_key=None, fault=fault))
