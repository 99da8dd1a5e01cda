"""What can happen at the providers, and on the way to them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from alerts_engine.sandbox import Fault, Sandbox
from tests.chaos.stage import stage
from tests.support import ground
from tests.support.ground import base_urls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.ground import Result


_IMPATIENT = {"send_timeout_seconds": 0.5, "send_lease_seconds": 1}
_ONCE_A_RUN = {"retry_base_seconds": 3600, "retry_max_seconds": 3600}


async def _spell(
    name: str, url: str, sends: int, *faults: Fault, doubles_by: tuple[str, ...] = (), **fields: float
) -> Result:
    """A third of all calls meets ``faults``, in the middle of the run; each failure is tried again."""
    async with stage(name, url, sends, delay=0, **fields) as play:
        spell = play.total // 3 // len(faults)
        for fault in faults:
            play.sandbox.faults.add(_times(fault, spell))
        report = await play.run()
        play.expect(report.status == "success", report.error)
        counts = report.phases[0].counts
        play.expect(counts["retried"] + counts["uncertain"] >= spell * len(faults), counts)
        hit = [attempt for attempt in play.sandbox.attempts if attempt.fault]
        play.result.allowed = sum(attempt.provider in doubles_by for attempt in hit)
    return play.result


def _times(fault: Fault, times: int) -> Fault:
    return Fault.from_json(_json(fault.as_json() | {"times": max(1, times)}))


def _json(values: dict[str, object]) -> bytes:
    import json

    return json.dumps(values).encode()


async def hangs(url: str, sends: int) -> Result:
    """The provider never answers: the call times out, and the message is sent later."""
    return await _spell("provider hangs", url, sends, Fault(hang=True), **_IMPATIENT)


async def accepts_and_hangs(url: str, sends: int) -> Result:
    """Accepted, but the answer never comes: only Telegram can neither recognise a repeat nor be asked (SPEC C-17)."""
    lost = Fault(accept=True, hang=True)
    return await _spell("accepted, answer lost", url, sends, lost, doubles_by=("telegram",), **_IMPATIENT)


async def resets(url: str, sends: int) -> Result:
    """The provider drops connections."""
    return await _spell("connection reset", url, sends, Fault(reset=True))


async def server_errors(url: str, sends: int) -> Result:
    """The provider answers 500 for a while."""
    return await _spell("500 for a while", url, sends, Fault(status=500))


async def half_answers(url: str, sends: int) -> Result:
    """The answer breaks off in the middle."""
    return await _spell("half an answer", url, sends, Fault(truncate=True))


async def megabytes(url: str, sends: int) -> Result:
    """The answer is megabytes of nothing."""
    return await _spell("megabytes", url, sends, Fault(size=3_000_000))


async def html(url: str, sends: int) -> Result:
    """A gateway's page instead of JSON, with a status of success and with one of failure."""
    page = "<html><h1>It works!</h1></html>"
    pages = [Fault(status=status, body=page, content_type="text/html") for status in (200, 502)]
    return await _spell("HTML instead of JSON", url, sends, *pages)


async def redirects(url: str, sends: int) -> Result:
    """A redirect to another host is not followed: that host gets neither messages nor credentials."""
    async with Sandbox.start() as stranger, stage("redirect elsewhere", url, sends, delay=0) as play:
        play.sandbox.faults.add(Fault(redirect_to=stranger.url, times=play.total // 3))
        await play.run()
        play.expect(stranger.requests == 0, f"{stranger.requests} calls followed the redirect")
        failed = [row for row in ground.all_rows(url) if row.status == "failed"]
        if failed:
            play.result.notes.append(f"{len(failed)} failed for good")
            play.execute("UPDATE user_alert_deliveries SET status = 'queued' WHERE status = 'failed'")
    return play.result


@asynccontextmanager
async def _unreachable(name: str, url: str, sends: int, elsewhere: str, error: str) -> AsyncIterator[None]:
    async with stage(name, url, sends, delay=0) as play:
        lost_way = ground.settings(url, play.sandbox.url, **_ONCE_A_RUN, **base_urls(elsewhere))
        report = await ground.run(lost_way)
        play.expect(report.phases[0].counts["retried"] == play.total, report.phases[0].counts)
        errors = {row.last_error for row in ground.all_rows(url)}
        play.expect(error in errors <= {error, "timeout"}, errors)
        play.expect(play.sandbox.requests == 0, "nobody was reached")
        play.execute("UPDATE user_alert_deliveries SET next_retry_at = NULL")
        yield play


async def no_dns(url: str, sends: int) -> Result:
    """The provider's name cannot be resolved."""
    async with _unreachable("no DNS", url, sends, "https://provider.invalid", "dns_error") as play:
        pass
    return play.result


async def nobody_listens(url: str, sends: int) -> Result:
    """Nobody listens at the provider's address."""
    async with _unreachable("connection refused", url, sends, "http://127.0.0.1:9", "connection_error") as play:
        pass
    return play.result


FAULTS = (
    hangs, accepts_and_hangs, resets, server_errors, half_answers, megabytes, html, redirects, no_dns, nobody_listens,
)  # fmt: skip
