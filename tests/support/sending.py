"""What the tests of phase C stand on: a database, the sandbox as every provider, and users numbered from 1."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alerts_engine import AlertsEngine, Phase, PhaseReport
from alerts_engine.sandbox import Fault, Sandbox
from tests.support import ground

if TYPE_CHECKING:
    from collections import Counter


@dataclass
class World:
    """A migrated database and the sandbox; users are numbered from 1."""

    url: str
    sandbox: Sandbox

    def users(self, count: int = 1) -> list[int]:
        return ground.add_users(self.url, count)

    def alert(self, users: list[int], channel: str = "email", **options: Any) -> int:
        """An instant delivery for each of the users."""
        return ground.add_deliveries(self.url, users, channel, **options)

    def execute(self, statement: str) -> list[Any]:
        with closing(ground.connect(self.url)) as db:
            cursor = db.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def fault(self, *arguments: Any, **fields: Any) -> None:
        self.sandbox.faults.add(Fault(*arguments, **fields))

    async def run(self, fields: dict[str, Any] | None = None, *, pace: float = 1.0, **order: Any) -> PhaseReport:
        values = {"send_timeout_seconds": 5, "send_lease_seconds": 60, "retry_base_seconds": 60, **(fields or {})}
        values["retry_max_seconds"] = 3600
        configured = ground.settings(self.url, self.sandbox.url, **values)
        async with AlertsEngine(configured, pace=pace) as engine:
            return (await engine.run(Phase.C, **order)).phases[0]

    @property
    def rows(self) -> list[Any]:
        return ground.all_rows(self.url)

    @property
    def statuses(self) -> Counter[str]:
        return ground.statuses(self.url)

    @property
    def got(self) -> list[str]:
        """Where messages arrived, in order."""
        return [message.destination for message in self.sandbox.messages]

    def seconds_until_retry(self, row_id: int = 1) -> float:
        """0 for a row that waits for nothing."""
        wait = "coalesce(extract(epoch FROM next_retry_at - now()), 0)::float8"
        return float(self.execute(f"SELECT {wait} FROM user_alert_deliveries WHERE id = {row_id}")[0][0])


def destination(number: int, channel: str) -> str:
    """Where the messages of the ``number``-th user go."""
    return {"email": f"user{number}@example.com", "telegram": str(100000 + number), "sms": f"+1555{number:07}"}[channel]
