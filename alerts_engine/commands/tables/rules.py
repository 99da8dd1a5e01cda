"""What ``rules`` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Facts, Table
from alerts_engine.commands.tables.words import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alerts_engine.operations.rule_messages import TriedMessage
    from alerts_engine.operations.rule_trial import RuleTrial


def rules_table(rules: Sequence[Mapping[str, str | None]]) -> Table:
    """The rules, in the order in which they run."""
    rows = [
        (rule["name"] or "", rule["from"] or "", rule["problem"] or rule["about"] or "", rule["file"] or "")
        for rule in rules
    ]
    return Table("rules", ("rule", "from", "about", "file"), rows)


def trial_tables(trial: RuleTrial, messages: Sequence[TriedMessage]) -> Iterator[Table | Facts]:
    """The events that a rule found, and what some of them would say."""
    yield _events_table(trial)
    hidden = len(trial.events) - len({one.event_fingerprint for one in messages})
    events = "event" if hidden == 1 else "events"
    more = f"{hidden} {events} more: --messages {len(trial.events)} shows all" if hidden and messages else ""
    for one in messages:
        yield Facts(
            f"{one.event_fingerprint} by {one.channel}",
            [("size", _sizes(one)), ("says", one.shown)],
            more if one is messages[-1] else "",
        )


def _sizes(one: TriedMessage) -> str:
    """``92 characters, GSM-7, 1 segment``."""
    said = []
    for name, value in one.sizes.items():
        words = name.removesuffix("s") if value == 1 else name
        said.append(f"{value:,} {words.replace('_', ' ').replace('html', 'HTML')}" if isinstance(value, int) else value)
    return ", ".join(said)


def _events_table(trial: RuleTrial) -> Table:
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
