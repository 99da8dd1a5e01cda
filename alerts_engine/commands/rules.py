"""The commands ``rules`` and ``rules test``: what would become an event (SPEC A-1).

A command imports what it needs when it runs.
"""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import (
    AsJson,
    Embedded,
    LogJson,
    Now,
    Verbose,
    refuse_options_before_a_command,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts_engine.operations.rule_messages import TriedMessage
    from alerts_engine.operations.rule_trial import RuleTrial
    from alerts_engine.settings import Settings
    from alerts_engine.statements import RuleFile

rules_app = typer.Typer(rich_markup_mode=None)

MOST_MESSAGES = 1000
"""Of as many events the messages are shown: few enough to hold them all at once."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(rules_app, name="rules")


@rules_app.callback(invoke_without_command=True, epilog=epilog("rules", "rules test high_impact_event"))
def rules(context: typer.Context, as_json: AsJson = False, log_json: LogJson = False, verbose: Verbose = False) -> None:
    """List the rules that phase a runs, or try one."""
    if context.invoked_subcommand is not None:
        refuse_options_before_a_command(context)
        return
    with command(Output(as_json, log_json, verbose)) as (settings, console):
        from alerts_engine.statements import rule_files

        found = [_rule_as_json(rule, settings) for rule in rule_files(settings.rules_dir)]
        if console.as_json:
            console.json({"rules": found})
        else:
            from alerts_engine.commands.tables.rules import rules_table

            console.draw(rules_table(found))


_COMMENT = re.compile(r"\A\s*--[ \t]*(\S.*)")


def _rule_as_json(rule: RuleFile, settings: Settings) -> dict[str, str | None]:
    """A rule, where it is from, and the first line of its file if that is a comment."""
    comment = _COMMENT.match(rule.text)
    return {
        "name": rule.name,
        "from": "custom" if rule.path.parent == settings.rules_dir else "built-in",
        "file": str(rule.path),
        "about": comment[1].rstrip() if comment else None,
        "problem": rule.problem,
    }


@rules_app.command(
    "test",
    epilog=epilog(
        "rules test high_impact_event",
        "rules test freight.sql --messages 10 --now 2026-03-29T10:00Z",
        failed=f"the rule cannot be used, {BROKE}",
    ),
)
def try_rule(  # noqa: PLR0917 - typer gives them by name
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A rule's file, or the name of a rule in the list.")],
    now: Now = None,
    messages: Annotated[
        int, typer.Option("--messages", min=0, max=MOST_MESSAGES, help="Show this many of the events as messages.")
    ] = 3,
    as_json: AsJson = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Show what one rule would create, and would say; write nothing."""
    with command(Output(as_json, log_json, verbose)) as (given, console):
        rule = _rule_of(file, given)
        with database_settings(given, embedded=embedded) as settings:
            trial = run_loop(_trial(settings, rule, now))
        from alerts_engine.operations.rule_messages import messages_of

        made = messages_of(trial.events[:messages], settings, now=trial.now)
        if console.as_json:
            console.json(_trial_as_json(trial, made))
        else:
            from alerts_engine.commands.tables.rules import trial_tables

            console.draw(*trial_tables(trial, made))


def _rule_of(file: Path, settings: Settings) -> RuleFile:
    from alerts_engine.statements import read_rule, rule_files

    named = {rule.name: rule for rule in rule_files(settings.rules_dir)}
    return named[str(file)] if str(file) in named and not file.exists() else read_rule(file)


async def _trial(settings: Settings, rule: RuleFile, now: datetime | None) -> RuleTrial:
    from alerts_engine.engine import AlertsEngine

    async with AlertsEngine(settings) as engine:
        return await engine.try_rule(rule, now=now)


def _trial_as_json(trial: RuleTrial, made: Sequence[TriedMessage]) -> dict[str, Any]:
    events = [one.event.as_row() | {"known_id": one.known_id} for one in trial.events]
    new = len(trial.events) - trial.known
    messages = [
        {"event_fingerprint": one.event_fingerprint, "channel": one.channel, **one.sizes, "message": one.message}
        for one in made
    ]
    return {
        "rule": trial.rule, "now": trial.now, "new": new, "known": trial.known, "events": events, "messages": messages,
    }  # fmt: skip
