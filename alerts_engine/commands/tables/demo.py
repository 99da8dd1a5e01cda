"""What the demo shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Table
from alerts_engine.commands.tables.runs import phase_row, phases_table
from alerts_engine.commands.tables.words import many

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from alerts_engine.demo.story import Played
    from alerts_engine.sandbox import SandboxMessage


def demo_tables(played: Played) -> Iterable[Table]:
    """What the demo came to: the phases, the totals, and who got what."""
    phases = [phase_row(one.phase, one.status, one.duration_ms, one.counts, one.error) for one in played.phases]
    yield phases_table(f"{many(played.runs, 'run')} over {many(played.days, 'day')}", phases, "")
    totals = played.totals
    words = {
        "events": totals.events, "deliveries": totals.deliveries, "digests": totals.digests,
        "messages sent": totals.sent, "still waiting": totals.waiting,
    }  # fmt: skip
    yield Table("in the end", tuple(words), [tuple(map(str, words.values()))])
    audience = [
        (
            guest.who, guest.plan or "none", str(guest.email), str(guest.telegram), str(guest.sms),
            f"{guest.digests} ({many(guest.digest_items, 'alert')})" if guest.digests else "0",
        )
        for guest in played.audience
    ]  # fmt: skip
    yield Table("who got what", ("user", "plan", "email", "telegram", "SMS", "digests"), audience)


def messages_table(messages: Sequence[SandboxMessage]) -> Table:
    """The last message of each channel, to give an idea."""
    last = {message.channel: message for message in messages}
    rows = [
        (channel, one.destination, one.subject or one.text.splitlines()[0]) for channel, one in sorted(last.items())
    ]
    return Table(f"{many(len(messages), 'message')} reached the sandbox, such as", ("channel", "to", "what"), rows)
