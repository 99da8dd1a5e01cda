"""``alerts-engine serve`` shows readers their page where both settings are there (SPEC U-2)."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from alerts_engine.reader_links import ReaderLinks, ReaderToken
from tests.support.world import add_user, prepared

if TYPE_CHECKING:
    import psycopg

    from tests.acceptance.conftest import CommandLine

LINKED = {
    "ALERTS_LINK_SECRET": "0123456789abcdef0123456789abcdef",
    "ALERTS_PUBLIC_BASE_URL": "https://app.example.com",
    "INTERNAL_RUNNER_TOKEN": "the-admins-own-token",
}


@pytest.mark.parametrize("linked", [True, False])
async def test_serve_has_the_readers_page(alerts_engine: CommandLine, postgresql: psycopg.Connection, linked: bool):
    """Without the admin's token; its own token is in no log (SPEC U-2, O-3)."""
    user = add_user(prepared(postgresql))
    settings = {name: value for name, value in LINKED.items() if linked or name != "ALERTS_LINK_SECRET"}
    token = ReaderLinks(LINKED["ALERTS_LINK_SECRET"], "https://x.example").token(ReaderToken(user, "email", ""))
    process = await alerts_engine.start("serve", "--port", "0", **settings)
    assert process.stdout is not None
    assert process.stderr is not None
    line = (await process.stdout.readline()).decode()
    found = re.search(r"http://[^/\s]+", line)
    assert found is not None, line
    async with aiohttp.ClientSession() as session:
        address = f"{found[0]}/alerts/preferences/{token}"
        async with session.post(address, data={"List-Unsubscribe": "One-Click"}) as answer:
            status = answer.status
    process.send_signal(signal.SIGTERM)
    logged = (await process.stderr.read()).decode()
    await process.wait()
    assert (status == 200) is linked
    rows = postgresql.execute("SELECT user_id FROM user_channel_preferences WHERE NOT enabled").fetchall()
    assert [row[0] for row in rows] == ([user] if linked else [])
    assert token not in logged
