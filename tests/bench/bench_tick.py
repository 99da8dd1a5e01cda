"""``make bench-tick``: a run with nothing to do beside importing its libraries, and the memory of one with much to do.

Both are processes, as cron starts them. The ticks and the imports take turns, first on an empty database, then beside
``--rows`` deliveries. At the end up to a million of these are queued again, and one run sends two thousand of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from alerts_engine.embedded import embedded_postgres
from tests.bench.history import USERS, add_history
from tests.chaos.storm import remote_sandbox
from tests.support import ground
from tests.support.databases import drop_database, fresh_database
from tests.support.ground import Credentials

FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "bench"
IMPORTS = [sys.executable, "-c", "import asyncpg, aiohttp, pydantic_settings, structlog"]
RUN = [sys.executable, "-m", "alerts_engine", "run", "--phase"]
MOST_QUEUED = 1_000_000
SENT = 2_000
NOTHING_DUE = """
UPDATE user_alert_deliveries SET status = 'sent', sent_at = now(), ended_at = now()
 WHERE status = 'queued' AND next_retry_at IS NULL
"""
QUEUED = """
UPDATE user_alert_deliveries
   SET status = 'queued', sent_at = NULL, ended_at = NULL, attempts = 0, last_error = NULL, failure_kind = NULL
 WHERE status <> 'queued'
   AND alert_event_id IN (SELECT id FROM alert_events ORDER BY id DESC LIMIT %s)
"""


async def main() -> None:
    options = _options()
    table = Table("", "imports", "tick", "tick / imports (bar: 1.5)", title="a run with nothing to do")
    with embedded_postgres(FOLDER) as server:
        url = await asyncio.to_thread(fresh_database, server, "tick")
        async with remote_sandbox() as sandbox:
            environment = _environment(url, sandbox.url)
            _add_row(table, "empty database", environment, options.rounds)
            await add_history(url, options.rows)
            _execute(url, NOTHING_DUE)
            _add_row(table, f"{options.rows:,} deliveries", environment, options.rounds)
            queued = _execute(url, QUEUED, MOST_QUEUED // USERS)
            peak = _peak_memory(environment)
        drop_database(server, "tick")
    console = Console(width=100)
    console.print(table)
    console.print(f"peak memory of a run that sends {SENT:,} of {queued:,} queued: {peak:.0f} MiB (bar 150)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


def _environment(url: str, sandbox_url: str) -> dict[str, str]:
    engine = {"DATABASE_URL": url, "ALERTS_MAX_SEND_PER_RUN": str(SENT)}
    return {**os.environ, **Credentials().settings(sandbox_url), **engine}


def _add_row(table: Table, name: str, environment: dict[str, str], rounds: int) -> None:
    imports, ticks = [], []
    for _ in range(rounds):
        imports.append(_seconds(IMPORTS, environment))
        ticks.append(_seconds([*RUN, "all"], environment))
    of_imports, of_ticks = statistics.median(imports), statistics.median(ticks)
    table.add_row(name, f"{of_imports:.2f} s", f"{of_ticks:.2f} s", f"{of_ticks / of_imports:.2f}")


def _seconds(words: list[str], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(words, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


def _execute(url: str, statement: str, *values: int) -> int:
    """How many rows it changed."""
    with closing(ground.connect(url)) as db:
        changed = db.execute(statement, values or None).rowcount
        db.execute("VACUUM ANALYZE user_alert_deliveries")
        return changed


def _peak_memory(environment: dict[str, str]) -> float:
    """MiB that one run of phase C took at most."""
    process = subprocess.Popen([*RUN, "c", "--quiet"], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    asyncio.run(main())
