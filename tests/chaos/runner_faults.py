"""What can happen to the runners: signals, rivals, a wrong clock, a row that breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from alerts_engine import AlertsEngine, Phase
from alerts_engine.channels import build_adapters, build_askers, create_session
from alerts_engine.database import database_now
from alerts_engine.phases.context import PhaseContext, Transports
from alerts_engine.phases.send.counts import SendCounts
from alerts_engine.phases.send.phase import send
from alerts_engine.rendering import Renderer
from alerts_engine.rendering.reader import NOBODY, Reader
from tests.chaos.stage import stage
from tests.support import ground

if TYPE_CHECKING:
    from alerts_engine import Settings
    from alerts_engine.types import Alert, Message
    from tests.support.ground import Result

WRONG_CLOCK = """
import datetime, time
OFF = {seconds}
class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return super().now(tz) + datetime.timedelta(seconds=OFF)
    @classmethod
    def utcnow(cls): return super().utcnow() + datetime.timedelta(seconds=OFF)
real = time.time
time.time = lambda: real() + OFF
datetime.datetime = Datetime
from alerts_engine.cli import main
main(["run", "--phase", "c", "--json"])
"""


async def start_worker(configured_environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    """``python …`` with nothing of this process's environment but the path."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments,
        env={"PATH": os.environ["PATH"]} | configured_environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def stop_requested(url: str, sends: int) -> Result:
    """``request_stop`` in the middle: what is under way is finished, the rest stays queued, unspent (SPEC CLI-7)."""
    async with stage("stop requested", url, sends) as play:
        async with AlertsEngine(play.settings) as engine:
            report = await play.when_under_way(engine.request_stop, engine.run(Phase.C))
        play.expect(report.phases[0].counts["stop_reason"] == "signal", report.phases[0].counts)
        _expect_clean_stop(play)
    return play.result


async def terminated(url: str, sends: int) -> Result:
    """SIGTERM to a real worker in the middle: it exits 1, and leaves nothing in flight (SPEC CLI-7)."""
    async with stage("SIGTERM", url, sends, delay=0.02) as play:
        variables = ground.environment(url, play.sandbox.url, send_concurrency=12)
        worker = await start_worker(variables, "-m", "alerts_engine", "run", "--phase", "c", "--json")
        output, _ = await play.when_under_way(lambda: worker.send_signal(signal.SIGTERM), worker.communicate())
        play.expect(worker.returncode == 1, worker.returncode)
        play.expect(json.loads(output)["phases"][0]["counts"]["stop_reason"] == "signal", output)
        _expect_clean_stop(play)
    return play.result


def _expect_clean_stop(play) -> None:
    rows = ground.all_rows(play.url)
    play.expect({row.status for row in rows} == {"sent", "queued"}, ground.statuses(play.url))
    play.expect(not any(row.attempts for row in rows if row.status == "queued"), "no attempt was spent")
    play.expect(sum(row.status == "sent" for row in rows) == len(play.sandbox.messages), "what was sent is written")


async def four_runners(url: str, sends: int) -> Result:
    """Four runners at once: one has the lock, three skip (SPEC L-1)."""
    async with stage("four runners", url, sends) as play:
        engines = [AlertsEngine(play.settings) for _ in range(4)]
        async with AsyncExitStack() as stack:
            for engine in engines:
                await stack.enter_async_context(engine)
            reports = await asyncio.gather(*(engine.run(Phase.C) for engine in engines))
        sent = [report.phases[0].counts.get("sent", 0) for report in reports]
        play.expect(sum(sent) == play.total, sent)
    return play.result


async def four_without_lock(url: str, sends: int) -> Result:
    """With the lock out of the way SKIP LOCKED alone holds: four senders share the rows (SPEC C-2)."""
    async with stage("four without a lock", url, sends) as play:
        counts = await asyncio.gather(*(_send_without_lock(play.settings, number) for number in range(4)))
        play.expect(sum(one.sent for one in counts) == play.total, [one.sent for one in counts])
    return play.result


async def _send_without_lock(configured: Settings, number: int, renderer: Renderer | None = None) -> SendCounts:
    counts = SendCounts()
    async with AlertsEngine(configured) as engine, create_session() as session:
        transports = Transports(
            build_adapters(configured, session),
            build_askers(configured, session),
            renderer or Renderer(time_zone=configured.time_zone),
        )
        context = PhaseContext(
            database=engine.database,
            settings=configured,
            run_id=f"run {number}",
            now=await database_now(engine.database),
        )
        await send(context, counts, transports)
    return counts


class BreakingRenderer(Renderer):
    """Cannot render one alert."""

    def instant(self, alert: Alert, channel: str, reader: Reader = NOBODY) -> Message:
        if alert.headline == "Break":
            raise ZeroDivisionError
        return super().instant(alert, channel, reader)


async def row_breaks(url: str, sends: int) -> Result:
    """One row always breaks rendering: it fails for good, alone (SPEC C-5)."""
    async with stage("one row breaks rendering", url, sends, channels=("telegram",)) as play:
        play.execute(
            "WITH broken AS (INSERT INTO alert_events"
            " (alert_type, severity, headline, body, cooldown_key, event_fingerprint, fanout_completed_at)"
            " VALUES ('HIGH_IMPACT_EVENT', 3, 'Break', '', 'broken', 'broken', now()) RETURNING id)"
            " UPDATE user_alert_deliveries SET alert_event_id = broken.id FROM broken"
            " WHERE user_alert_deliveries.id = (SELECT min(id) FROM user_alert_deliveries)"
        )
        counts = await _send_without_lock(play.settings, 0, BreakingRenderer(time_zone="UTC"))
        play.expect((counts.sent, counts.failed) == (play.total - 1, 1), counts)
        play.expect(ground.all_rows(url)[0].last_error == "render_failed", ground.all_rows(url)[0])
        play.execute(
            "UPDATE user_alert_deliveries SET status = 'queued', attempts = 0 WHERE last_error = 'render_failed'"
        )
    return play.result


async def wrong_clock(url: str, sends: int) -> Result:
    """The host's clock is an hour off, either way: the database's clock decides (SPEC C-14)."""
    async with stage("clock an hour off", url, sends) as play:
        with_time = "UPDATE user_alert_deliveries SET next_retry_at = now() + interval '30 minutes' WHERE id % 3 = {}"
        play.execute(with_time.format(0).replace("+", "-"))
        play.execute(with_time.format(1))
        for seconds in (3600, -3600):
            variables = ground.environment(url, play.sandbox.url, send_concurrency=12, max_attempts=1000)
            worker = await start_worker(variables, "-c", WRONG_CLOCK.format(seconds=seconds))
            output, _ = await worker.communicate()
            play.expect(worker.returncode == 0, output)
            waiting = ground.statuses(url)["queued"]
            play.expect(waiting == sum(row.id % 3 == 1 for row in ground.all_rows(url)), ground.statuses(url))
        strange = "sent_at > now() OR sent_at < now() - interval '10 minutes'"
        with ground.connect(url) as db:
            found = db.execute(f"SELECT count(*) FROM user_alert_deliveries WHERE {strange}").fetchone()[0]
            play.expect(found == 0, "sent_at is the database's time")
        play.execute("UPDATE user_alert_deliveries SET next_retry_at = NULL WHERE status = 'queued'")
    return play.result


FAULTS = (stop_requested, terminated, four_runners, four_without_lock, row_breaks, wrong_clock)
