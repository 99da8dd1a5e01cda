"""The sandbox's inbox as one file: for looking at it when the sandbox is gone (SPEC F-2)."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine.sandbox import Attempt, SandboxMessage

# The page asks its server for messages and calls; a saved page answers itself.
_ANSWERS = """
<style>#live, #refresh, #clear { display: none }</style>
<script>
{
  const MESSAGES = %s, ATTEMPTS = %s;
  window.fetch = async (address) => {
    const { pathname, searchParams } = new URL(address, "http://saved");
    const newest = (list) => list.slice(-Number(searchParams.get("limit") || list.length));
    const fresh = MESSAGES.filter((one) => one.number > Number(searchParams.get("since") || 0));
    return Response.json(pathname === "/api/messages" ? { total: MESSAGES.length, messages: newest(fresh) }
      : { requests: ATTEMPTS.length, attempts: newest(ATTEMPTS) });
  };
}
</script>
"""


def inbox_file(messages: Iterable[SandboxMessage], attempts: Iterable[Attempt]) -> str:
    """The inbox page with everything in it, as HTML that needs no server."""
    page = files("alerts_engine.sandbox").joinpath("inbox.html").read_text("utf-8")
    answers = _ANSWERS % (_as_script(messages), _as_script(attempts))
    return page.replace("<script>", f"{answers}<script>", 1)


def _as_script(records: Iterable[SandboxMessage] | Iterable[Attempt]) -> str:
    """JSON that cannot end the script it stands in."""
    listed = [asdict(record) | {"received_at": record.received_at.isoformat()} for record in records]
    return json.dumps(listed).replace("<", "\\u003c")
