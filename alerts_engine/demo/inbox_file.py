"""The sandbox's inbox as one file: for looking at it when the sandbox is gone (SPEC F-2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from alerts_engine.reports import to_json
from alerts_engine.sandbox.inbox import inbox_page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine.sandbox import Attempt, SandboxMessage

# The page asks its server for messages and calls; a saved page answers itself.
_ANSWERS = """
<style>#live, #refresh, #clear { display: none }</style>
<script>
{
  const MESSAGES = %s, ATTEMPTS = %s, CHANNELS = {};
  for (const { channel } of MESSAGES) CHANNELS[channel] = (CHANNELS[channel] ?? 0) + 1;
  const counts = { total: MESSAGES.length, oldest: MESSAGES[0]?.number ?? null, dropped: 0, channels: CHANNELS };
  window.fetch = async (address) => {
    const { pathname, searchParams } = new URL(address, "http://saved");
    const number = (name, usual) => Number(searchParams.get(name) ?? usual);
    const newest = (list) => list.slice(Math.max(0, list.length - number("limit", Infinity)));
    const asked = (one) => one.number > number("since", 0) && one.number < number("before", Infinity);
    const answers = {
      "/api/messages": () => ({ ...counts, messages: newest(MESSAGES.filter(asked)) }),
      "/api/attempts": () => ({ requests: ATTEMPTS.length, attempts: newest(ATTEMPTS) }),
      "/api/settings": () => ({ settings: {} }),
    };
    return Response.json(answers[pathname]());
  };
}
</script>
"""


def inbox_file(messages: Iterable[SandboxMessage], attempts: Iterable[Attempt]) -> str:
    """The inbox page with everything in it, as HTML that needs no server."""
    answers = _ANSWERS % (_as_script(messages), _as_script(attempts))
    return inbox_page().replace("<script>", f"{answers}<script>", 1)


def _as_script(records: Iterable[SandboxMessage] | Iterable[Attempt]) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(to_json(list(records))).replace("<", "\\u003c")
