"""First contact: the demo, from its start to the database it leaves behind (SPEC section 15)."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from alerts_engine.demo.audience import AUDIENCE
from alerts_engine.embedded import embedded_postgres
from tests.acceptance.conftest import CommandLine
from tests.support.places import workshop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def somewhere(request: pytest.FixtureRequest) -> Iterator[CommandLine]:
    """A folder of its own inside the checkout, with nothing set; its name is as long as the test asks for."""
    own = workshop() / f"demo-{os.getpid()}"
    folder = own / ("x" * getattr(request, "param", 1))
    folder.mkdir(parents=True)
    yield CommandLine(folder)
    shutil.rmtree(own)


@pytest.mark.slow
@pytest.mark.parametrize("somewhere", [1, 200], indirect=True, ids=["short", "long"])
async def test_demo_shows_it_all_in_a_pipe_and_again_on_a_terminal(somewhere: CommandLine):
    """Wherever it is, and twice in a row: the tables of the second time are those of the first (F-1)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        piped = await somewhere("demo", TMPDIR=temporary)
        shown = await somewhere.on_terminal("demo", "--no-wait", width=100, TMPDIR=temporary)
        assert names_in(temporary) == []
    assert (piped.code, piped.err) == (0, "")
    for word in (
        "events",
        "deliveries",
        "digests",
        "messages sent",
        "demo-inbox.html",
        *(u.who[:20] for u in AUDIENCE),
    ):
        assert word in piped.out
    ending = piped.out.partition("in the end")[2]
    assert ending.count("\n") > len(AUDIENCE)
    # Which message of a channel comes last is the sends' own race.
    tables, _, rest = ending.partition("messages reached the sandbox")
    for part in (tables, rest.partition("Every message")[2]):
        assert "".join(part.split()) in "".join(shown.split())
    reached = re.search(r"\n(\d+) messages reached the sandbox", piped.out)
    assert reached is not None
    assert reached[1] in tables.split(), "as many as are said to be sent"
    assert not (somewhere.folder / ".alerts-engine" / "postgres.socket").exists()


def names_in(folder: str) -> list[str]:
    return [one.name for one in Path(folder).iterdir()]


@pytest.mark.slow
async def test_demo_leaves_nothing_to_send_and_an_inbox_that_needs_no_server(somewhere: CommandLine):
    """A run afterwards sends nothing again; the page has every message and loads nothing from anywhere (F-2)."""
    answer = await somewhere("demo", "--json", ALERTS_V2_ENABLED="false", ALERTS_CHANNELS_PAUSED="email")
    assert answer.code == 0
    totals = answer.json["totals"]
    assert min(totals["events"], totals["deliveries"], totals["digests"]) > 0
    assert totals["sent"] > 0, "the demo must not depend on the environment"
    assert totals["waiting"] == 0
    page = (somewhere.folder / answer.json["inbox"]).read_text()
    assert page.count('"provider_message_id"') == totals["sent"]
    assert "warsaw@example.org" in page
    assert "<script src" not in page
    after = await somewhere("run", "--json", "--phase", "all", "--embedded")
    sent = after.phase("c")["counts"]
    assert (after.code, sent["queued_selected"], sent["sent"], sent["digests"]["selected"]) == (0, 0, 0, 0)
    runs = (await somewhere("runs", "--json", "--embedded", "--limit", "500")).json["runs"]
    assert len(runs) == answer.json["runs"] + 1


@pytest.mark.slow
async def test_demo_leaves_data_that_is_not_its_own_alone(somewhere: CommandLine):
    """It clears its own database only: with somebody's user in it, it refuses and changes nothing."""
    await somewhere("migrate", "--json", "--embedded")
    with embedded_postgres(somewhere.folder / ".alerts-engine") as url:
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO users (email) VALUES ('somebody@example.com')")
        answer = await somewhere("demo")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT email FROM users").fetchall() == [("somebody@example.com",)]
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert "another folder" in answer.err
