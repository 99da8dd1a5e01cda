"""What the providers say of an account: they are asked whether they take a key, and send nothing."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from aiohttp import web

from alerts_engine.sandbox.exchange import http_response
from alerts_engine.sandbox.model import Provider, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alerts_engine.sandbox.credentials import Credentials
    from alerts_engine.sandbox.rules import ProviderRules


class Accounts:
    """Answers by the keys that the sandbox takes, and refuses others as each provider does."""

    def __init__(self, keys: Credentials, providers: Iterable[ProviderRules]) -> None:
        self._keys = keys
        self._rules = {one.provider: one for one in providers}

    def routes(self) -> list[web.RouteDef]:
        """One question for each provider."""
        return [
            web.get("/v3/account", self._brevo),
            web.get("/domains", self._resend),
            web.get("/bot{token}/getMe", self._telegram),
            web.get("/2010-04-01/Accounts/{sid}.json", self._twilio),
        ]

    async def _brevo(self, request: web.Request) -> web.Response:
        is_known = request.headers.get("api-key", "").strip() == self._keys.brevo_api_key
        account = {"email": "alerts@example.com", "companyName": "Sandbox", "plan": [{"type": "free", "credits": 300}]}
        return self._answer(Provider.BREVO, account if is_known else 401)

    async def _resend(self, request: web.Request) -> web.Response:
        is_known = request.headers.get("Authorization") == f"Bearer {self._keys.resend_api_key}"
        domains = [{"id": "1", "name": "example.com", "status": "verified"}]
        return self._answer(Provider.RESEND, {"object": "list", "data": domains} if is_known else 403)

    async def _telegram(self, request: web.Request) -> web.Response:
        is_known = request.match_info["token"] == self._keys.telegram_bot_token
        bot = {"id": 123456, "is_bot": True, "first_name": "Sandbox", "username": "sandbox_bot"}
        return self._answer(Provider.TELEGRAM, {"ok": True, "result": bot} if is_known else 401)

    async def _twilio(self, request: web.Request) -> web.Response:
        sid, token = self._keys.twilio_account_sid, self._keys.twilio_auth_token
        basic = b64encode(f"{sid}:{token}".encode()).decode()
        is_known = request.headers.get("Authorization") == f"Basic {basic}" and request.match_info["sid"] == sid
        return self._answer(Provider.TWILIO, {"sid": sid, "status": "active", "type": "Full"} if is_known else 401)

    def _answer(self, provider: Provider, said: Mapping[str, object] | int) -> web.Response:
        """What it says of the account, or the status of its refusal."""
        rules = self._rules[provider]
        if isinstance(said, int):
            return http_response(rules.refuse(rules.usual_error(said)))
        return http_response(json_answer(200, dict(said)))
