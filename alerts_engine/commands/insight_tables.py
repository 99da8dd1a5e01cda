"""What ``rules`` and ``templates`` show on a terminal. rich is imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.console import moment_text, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    from alerts_engine.operations.rule_trial import RuleTrial
    from alerts_engine.rendering import TemplateProblem


def rules_table(rules: Sequence[Mapping[str, str | None]]) -> Table:
    """The rules, in the order in which they run."""
    rows = [
        (rule["name"] or "", rule["from"] or "", rule["problem"] or rule["about"] or "", rule["file"] or "")
        for rule in rules
    ]
    return table_of("rules", ("rule", "from", "about", "file"), rows)


def trial_table(trial: RuleTrial) -> Table:
    """The events that a rule found."""
    rows = [
        (
            "new" if one.known_id is None else f"known: {one.known_id}",
            str(one.event.severity),
            one.event.scope_region or "–",
            one.event.headline,
            one.event.event_fingerprint,
        )
        for one in trial.events
    ]
    caption = f"{len(rows) - trial.known} new, {trial.known} known; nothing was written"
    title = f"{trial.rule} at {moment_text(trial.now)}"
    return table_of(title, ("event", "severity", "region", "headline", "fingerprint"), rows, caption)


def template_problems_table(folder: str, problems: Sequence[TemplateProblem]) -> Table:
    """What is wrong with the own templates."""
    rows = [(one.file, "–" if one.line is None else str(one.line), one.problem) for one in problems]
    return table_of(f"templates in {folder}", ("file", "line", "problem"), rows)


def templates_tables(templates: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]) -> Iterator[Table]:
    """What own templates can replace, and what they may say."""
    yield table_of("templates", ("file", "in use"), list(templates.items()))
    for name, types in fields.items():
        yield table_of(name, ("field", "type"), list(types.items()))
