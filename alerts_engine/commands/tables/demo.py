"""What the demo shows on a terminal. rich is imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.counts import counts_text
from alerts_engine.commands.tables.drawing import duration_text, table_of
from alerts_engine.commands.tables.runs import phases_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from alerts_engine.demo.story import Played
    from alerts_engine.sandbox import SandboxMessage


def demo_tables(played: Played) -> Iterable[Table]:
    """What the demo came to: the phases, the totals, and who got what."""
    phases = [(t.phase, t.status, duration_text(t.duration_ms), counts_text(t.counts, t.error)) for t in played.phases]
    yield phases_table(f"{played.runs} runs over {played.days} days", phases, "")
    totals = played.totals
    words = {
        "events": totals.events, "deliveries": totals.deliveries, "digests": totals.digests,
        "messages sent": totals.sent, "still waiting": totals.waiting,
    }  # fmt: skip
    yield table_of("in the end", tuple(words), [tuple(map(str, words.values()))])
    audience = [
        (
            guest.who, guest.got.plan or "none", str(guest.got.email), str(guest.got.telegram), str(guest.got.sms),
            f"{guest.got.digests} ({guest.got.digest_items} alerts)",
        )
        for guest in played.audience
    ]  # fmt: skip
    yield table_of("who got what", ("user", "plan", "email", "telegram", "SMS", "digests"), audience)


def messages_table(messages: Sequence[SandboxMessage]) -> Table:
    """The last message of each channel, to give an idea."""
    last = {message.channel: message for message in messages}
    rows = [(channel, one.destination, one.subject or one.text.splitlines()[0]) for channel, one in last.items()]
    return table_of(f"{len(messages)} messages reached the sandbox, such as", ("channel", "to", "what"), rows)
