"""Whether a provider takes our credentials: a question that sends nothing and changes nothing (SPEC R-1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from alerts_engine.channels.http import NoAnswer, get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohttp import ClientSession

    from alerts_engine.channels.base import ChannelAdapter

    ReadVerdict = Callable[[int, Mapping[str, object]], "Verdict"]
    """From an answer's status and body to what it says of the credentials."""

_LARGEST_ANSWER = 1024 * 1024


class Verdict(StrEnum):
    """What the provider says of the credentials."""

    GOOD = "good"
    BAD = "bad"
    NOT_ALLOWED = "not_allowed"
    """They are known, but may not ask this: a key that may only send, for example."""
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class CredentialCheck:
    """What became of the question to one provider."""

    channel: str
    provider: str
    verdict: Verdict
    variables: tuple[str, ...]
    """Those to look at."""
    detail: str
    """What happened, in a word that holds nothing secret: the status, or why there was no answer."""


async def check_credentials(adapters: Iterable[ChannelAdapter]) -> list[CredentialCheck]:
    """Ask the provider of each, side by side; those that know no harmless question are left out.

    Never raises for what a network or a server does.
    """
    checks = await asyncio.gather(*(adapter.check_credentials() for adapter in adapters))
    return [check for check in checks if check is not None]


async def check_by(
    adapter: ChannelAdapter,
    session: ClientSession,
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_seconds: float,
    verdict: ReadVerdict,
    variables: tuple[str, ...],
) -> CredentialCheck:
    """Read one page of the provider and judge the credentials by it."""
    found = await get(session, url, timeout_seconds=timeout_seconds, headers=headers, body_limit=_LARGEST_ANSWER)
    if isinstance(found, NoAnswer):
        return CredentialCheck(adapter.channel, adapter.provider, Verdict.NO_ANSWER, variables, found.error)
    said = verdict(found.status, found.body)
    return CredentialCheck(adapter.channel, adapter.provider, said, variables, f"HTTP {found.status}")


def by_status(member: str) -> ReadVerdict:
    """``member``: what the provider's own success has. What is not its own, such as a proxy's page, is no answer."""

    def verdict(status: int, body: Mapping[str, object]) -> Verdict:
        if not body:
            return Verdict.NO_ANSWER
        match status:
            case 200 if member in body:
                return Verdict.GOOD
            case 401:
                return Verdict.BAD
            case 403:
                return Verdict.NOT_ALLOWED
            case _:
                return Verdict.NO_ANSWER

    return verdict
