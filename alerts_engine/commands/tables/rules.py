"""What ``rules`` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Table
from alerts_engine.commands.tables.words import moment_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alerts_engine.operations.rule_trial import RuleTrial


def rules_table(rules: Sequence[Mapping[str, str | None]]) -> Table:
    """The rules, in the order in which they run."""
    rows = [
        (rule["name"] or "", rule["from"] or "", rule["problem"] or rule["about"] or "", rule["file"] or "")
        for rule in rules
    ]
    return Table("rules", ("rule", "from", "about", "file"), rows)


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
    title = f"{trial.rule} at {moment_text(trial.now)} UTC"
    return Table(
        title, ("event", "severity", "region", "headline", "fingerprint"), rows, caption, "The rule finds nothing."
    )
