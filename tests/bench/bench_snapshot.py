"""``make bench-snapshot``: sending while an old snapshot is open, such as a dump's or an analyst's (section 16).

Such a snapshot keeps vacuum from cleaning what was claimed and settled. Round by round the same number of messages is
sent; the cost of the last round is told beside the first one's, and beside rounds without a snapshot.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from rich.console import Console
from rich.table import Table

from alerts_engine import AlertsEngine, Phase
from alerts_engine.commands.frame import run_loop
from alerts_engine.embedded import embedded_postgres
from tests.chaos.storm import remote_sandbox
from tests.support import ground
from tests.support.databases import drop_database, fresh_database

if TYPE_CHECKING:
    from tests.chaos.storm import RemoteSandbox

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
BAR = 1.3
DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)
SELECT u.id, e.id, 'email', now() + make_interval(secs => 0.001 * u.id)
  FROM (SELECT id FROM users ORDER BY id LIMIT %(sends)s) AS u, (SELECT id FROM alert_events WHERE id = %(event)s) AS e
"""


def main() -> None:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with embedded_postgres(FOLDER) as server:
        without = run_loop(_rounds(server, options, snapshot=False))
        under = run_loop(_rounds(server, options, snapshot=True))
    _show(without, under)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sends", type=int, default=20_000, help="messages a round")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


async def _rounds(server: str, options: argparse.Namespace, *, snapshot: bool) -> list[float]:
    """Seconds of each round."""
    url = fresh_database(server, "bench_snapshot")
    ground.add_users(url, options.sends)
    async with remote_sandbox() as sandbox:
        with closing(ground.connect(url)) as analyst:
            if snapshot:
                analyst.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                analyst.execute("SELECT count(*) FROM users")
            numbers = range(1, options.rounds + 1)
            took = [await _round(url, sandbox, options.sends, number) for number in numbers]
    drop_database(server, "bench_snapshot")
    return took


async def _round(url: str, sandbox: RemoteSandbox, sends: int, number: int) -> float:
    with closing(ground.connect(url)) as db:
        db.execute(DELIVERIES, {"sends": sends, "event": number})
        db.execute("VACUUM ANALYZE user_alert_deliveries")
    async with sandbox.session.delete(f"{sandbox.url}/api/messages") as answer:
        assert answer.status == 204
    patient = {"send_timeout_seconds": 20, "send_lease_seconds": 60, "send_concurrency": 50}
    async with AlertsEngine(ground.settings(url, sandbox.url, **patient)) as engine:
        started = time.perf_counter()
        report = await engine.run(Phase.C)
        seconds = time.perf_counter() - started
    assert report.phases[0].counts["sent"] == sends, report
    return seconds


def _show(without: list[float], under: list[float]) -> None:
    table = Table(title=f"seconds of a round; bar: the last under a snapshot ≤ {BAR} × the first")
    for column in ("round", "without a snapshot", "under an old snapshot"):
        table.add_column(column, justify="right")
    for number, (calm, held) in enumerate(zip(without, under, strict=True), start=1):
        table.add_row(str(number), f"{calm:.2f}", f"{held:.2f}")
    Console(width=100).print(table)
    ratio = round(under[-1] / under[0], 2)
    print(json.dumps({"without": without, "under": under, "last_to_first": ratio, "bar": BAR}))


if __name__ == "__main__":
    main()
