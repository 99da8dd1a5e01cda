"""``make chaos``: every scenario at full size, on a PostgreSQL of its own, as a table. Exit 1 if one fails."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from rich.console import Console
from rich.table import Table

from alerts_engine.embedded import embedded_postgres
from tests.chaos import database_faults, provider_faults, runner_faults
from tests.chaos.storm import digest_storm, sending_storm
from tests.support.databases import fresh_database
from tests.support.ground import PROVIDERS, Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Scenario = Callable[[str], Awaitable[Result]]

_WIDTH = 140
FOLDER = Path(__file__).parent.parent.parent / ".alerts-engine" / "chaos"


def main() -> None:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    console, results = Console(width=_WIDTH), []
    with embedded_postgres(FOLDER / "main") as server:
        for number, (name, scenario) in enumerate(_scenarios(options)):
            if options.only in name:
                console.print(f"[dim]{name} …[/dim]")
                results.append(_play(name, scenario, fresh_database(server, f"chaos_{number}")))
    console.print(_table(results))
    sys.exit(0 if all(result.holds for result in results) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sends", type=int, default=2000, help="messages of each scenario")
    parser.add_argument("--kills", type=int, default=100, help="kills of each storm")
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    return parser.parse_args()


def _scenarios(options: argparse.Namespace) -> Iterator[tuple[str, Scenario]]:
    sends, kills = options.sends, options.kills
    for provider, policy in product(PROVIDERS, ("retry", "fail")):
        yield f"storm {provider} {policy}", lambda url, p=provider, u=policy: sending_storm(url, p, u, sends, kills)
    yield "storm digests", lambda url: digest_storm(url, sends, kills)
    for fault in (*database_faults.FAULTS, *provider_faults.FAULTS, *runner_faults.FAULTS):
        yield fault.__name__, lambda url, f=fault: f(url, sends)
    yield "server_restarted", lambda _: database_faults.server_restarted(FOLDER / "crashing", sends)


def _play(name: str, scenario: Scenario, url: str) -> Result:
    try:
        return asyncio.run(scenario(url))
    except Exception as error:  # noqa: BLE001 - the other scenarios are still to be played
        return Result(name, lost=-1, notes=[f"{type(error).__name__}: {error}"])


def _table(results: list[Result]) -> Table:
    table = Table(title="Chaos")
    table.add_column("fault", no_wrap=True)
    for column in ("sends", "lost", "doubled", "allowed", "reported", "kills", "answers lost", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for result in results:
        numbers = (
            result.sends, result.lost, result.doubled, result.allowed, result.reported, result.kills,
            result.answers_lost,
        )  # fmt: skip
        verdict = "[green]holds[/green]" if result.holds else "[red]BROKEN[/red]"
        notes = "; ".join([verdict, *result.notes])
        table.add_row(result.fault, *(f"{number:,}" for number in numbers), f"{result.seconds:.1f}", notes)
    return table


if __name__ == "__main__":
    main()
