"""The links by which a reader stops alerts: a token that says who, and proves that we made it (SPEC U-1)."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass

PATH = "/alerts/preferences"
_PURPOSE = b"alerts-engine reader link 1\0"
"""The secret may serve other ends as well: what is made for one is worth nothing for another."""
_LONGEST_TOKEN = 600
_LONGEST_SCOPE = 100


@dataclass(frozen=True, slots=True)
class ReaderToken:
    """What a link is about. It holds no address."""

    user_id: int
    channel: str
    scope: str
    """The alert type of the message; empty for a digest."""


class ReaderLinks:
    """Makes links with one secret, and reads the tokens in them. A new secret ends all links that were made before."""

    def __init__(self, secret: str, base_url: str) -> None:
        self._key = secret.encode()
        self._base_url = base_url.rstrip("/")

    def url(self, user_id: int, channel: str, scope: str) -> str:
        """The link of one message. A ``scope`` that is too long for a link is left out."""
        return f"{self._base_url}{PATH}/{self.token(ReaderToken(user_id, channel, scope))}"

    def token(self, about: ReaderToken) -> str:
        """Always the same for the same reader, channel and scope (SPEC C-12)."""
        scope = about.scope if len(about.scope.encode()) <= _LONGEST_SCOPE else ""
        said = f"{about.user_id}:{about.channel}:{scope}".encode()
        return f"{_encoded(said)}.{_encoded(self._proof(said))}"

    def read(self, token: str) -> ReaderToken | None:
        """What ``token`` says; ``None`` unless this secret made it, character for character."""
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            return None
        said = _decoded(token.partition(".")[0])
        # The whole token is compared, not what is decoded of it: of two spellings of one proof only ours holds.
        made = f"{_encoded(said)}.{_encoded(self._proof(said))}"
        if not hmac.compare_digest(made.encode(), token.encode()):
            return None
        user_id, channel, scope = said.decode().split(":", 2)
        return ReaderToken(int(user_id), channel, scope)

    def _proof(self, said: bytes) -> bytes:
        return hmac.digest(self._key, _PURPOSE + said, "sha256")


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (NotBase64, ValueError):
        return b""
