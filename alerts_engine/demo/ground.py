"""The demo's ground: a database that is its own, cleared at each start, and the rows the application would write."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from alerts_engine.demo.audience import AUDIENCE
from alerts_engine.errors import AlertsEngineError
from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from alerts_engine.database import Database
    from alerts_engine.demo.history import Day


@dataclass(frozen=True, slots=True)
class Ground:
    marked: bool
    empty: bool
    has_strangers: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """What the database holds after the replay."""

    news: int
    """Rows of ``events``, the source table."""
    events: int
    deliveries: int
    digests: int
    sent: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Received:
    """What one user got; the messages of a channel are those that were not digests."""

    address: str
    plan: str | None
    email: int
    telegram: int
    sms: int
    digests: int
    digest_items: int


survey_ground = statement("demo", "survey_ground", Ground)
mark_ground = command("demo", "mark_ground")
clear_ground = command("demo", "clear_ground")
add_audience = command("demo", "add_audience")
add_events = command("demo", "add_events")
add_scores = command("demo", "add_scores")
count_rows = statement("demo", "count_rows", Totals)
received = statement("demo", "received", Received)


async def prepare(database: Database) -> None:
    """A clean slate with the audience on it. Raises when the database holds what is not the demo's."""
    async with database.transaction() as transaction:
        ground = await transaction.row(survey_ground, emails=[user.email for user in AUDIENCE])
        if ground.has_strangers or not (ground.marked or ground.empty):
            raise AlertsEngineError(
                "the embedded database in .alerts-engine holds data that is not the demo's, and the demo begins by "
                "clearing it: start the demo in another folder"
            )
        await transaction.run(mark_ground)
        await transaction.run(clear_ground)
        await transaction.run(add_audience, audience=[asdict(user) for user in AUDIENCE])


async def write_morning(database: Database, day: Day) -> None:
    """What the application would have written on the morning of ``day``."""
    async with database.transaction() as transaction:
        await transaction.run(
            add_scores,
            calculated_at=day.scored_at,
            indices=[asdict(row) for row in day.morning],
            asset_risks=[asdict(row) for row in day.asset_risks],
        )


async def write_news(database: Database, day: Day) -> None:
    """What it would have written once the news of ``day`` was there."""
    news = [_plain(asdict(event) | asdict(score)) for event, score in zip(day.events, day.risk_events, strict=True)]
    async with database.transaction() as transaction:
        await transaction.run(add_events, events=news)
        indices = [asdict(row) for row in day.indices]
        await transaction.run(add_scores, calculated_at=day.rescored_at, indices=indices, asset_risks=[])


def _plain(row: dict[str, object]) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
