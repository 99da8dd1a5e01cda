"""``make bench-migrate``: what an application notices of ``migrate`` and of its rollback (SPEC section 16).

Fills an EnergyRiskIQ database as the application left it, then writes to it as the application does, while another
process migrates. Prints the longest wait of each kind of statement: beside nothing, beside ``migrate``, and beside the
rollback (bar: 150 ms), and the migration that was under way.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from rich.console import Console
from rich.table import Table

from alerts_engine.embedded import embedded_postgres
from tests.support import legacy
from tests.support.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Callable

BAR_MS = 150
CALM_SECONDS = 10

FILLING = """
INSERT INTO users (email) SELECT 'user' || n || '@example.org' FROM generate_series(1, {users}) AS n;
INSERT INTO alert_events (alert_type, headline, body, cooldown_key, created_at)
SELECT 'HIGH_IMPACT_EVENT', 'h', repeat('b', 200), 'many:' || n, now() - make_interval(mins => n)
FROM generate_series(1, {events}) AS n;
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status, created_at, sent_at)
SELECT
    1 + n % {users}, 1 + (n / 50) % {events}, 'email',
    CASE WHEN n % 100 = 0 THEN 'queued' ELSE 'sent' END,
    now() - make_interval(secs => n / 50),
    CASE WHEN n % 100 = 0 THEN NULL ELSE now() END
FROM generate_series(1, {deliveries}) AS n
ON CONFLICT DO NOTHING;
"""

WRITES = {
    "insert event": (
        "INSERT INTO alert_events (alert_type, headline, body, cooldown_key)"
        " VALUES ('HIGH_IMPACT_EVENT', 'h', 'b', 'live:' || gen_random_uuid())"
    ),
    "insert deliveries": (
        "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, status)"
        " SELECT u.id, (SELECT max(id) FROM alert_events), 'account', 'sent' FROM users AS u"
        " WHERE u.id BETWEEN $1 % 1000 AND $1 % 1000 + 3 ON CONFLICT DO NOTHING"
    ),
    "update delivery": "UPDATE user_alert_deliveries SET reason = 'seen' WHERE id = $1",
    "update event": "UPDATE alert_events SET body = 'changed' WHERE id = 1 + $1 % 1000",
    "read deliveries": "SELECT count(*) FROM user_alert_deliveries WHERE user_id = 1 + $1 % 1000",
    "delete user": "DELETE FROM users WHERE id = (SELECT min(id) FROM users WHERE id > 100 + $1 % 1000)",
}

MIGRATE = "import sys; from alerts_engine import schema; schema.{step}(sys.argv[1])"


@dataclass(slots=True)
class Waits:
    """How long each kind of statement took, and when the longest began."""

    longest: dict[str, tuple[float, datetime]] = field(default_factory=dict)
    statements: int = 0
    seconds: float = 0.0

    def note(self, kind: str, seconds: float, began: datetime) -> None:
        self.statements += 1
        self.longest[kind] = max(self.longest.get(kind, (0.0, began)), (seconds, began))


async def main() -> None:
    options = _options()
    with embedded_postgres(Path.cwd() / ".alerts-engine" / "bench") as server:
        url = await asyncio.to_thread(_filled, server, options.deliveries)
        calm = await _beside(url, options.deliveries, lambda: asyncio.sleep(CALM_SECONDS))
        up = await _beside(url, options.deliveries, lambda: _migrate(url, "apply"))
        down = await _beside(url, options.deliveries, lambda: _migrate(url, "rollback"))
        steps = await _steps(url)
    _show({"nothing": calm, "migrate": up, "rollback": down}, steps)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=5_000_000)
    return parser.parse_args()


def _filled(server: str, deliveries: int) -> str:
    import psycopg

    url = fresh_database(server, "migrate", migrated=False)
    legacy.create(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            FILLING.format(users=max(2000, deliveries // 50), events=max(1000, deliveries // 50), deliveries=deliveries)
        )
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    return url


async def _migrate(url: str, step: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", MIGRATE.format(step=step), url)
    if await process.wait() != 0:
        sys.exit(f"{step} failed")


async def _beside(url: str, deliveries: int, work: Callable[[], object]) -> Waits:
    """What the application waits for while ``work`` goes on."""
    waits = Waits()
    writers = [asyncio.create_task(_write(url, kind, text, deliveries, waits)) for kind, text in WRITES.items()]
    start = time.perf_counter()
    await work()  # type: ignore[misc]
    waits.seconds = time.perf_counter() - start
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    return waits


async def _write(url: str, kind: str, text: str, deliveries: int, waits: Waits) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        for _ in itertools.count():
            values = [random.randrange(1, deliveries)] if "$1" in text else []  # noqa: S311
            began, start = datetime.now(UTC), time.perf_counter()
            await connection.execute(text, *values)
            waits.note(kind, time.perf_counter() - start, began)
            await asyncio.sleep(0.005)
    finally:
        connection.terminate()


async def _steps(url: str) -> list[tuple[datetime, str]]:
    """When each migration was done, and undone."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT created_at_utc, operation || ' ' || migration_id FROM _yoyo_log ORDER BY 1")
    await connection.close()
    return [(when.replace(tzinfo=UTC), name) for when, name in rows]


def _under_way(steps: list[tuple[datetime, str]], moment: datetime) -> str:
    return next((name for when, name in steps if when >= moment), "")


def _show(all_waits: dict[str, Waits], steps: list[tuple[datetime, str]]) -> None:
    measured = {
        beside: {
            "seconds": round(waits.seconds, 1),
            "statements": waits.statements,
            "longest_ms": {
                kind: (round(seconds * 1000), _under_way(steps, began) if beside != "nothing" else "")
                for kind, (seconds, began) in waits.longest.items()
            },
        }
        for beside, waits in all_waits.items()
    }
    if not sys.stdout.isatty():
        print(json.dumps(measured, indent=1))
        return
    table = Table("beside", "s", "statements", "kind", f"longest wait, ms (bar {BAR_MS})", "during")
    for beside, waits in all_waits.items():
        for kind, (seconds, began) in waits.longest.items():
            during = _under_way(steps, began) if beside != "nothing" else ""
            table.add_row(
                beside, f"{waits.seconds:.1f}", f"{waits.statements:,}", kind, f"{seconds * 1000:.0f}", during
            )
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
